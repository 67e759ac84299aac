//! What a stream sends: a request's body as it comes, and as far as the backend's windows go.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};
use tokio::{sync::oneshot, time::timeout};

use super::Live;
use crate::http::upstream::LINGER;

/// Why a request is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the stream is reset: {0}")]
    Reset(#[from] h2::Error),
    /// The client's; its exchange knows why.
    #[error("its body was broken off")]
    Request,
}

/// A body on its way. It is let go, and all that it holds, as soon as it ends.
pub(super) struct Upload<B> {
    stream: SendStream<Bytes>,
    /// `None`: nothing more will come of it.
    body: Option<B>,
    /// What came and has not left. h2 gets no more than it may send: what it has would be sent before a reset.
    chunk: Bytes,
    /// Frames that left.
    given: u64,
    _live: Live,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    pub(super) fn new(stream: SendStream<Bytes>, body: Option<B>, live: Live) -> Self {
        Self {
            stream,
            body,
            chunk: Bytes::new(),
            given: 0,
            _live: live,
        }
    }

    /// A part of the request is still to be sent.
    pub(super) fn is_pending(&self) -> bool {
        self.body.is_some() || !self.chunk.is_empty()
    }

    /// All that the client has sent so far was sent on.
    pub(super) fn waits_for_client(&self) -> bool {
        self.body.is_some() && self.chunk.is_empty()
    }

    /// Frames that were sent on. The end may be one by itself.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    pub(super) fn into_stream(self) -> SendStream<Bytes> {
        self.stream
    }

    /// Sends what there is of the request. `Ready`: that was all, or there will be no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let sent = ready!(self.poll_all(cx));
        (self.body, self.chunk) = (None, Bytes::new());
        if sent.is_err() {
            self.reset();
        }
        Poll::Ready(sent)
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        while self.is_pending() {
            // The backend may want no more while the client is waited for.
            if let Poll::Ready(reason) = self.stream.poll_reset(cx) {
                return Poll::Ready(Err(reason.map_or_else(|e| e, h2::Error::from).into()));
            }
            if !self.chunk.is_empty() {
                let room = ready!(poll_room(&mut self.stream, self.chunk.len(), cx))?;
                let piece = self.chunk.split_to(room);
                let last = !self.is_pending();
                self.stream.send_data(piece, last)?;
                self.given += 1;
                continue;
            }
            let Some(body) = &mut self.body else {
                break;
            };
            let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Err(_)) => return Poll::Ready(Err(UploadError::Request)),
                frame => frame.and_then(Result::ok),
            };
            let ended = frame.is_none() || body.is_end_stream();
            match frame
                .unwrap_or_else(|| Frame::data(Bytes::new()))
                .into_data()
            {
                Ok(data) => self.chunk = data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.stream.send_trailers(trailers)?;
                    self.given += 1;
                    return Poll::Ready(Ok(()));
                }
            }
            if ended {
                self.body = None;
                if self.chunk.is_empty() {
                    self.stream.send_data(Bytes::new(), true)?;
                    self.given += 1;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The backend gets no more of it, at once.
    fn reset(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Upload<B> {
    /// Gives the rest of the request to a task. That is told when the response is whole; its sender is dropped if it never will be.
    pub(super) fn detach(mut self) -> oneshot::Sender<()> {
        let (over, whole) = oneshot::channel();
        tokio::spawn(async move {
            let mut rest = std::pin::pin!(std::future::poll_fn(|cx| self.poll(cx)));
            let sent = tokio::select! {
                _ = &mut rest => true,
                whole = whole => whole.is_ok() && timeout(LINGER, rest).await.is_ok(),
            };
            if !sent {
                self.reset();
            }
        });
        over
    }
}

/// Waits until some of so many bytes may be sent, and says how many. They are in hand: what is reserved for what may come would be
/// missed by the other streams.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(wanted);
    loop {
        // It tells of what is added to it alone.
        match stream.capacity() {
            0 => {}
            room => return Poll::Ready(Ok(room.min(wanted))),
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
}
