//! Connections that do nothing, or take nothing. hyper has a deadline for a head of HTTP/1.1, and pings for HTTP/2; for the bytes that tell one
//! from the other it has none, nor for a response to be taken: a client that answers pings could stay for ever, and hold what its response
//! comes from.
//!
//! A body that is not asked for more cannot reset its own stream (hyper asks it for nothing before there is room), so the connection ends.
//!
//! What a connection does also says which can be done without when others need its place ([`super::places`]): those of strangers before those
//! of somebody who is known, by a token or a page's session, and one that works for him only for others of his own.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract,
    http::{Extensions, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// For the bytes to come that tell the version of HTTP.
const OPENING: Duration = Duration::from_secs(10);
/// A connection without a request ends then.
const IDLE: Duration = Duration::from_secs(300);
/// A connection ends that takes nothing of one of its responses for so long: as long as a request may take to come.
const UNTAKEN: Duration = Duration::from_secs(120);
/// How often one is looked at that has requests.
const LOOK: Duration = Duration::from_secs(60);
/// What HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The requests of a connection, up to the ends of their responses.
pub(super) struct Activity {
    state: Mutex<State>,
    /// Cancelled: it is to end, for others need its place.
    ended: CancellationToken,
}

struct State {
    /// As many as there are streams; the oldest first.
    requests: BTreeMap<u64, Request>,
    /// How many there were.
    begun: u64,
    /// When the last one ended.
    since: Instant,
    /// Somebody showed who he is.
    known: bool,
    /// What follows from all this: many are compared at once.
    standing: Standing,
}

/// How well a connection can be done without, and since when that is so: the least first.
pub(super) type Standing = (Dispensable, Instant);

impl State {
    /// After each change of what it follows from.
    fn settle(&mut self) {
        let work = self.requests.values().find(|r| !r.public_stream);
        self.standing = match (self.known, work.map(|r| r.begun)) {
            (false, None) => (Dispensable::Stranger, self.since),
            (false, Some(begun)) => (Dispensable::Stranger, begun),
            (true, None) => (Dispensable::Known, self.since),
            (true, Some(begun)) => (Dispensable::Working, begun),
        };
    }
}

struct Request {
    begun: Instant,
    /// Since when it waits for its client to take more of its response; `None`: the client waits for us.
    untaken: Option<Instant>,
    /// A stream that anybody may have for as long as he likes: it is no work.
    public_stream: bool,
}

/// Why a connection can be done without, the first before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dispensable {
    /// Nobody who is known, whether he asks or not: a request that does not end would hold a place against all who have yet to send theirs.
    Stranger,
    /// Somebody who is known, and no request but public streams.
    Known,
    /// A request of somebody who is known: it makes room for nobody but himself.
    Working,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let since = Instant::now();
        Arc::new(Self {
            state: Mutex::new(State {
                requests: BTreeMap::new(),
                begun: 0,
                since,
                known: false,
                standing: (Dispensable::Stranger, since),
            }),
            ended: CancellationToken::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.begun += 1;
        let id = state.begun;
        let request = Request {
            begun: Instant::now(),
            untaken: None,
            public_stream: false,
        };
        state.requests.insert(id, request);
        state.settle();
        Busy {
            activity: Arc::clone(self),
            id,
        }
    }

    pub(super) fn is_public_stream(&self, request: u64) {
        let mut state = self.state();
        if let Some(request) = state.requests.get_mut(&request) {
            request.public_stream = true;
        }
        state.settle();
    }

    /// Somebody showed who he is; whether nobody had before.
    pub(super) fn known(&self) -> bool {
        let mut state = self.state();
        let first = !state.known;
        state.known = true;
        state.settle();
        first
    }

    pub(super) fn standing(&self) -> Standing {
        self.state().standing
    }

    /// Ends the connection, with all its requests.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    #[cfg(test)]
    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Does it, unless the connection ends first.
    pub(super) async fn unless_ended<F: Future>(&self, work: F) -> Option<F::Output> {
        self.ended.run_until_cancelled(work).await
    }

    /// Until when it may go on like this.
    fn until(&self) -> Instant {
        let state = self.state();
        if state.requests.is_empty() {
            return state.since + IDLE;
        }
        let look = Instant::now() + LOOK;
        let untaken = state.requests.values().filter_map(|r| r.untaken).min();
        untaken.map_or(look, |since| look.min(since + UNTAKEN))
    }
}

/// A request is not over.
pub(super) struct Busy {
    activity: Arc<Activity>,
    pub(super) id: u64,
}

impl Busy {
    /// Who is waited for: the client, to take more of the response, or this side.
    fn waits_for_client(&self, client: bool) {
        if let Some(request) = self.activity.state().requests.get_mut(&self.id) {
            request.untaken = client.then(Instant::now);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.remove(&self.id);
        state.since = Instant::now();
        state.settle();
    }
}

/// Which of its connection's a request is.
#[derive(Clone, Copy)]
struct Number(u64);

/// The request is for a stream that anybody may have for as long as he likes.
pub(super) fn is_public_stream(request: &Extensions) {
    let (activity, number) = (request.get::<Arc<Activity>>(), request.get::<Number>());
    if let (Some(activity), Some(Number(number))) = (activity, number) {
        activity.is_public_stream(*number);
    }
}

/// Around all requests: tells the connection of them, and ends them with it.
pub(super) async fn count(mut request: extract::Request, next: Next) -> Response {
    let Some(activity) = request.extensions().get::<Arc<Activity>>().cloned() else {
        return next.run(request).await;
    };
    let busy = activity.begin();
    request.extensions_mut().insert(Number(busy.id));
    // Nobody reads the answer of what has ended.
    let response = activity.unless_ended(next.run(request)).await;
    let response = response.unwrap_or_else(|| StatusCode::SERVICE_UNAVAILABLE.into_response());
    busy.waits_for_client(true);
    response.map(|inner| {
        Body::new(Held {
            inner,
            ended: Box::pin(activity.ended.clone().cancelled_owned()),
            busy,
        })
    })
}

/// A response's body, and that it is not at its end.
struct Held {
    inner: Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    busy: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.busy.waits_for_client(polled.is_ready());
        if polled.is_pending() && self.ended.as_mut().poll(cx).is_ready() {
            let ended = io::Error::other("its connection made room for another");
            return Poll::Ready(Some(Err(axum::Error::new(ended))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection that ends, as if its client had ended it, when it does nothing or takes nothing, or others need its place.
pub(super) struct Timed<S> {
    inner: S,
    made_room: Pin<Box<WaitForCancellationFutureOwned>>,
    activity: Arc<Activity>,
    /// How much of [`PREFACE`] has come; `None`: the version is known.
    opening: Option<usize>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            made_room: Box::pin(activity.ended.clone().cancelled_owned()),
            activity,
            opening: Some(0),
            timer: Box::pin(sleep(OPENING)),
            ended: false,
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        let Some(seen) = self.opening else { return };
        let rest = &PREFACE[seen..];
        let same = rest.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let known = same == rest.len() || same < bytes.len();
        self.opening = (!known).then_some(seen + same);
        if known {
            self.timer.as_mut().reset(Instant::now() + LOOK);
        }
    }

    /// Whether it has done nothing for too long, or made room.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended || self.made_room.as_mut().poll(cx).is_ready() {
            self.ended = true;
            return Poll::Ready(());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.activity.until();
            if self.opening.is_some() || until <= Instant::now() {
                self.ended = true;
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended || self.activity.ended.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_idle(cx).map(Ok),
            Poll::Ready(done) => {
                self.heard(&buf.filled()[before..]);
                Poll::Ready(done)
            }
        }
    }
}

impl<S> Timed<S> {
    /// What was written, unless it waits for a client that has taken nothing for too long. hyper does not always read while it writes (not
    /// behind the next request of HTTP/1.1), so this looks as well.
    fn written<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            return done;
        }
        self.poll_idle(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(done, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.written(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(done, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.written(done, cx)
    }
}

#[cfg(test)]
mod tests;
