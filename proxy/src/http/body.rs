//! Bodies on their way through: counted, bounded, and timed while they wait.

mod request;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    exchange::Exchange,
    flow::Flowing,
    guard::Busy,
    headers,
    resets::Pending,
    upstream::{Http1, Http2Body, Lease},
};

use request::Unread;
pub(super) use request::{Replay, RequestBody, Rest};

/// Bytes of a frame of data to clients over HTTP/2: with its head, as many as a TLS record takes (RFC 8446 §5.1). Of a frame of the default
/// size 9 bytes would be a record of their own.
pub(super) const DATA: usize = 16 * 1024 - 9;
/// What a backend sent in pieces goes on as one up to this, bytes, as far as it has come.
pub(super) const JOINED: usize = DATA;
/// A piece of so many bytes goes on as it is: joining copies.
pub(super) const SMALL: usize = 4 * 1024;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Nothing came for too long.
    #[error("no byte came within the idle timeout")]
    Idle,
    /// Longer than the route allows.
    #[error("the body is longer than the route allows")]
    TooLarge,
    /// The other side broke it off.
    #[error("the body was broken off")]
    Broken,
}

/// Runs only while there is nothing to do: most bodies never wait.
#[derive(Debug)]
pub(super) struct Idle {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes that the other direction had moved when this last expired.
    there: u64,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            there: 0,
        }
    }

    pub(super) fn progress(&mut self) {
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(Instant::now() + self.limit);
        }
    }

    /// [`Self::expired`], unless the other direction moved in that time: `there` counts its bytes.
    fn expired_but(&mut self, cx: &mut Context<'_>, there: u64) -> bool {
        while self.expired(cx) {
            if self.there == there {
                return true;
            }
            self.there = there;
            self.progress();
        }
        false
    }

    pub(super) fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// A backend's body on its way to the client, or a text of our own.
pub(super) struct ResponseBody {
    source: Source,
    /// Of what the backend sent, more than the client's protocol takes at once.
    rest: Bytes,
    /// Bytes of a frame of data.
    most: usize,
    exchange: Arc<Exchange>,
    flow: Option<Flowing>,
    _busy: Option<Busy>,
    /// Why it ended too early, until that is told.
    broken: Option<BodyError>,
    /// Of the request's body, before this may end.
    unread: Option<Box<Unread>>,
    /// Its request may still be taken back.
    pending: Option<Pending>,
}

enum Source {
    Text(Option<Bytes>),
    Backend {
        /// `None`: it is read from the lease.
        incoming: Option<Box<Http2Body>>,
        idle: Idle,
        /// Goes back to the pool when the body has ended: until then the connection is this response's.
        lease: Option<Lease>,
    },
}

