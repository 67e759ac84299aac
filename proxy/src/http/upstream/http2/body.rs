//! A response's body as its stream has it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{Http2Tunnel, Live, upload::Upload};
use crate::http::body::{JOINED, SMALL};

/// The body. Dropped before its end it resets the stream, whatever is left of the request.
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// Bytes to come, where that is known.
    left: Option<u64>,
    only_trailers: bool,
    /// Sends the rest of the request.
    upload: Option<oneshot::Sender<()>>,
    /// The other half, of what may be a tunnel.
    sender: Option<SendStream<Bytes>>,
    live: Live,
}

impl Http2Body {
    pub(super) fn new<B>(
        stream: RecvStream,
        left: Option<u64>,
        upload: Upload<B>,
        keeps_sender: bool,
        live: Live,
    ) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let mut body = Self {
            stream,
            left,
            only_trailers: false,
            upload: None,
            sender: None,
            live,
        };
        if keeps_sender {
            body.sender = Some(upload.into_stream());
        } else if upload.is_pending() {
            body.upload = Some(upload.detach());
        }
        body.settle();
        body
    }

    /// After a CONNECT: both ways.
    pub(in crate::http) fn into_tunnel(self) -> Option<Http2Tunnel> {
        Some(Http2Tunnel::new(self.stream, self.sender?, self.live))
    }

    /// The next data that has come, whatever its length. The backend may send as much again.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(cx)?) else {
            self.only_trailers = true;
            return Poll::Ready(None);
        };
        self.live.heard();
        // Whoever asks for it has room for it. Fails only for what was not received.
        let _ = self.stream.flow_control().release_capacity(data.len());
        self.left = (self.left).map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(data)))
    }

    /// One piece of `first` and of what has come after it, for each costs as much as many bytes wherever it waits: up to
    /// [`JOINED`] and a frame. Waits for nothing.
    fn join(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut joined = BytesMut::new();
        while joined.len() < JOINED && !self.stream.is_end_stream() {
            // An error is still there when more is asked for.
            let Poll::Ready(Some(Ok(data))) = self.poll_data(cx) else {
                break;
            };
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
        match joined.is_empty() {
            true => first,
            false => joined.freeze(),
        }
    }

    /// At the end: what is left of the request has only so long.
    fn settle(&mut self) {
        if self.upload.is_some()
            && self.is_end_stream()
            && let Some(upload) = self.upload.take()
        {
            // It may have ended before.
            let _ = upload.send(());
        }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        let next = match this.only_trailers {
            true => None,
            false => ready!(this.poll_data(cx)?),
        };
        if let Some(mut data) = next {
            if data.len() < SMALL {
                data = this.join(data, cx);
            }
            this.settle();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(this.stream.poll_trailers(cx))?;
        this.settle();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
