//! A connection to a backend that speaks HTTP/1.1.
//!
//! Whoever has the request drives it: what is read and written is so by that task, without a channel or another task between them.
//! Only what is left of a request when the response has begun is written by a task of its own, or a client that sends all before it
//! reads anything would wait for itself; such a connection serves no second request.
//! Rejected: hyper's client, whose connection is a task of its own (a message and a wake-up each way per request; see `bench edge`).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{Method, Response, body::Frame, header, http::request::Parts};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::{
    io::poll_read_buf,
    sync::{CancellationToken, DropGuard},
};

use super::{
    LINGER, Patience, Place, STALE,
    upload::{self, Upload, UploadError},
};
use crate::{
    connection,
    http::{
        body::{JOINED, RequestBody, SMALL},
        response::{Asked, Malformed, Piece, Reader},
    },
};

/// What is read at once at first, bytes; doubled up to [`MAX_READ`] while a read fills it.
const MIN_READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It ended where more was to come.
    #[error("the backend closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the backend's response is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the backend did not answer in time")]
    TimedOut,
    /// The client's; its exchange knows why.
    #[error("the request's body was broken off")]
    Request,
}

enum Stream {
    Whole(TcpStream),
    /// The rest of the request is being written elsewhere; that goes on for a while after this is dropped.
    Reading(OwnedReadHalf, #[expect(dead_code)] DropGuard),
    Gone,
}

/// The connection, and the exchange that it carries.
pub(crate) struct Http1 {
    stream: Stream,
    input: BytesMut,
    upload: Upload,
    response: Reader,
    read_size: usize,
    /// Its request will never be whole.
    broken: bool,
    /// When the last request began to leave.
    sent: Option<Instant>,
    /// Something came since.
    heard: bool,
    /// The backend was told what came of its response, since the rest of it is waited for.
    acknowledged: bool,
    place: Option<Arc<Place>>,
    /// Of [`Patience`]. Kept from request to request, and so are they: to enter one and take it back costs more than to find it still
    /// there, now and then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Http1 {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Whole(stream),
            input: BytesMut::new(),
            upload: Upload::default(),
            response: Reader::default(),
            read_size: MIN_READ,
            broken: false,
            sent: None,
            heard: false,
            acknowledged: false,
            place: None,
            timer: None,
        }
    }

    /// Has a place among the connections, to its end.
    pub(super) fn hold(&mut self, place: Place) {
        self.place = Some(Arc::new(place));
    }

    /// Places that others have left.
    pub(super) fn free_places(&self) -> usize {
        let places = self.place.as_ref().map(|place| place.semaphore());
        places.map_or(0, |places| places.available_permits())
    }

    /// Sends a request and returns the head of the response; [`Self::poll_frame`] has its body. `told` are the lines of Host and of what else the backend is told with it. No `body` is an empty one. `limit` is for
    /// the backend: from when it was last given something of the request.
    pub(in crate::http) async fn send(
        &mut self,
        request: &Parts,
        told: &[u8],
        body: &mut Option<RequestBody>,
        limit: Duration,
    ) -> Result<Response<()>, Error> {
        let asked = Asked {
            head: request.method == Method::HEAD,
        };
        self.response = Reader::new(asked);
        let body = body.take().unwrap_or_else(RequestBody::empty);
        self.upload.begin(request, told, body);
        let mut timer = (self.timer.take()).unwrap_or_else(|| Box::pin(sleep(limit)));
        (self.sent, self.heard) = (Some(Instant::now()), false);
        self.acknowledged = false;
        let mut patience = Patience::new(limit, timer.as_mut());
        let response = poll_fn(|cx| {
            if self.upload.is_pending() && !self.broken {
                let before = self.upload.written();
                match self.poll_upload(cx) {
                    Poll::Ready(Err(UploadError::Request)) => {
                        return Poll::Ready(Err(Error::Request));
                    }
                    // It may have said why before it stopped reading.
                    Poll::Ready(Err(UploadError::Io(_)) | Ok(())) | Poll::Pending => {}
                }
                // The body has a timeout of its own for the client.
                if self.upload.waits_for_client() || self.upload.written() != before {
                    patience.given();
                }
            }
            match self.poll_head(cx) {
                Poll::Pending if patience.is_over(cx) => Poll::Ready(Err(Error::TimedOut)),
                polled => polled,
            }
        })
        .await?;
        self.timer = Some(timer);
        if self.upload.is_pending() && !self.broken {
            self.detach();
        }
        Ok(response)
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(
        &mut self,
        request: &Parts,
        host: &[u8],
        limit: Duration,
    ) -> Result<Response<()>, Error> {
        let mut told = BytesMut::new();
        upload::field(&mut told, &header::HOST, host);
        self.send(request, &told, &mut None, limit).await
    }

    /// The next frame of the response's body.
    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match self.response.body(&mut self.input) {
                Ok(Some(Piece::Data(data))) => {
                    let data = match data.len() < SMALL {
                        true => self.response.join(data, &mut self.input, JOINED),
                        false => data,
                    };
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Some(Piece::Trailers(map))) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(map))));
                }
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.response.closed() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(Error::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// The response is whole.
    pub(in crate::http) fn ended(&self) -> bool {
        self.response.ended()
    }

    /// Bytes of the response's body that are to come, where that is known.
    pub(in crate::http) fn left(&self) -> Option<u64> {
        self.response.left()
    }

    /// After a response: whether another request may follow.
    pub(super) fn reusable(&mut self) -> bool {
        let reusable = self.ended()
            && !self.response.closes()
            && !self.broken
            && matches!(self.stream, Stream::Whole(_))
            && self.input.is_empty();
        if reusable && self.read_size > MIN_READ {
            // What a large body needed is not kept for the next.
            (self.input, self.read_size) = (BytesMut::new(), MIN_READ);
        }
        reusable
    }

    /// Between requests: the backend has neither closed it nor said anything. Costs no call to the kernel while nothing happens.
    pub(super) fn idle(&self) -> bool {
        let Stream::Whole(stream) = &self.stream else {
            return false;
        };
        let mut cx = Context::from_waker(Waker::noop());
        if stream.poll_read_ready(&mut cx).is_pending() {
            return true;
        }
        let read = stream.try_read(&mut [0]);
        read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// After 101: what was read of the stream beyond the head, and the stream with its place. `None` if it came before the request was
    /// whole.
    pub(in crate::http) fn into_stream(self) -> Option<(Vec<u8>, TcpStream, Option<Arc<Place>>)> {
        match self.stream {
            Stream::Whole(stream) if !self.broken => Some((self.input.into(), stream, self.place)),
            _ => None,
        }
    }

    /// After a failure: the connection was dead before the request came, which says nothing of the backend.
    pub(super) fn stale(&self) -> bool {
        !self.heard && self.sent.is_none_or(|sent| sent.elapsed() < STALE)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        loop {
            if let Some(response) = self.response.head(&mut self.input)? {
                return Poll::Ready(Ok(response));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Error::Closed));
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let Stream::Whole(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        let polled = self.upload.poll(stream, cx);
        if matches!(polled, Poll::Ready(Err(_))) {
            self.broken = true;
        }
        polled
    }

    /// Gives the rest of the request to a task.
    fn detach(&mut self) {
        let Stream::Whole(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return;
        };
        let (reader, mut writer) = stream.into_split();
        let mut upload = std::mem::take(&mut self.upload);
        let over = CancellationToken::new();
        self.stream = Stream::Reading(reader, over.clone().drop_guard());
        let place = self.place.clone();
        tokio::spawn(async move {
            let _place = place;
            let written = tokio::select! {
                written = poll_fn(|cx| upload.poll(&mut writer, cx)) => written,
                () = async {
                    over.cancelled().await;
                    sleep_until(Instant::now() + LINGER).await;
                } => return,
            };
            if written.is_ok() {
                // Without a FIN, which some take for the client's end while they still answer.
                writer.forget();
            }
        });
    }

    /// Part of a response is there: its rest may wait for that to be acknowledged. Once for each response, for most are whole at once.
    fn acknowledge(&mut self) {
        if !self.heard || self.acknowledged {
            return;
        }
        self.acknowledged = true;
        match &self.stream {
            Stream::Whole(stream) => connection::acknowledge(stream),
            Stream::Reading(stream, _) => connection::acknowledge(stream.as_ref()),
            Stream::Gone => {}
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
        else {
            self.acknowledge();
            return Poll::Pending;
        };
        let n = read?;
        self.heard |= n > 0;
        if n == room {
            self.read_size = (2 * self.read_size).min(MAX_READ);
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Whole(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Reading(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
