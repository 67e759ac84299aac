//! A client's body on its way to a backend, and to another if the first says that it did nothing.
//!
//! A body is read once. For a backend that may say so, what was read of it is kept until the response begins, up to a bound. The
//! connection that it went to may still hold the first body when the second is made: both share what there is, and the first ends.
//!
//! Of a request over HTTP/2 that is refused, a short rest is taken and thrown away before the response ends: the stream is reset then (RFC 9113 §8.1), which
//! clients that still send take for a failure (curl 7) instead of reading why they were refused.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{BodyError, Exchange, Idle};
use crate::http::headers;

/// Bytes of a body that are kept to be sent again: what a backend with HTTP/2's default window can have read.
const KEPT: usize = 64 * 1024;

/// Of a refused request's body what is taken at most: what a client may have sent before it could know (the first window, RFC 9113 §6.9.2).
const UNREAD: u64 = 65_535;
/// For that to come: about a round trip.
const UNREAD_WAIT: Duration = Duration::from_secs(1);

/// What is shared by the bodies of one request.
struct Source {
    incoming: Incoming,
    /// What may still come.
    left: u64,
    exchange: Arc<Exchange>,
    /// What came, from its first byte on; `None` = it is not kept, or there was too much.
    kept: Option<Vec<Bytes>>,
    size: usize,
    /// Which body may read.
    turn: u32,
}

/// A client's body, on its way to the backend.
pub(in crate::http) struct RequestBody {
    source: Option<Arc<Mutex<Source>>>,
    /// Kept ones that this body has not given yet.
    again: VecDeque<Bytes>,
    turn: u32,
    idle: Idle,
}

/// The means to send it again.
pub(in crate::http) struct Replay {
    source: Arc<Mutex<Source>>,
    idle: Duration,
}

/// What may be left of it when its request is refused.
pub(in crate::http) struct Unread {
    source: Arc<Mutex<Source>>,
    left: u64,
    wait: Pin<Box<Sleep>>,
}

impl Unread {
    /// Until it has ended, was too much or took too long.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut source = lock(&self.source);
        while let Poll::Ready(frame) = Pin::new(&mut source.incoming).poll_frame(cx) {
            let Some(Ok(frame)) = frame else {
                return Poll::Ready(());
            };
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = self.left.checked_sub(length) else {
                return Poll::Ready(());
            };
            self.left = left;
        }
        drop(source);
        self.wait.as_mut().poll(cx)
    }
}

/// The means to take the rest of a body that nobody wants.
pub(in crate::http) struct Rest(Arc<Mutex<Source>>);

impl Rest {
    /// It, if it is short; whoever read it until now gets no more.
    pub(in crate::http) fn unread(self) -> Option<Unread> {
        let mut source = lock(&self.0);
        source.turn += 1;
        let short = source.incoming.size_hint().lower() <= UNREAD;
        let ended = source.incoming.is_end_stream();
        drop(source);
        (short && !ended).then(|| Unread {
            source: self.0,
            left: UNREAD,
            wait: Box::pin(sleep(UNREAD_WAIT)),
        })
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RequestBody {
    /// None.
    pub(in crate::http) fn empty() -> Self {
        Self {
            source: None,
            again: VecDeque::new(),
            turn: 0,
            idle: Idle::new(Duration::ZERO),
        }
    }

    pub(in crate::http) fn new(
        incoming: Incoming,
        most: u64,
        idle: Duration,
        exchange: Arc<Exchange>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let source = Source {
            incoming,
            left: most,
            exchange,
            kept: None,
            size: 0,
            turn: 0,
        };
        Self {
            source: Some(Arc::new(Mutex::new(source))),
            idle: Idle::new(idle),
            ..Self::empty()
        }
    }

    /// What takes the rest of it, if there is any.
    pub(in crate::http) fn rest(&self) -> Option<Rest> {
        self.source.clone().map(Rest)
    }

    /// Keeps what is read from here on.
    pub(in crate::http) fn record(&self) -> Option<Replay> {
        let source = Arc::clone(self.source.as_ref()?);
        lock(&source).kept = Some(Vec::new());
        Some(Replay {
            source,
            idle: self.idle.limit,
        })
    }
}

impl Replay {
    /// Another body, from the beginning. `None` if that is gone.
    pub(in crate::http) fn again(&self) -> Option<RequestBody> {
        let mut source = lock(&self.source);
        let again = source.kept.clone()?.into();
        source.turn += 1;
        Some(RequestBody {
            source: Some(Arc::clone(&self.source)),
            again,
            turn: source.turn,
            idle: Idle::new(self.idle),
        })
    }

    /// Keeps nothing more: there is a response.
    pub(in crate::http) fn stop(&self) {
        lock(&self.source).kept = None;
    }
}

impl Source {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        idle: &mut Idle,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let failed = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending if idle.expired(cx) => BodyError::Idle,
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => BodyError::Broken,
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_trailers(trailers);
                }
                idle.progress();
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                if len <= self.left {
                    self.left -= len;
                    self.exchange.received(len);
                    self.keep(&frame);
                    return Poll::Ready(Some(Ok(frame)));
                }
                BodyError::TooLarge
            }
        };
        self.exchange.request_failed(failed);
        Poll::Ready(Some(Err(failed)))
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        match frame.data_ref() {
            Some(data) if self.size + data.len() <= KEPT => {
                self.size += data.len();
                kept.push(data.clone());
            }
            // Trailers are rare enough.
            _ => self.kept = None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(shared) = &this.source else {
            return Poll::Ready(None);
        };
        let mut source = lock(shared);
        if source.turn != this.turn {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        if let Some(data) = this.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = source.poll(cx, &mut this.idle);
        drop(source);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            this.source = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let ended = |source: &Arc<Mutex<Source>>| lock(source).incoming.is_end_stream();
        self.again.is_empty() && self.source.as_ref().is_none_or(ended)
    }

    fn size_hint(&self) -> SizeHint {
        let again: u64 = self.again.iter().map(|data| data.len() as u64).sum();
        let rest = match &self.source {
            None => SizeHint::with_exact(0),
            Some(source) => lock(source).incoming.size_hint(),
        };
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper + again);
        }
        whole
    }
}