impl ResponseBody {
    pub(super) fn text(text: &'static str, exchange: Arc<Exchange>) -> Self {
        let mut body = Self {
            source: Source::Text((!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()))),
            rest: Bytes::new(),
            most: usize::MAX,
            exchange,
            flow: None,
            _busy: None,
            broken: None,
            unread: None,
            pending: None,
        };
        body.settle();
        body
    }

    pub(super) fn backend(
        incoming: Option<Http2Body>,
        idle: Duration,
        lease: Lease,
        exchange: Arc<Exchange>,
    ) -> Self {
        let mut body = Self {
            source: Source::Backend {
                incoming: incoming.map(Box::new),
                idle: Idle::new(idle),
                lease: Some(lease),
            },
            rest: Bytes::new(),
            most: usize::MAX,
            exchange,
            flow: None,
            _busy: None,
            broken: None,
            unread: None,
            pending: None,
        };
        body.settle();
        body
    }

    /// Tells its connection that it is there, and when it moves.
    pub(super) fn follow(&mut self, flow: Flowing, busy: Option<Busy>) {
        self.flow = Some(flow);
        self._busy = busy;
    }

    /// Ends after what is left of the request's body.
    pub(super) fn after(&mut self, rest: Rest) {
        self.unread = rest.unread().map(Box::new);
    }

    /// Answers a request, with its end: until then its client may take it back.
    pub(super) fn answers(&mut self, pending: Pending) {
        self.pending = Some(pending);
        if self.is_end_stream() {
            self.answered();
        }
    }

    fn answered(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.ended(self.exchange.end());
        }
    }

    /// Has no frame of data with more bytes.
    pub(super) fn split(&mut self, most: usize) {
        self.most = most;
    }

    /// At the end: the connection is free for the next.
    fn settle(&mut self) {
        if !self.is_end_stream() {
            return;
        }
        self.finish();
    }

    fn finish(&mut self) {
        self.exchange.delivered();
        self.answered();
        if let Source::Backend { lease, .. } = &mut self.source
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match &mut this.source {
            _ if !this.rest.is_empty() => {
                let piece = this.rest.split_to(this.rest.len().min(this.most));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Backend {
                incoming,
                idle,
                lease,
            } => match poll_backend(incoming.as_deref_mut(), lease.as_mut(), cx) {
                Poll::Pending => match idle.expired_but(cx, this.exchange.uploaded()) {
                    true => Poll::Ready(Some(Err(BodyError::Idle))),
                    false => Poll::Pending,
                },
                Poll::Ready(Some(Ok(mut frame))) => {
                    idle.progress();
                    if let Some(trailers) = frame.trailers_mut() {
                        headers::clean_trailers(trailers);
                    }
                    if let Some(data) = frame.data_mut()
                        && data.len() > this.most
                    {
                        this.rest = data.split_off(this.most);
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                polled => polled,
            },
        };
        if let (Some(unread), Poll::Ready(None)) = (&mut this.unread, &polled) {
            ready!(unread.poll_end(cx));
            this.unread = None;
        }
        if let Some(flow) = &mut self.flow {
            flow.asked(polled.is_pending());
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.exchange.sent(len);
                self.settle();
            }
            Poll::Ready(Some(Err(error))) => {
                self.exchange.response_failed(*error);
                // hyper drops what it has not sent, the head even, and a client that got nothing may ask again, whatever it was. It
                // sends what it has when it is asked to wait.
                self.broken = Some(*error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => self.finish(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if !self.rest.is_empty() || self.unread.is_some() {
            return false;
        }
        match &self.source {
            Source::Text(text) => text.is_none(),
            Source::Backend {
                incoming, lease, ..
            } => match incoming {
                Some(incoming) => incoming.is_end_stream(),
                None => lease
                    .as_ref()
                    .and_then(Lease::as_http1)
                    .is_none_or(Http1::ended),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        let to_come = match &self.source {
            Source::Text(text) => Some(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Backend {
                incoming, lease, ..
            } => match incoming {
                Some(incoming) => incoming.size_hint().exact(),
                None => {
                    let left = lease.as_ref().and_then(Lease::as_http1).map(Http1::left);
                    left.unwrap_or(Some(0))
                }
            },
        };
        let bytes = to_come.map(|bytes| bytes.saturating_add(self.rest.len() as u64));
        bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The next frame from whoever has the body; no lease: it has ended.
fn poll_backend(
    incoming: Option<&mut Http2Body>,
    lease: Option<&mut Lease>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match (incoming, lease.and_then(Lease::http1)) {
        (Some(incoming), _) => {
            let polled = Pin::new(incoming).poll_frame(cx);
            polled.map_err(|error| {
                tracing::debug!(%error, "a response was broken off");
                BodyError::Broken
            })
        }
        (None, Some(http1)) => http1.poll_frame(cx).map_err(|error| {
            tracing::debug!(%error, "a response was broken off");
            BodyError::Broken
        }),
        (None, None) => Poll::Ready(None),
    }
}

/// A counter that several add to.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Relaxed);
    }
}
