//! Connections that do nothing, or take nothing. hyper has a deadline for a head of HTTP/1.1, and pings for HTTP/2; for the bytes that tell one
//! from the other it has none, nor for a response to be taken: a client that answers pings could stay for ever, and hold what its response
//! comes from.
//!
//! A body that is not asked for more cannot reset its own stream (hyper asks it for nothing before there is room), so the connection ends.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

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
pub(super) struct Activity(Mutex<State>);

struct State {
    /// Since when each waits for its client to take more of its response; `None`: the client waits for us. As many as there are streams.
    requests: HashMap<u64, Option<Instant>>,
    /// How many there were.
    begun: u64,
    /// When there were none any more.
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            requests: HashMap::new(),
            begun: 0,
            since: Instant::now(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.begun += 1;
        let id = state.begun;
        state.requests.insert(id, None);
        Busy {
            activity: Arc::clone(self),
            id,
        }
    }

    /// Until when it may go on like this.
    fn until(&self) -> Instant {
        let state = self.state();
        if state.requests.is_empty() {
            return state.since + IDLE;
        }
        let look = Instant::now() + LOOK;
        let untaken = state.requests.values().flatten().min();
        untaken.map_or(look, |since| look.min(*since + UNTAKEN))
    }
}

/// A request is not over.
struct Busy {
    activity: Arc<Activity>,
    id: u64,
}

impl Busy {
    /// Who is waited for: the client, to take more of the response, or this side.
    fn waits_for_client(&self, client: bool) {
        let since = client.then(Instant::now);
        self.activity.state().requests.insert(self.id, since);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.remove(&self.id);
        state.since = Instant::now();
    }
}

/// Around all requests: tells the connection of them.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let activity = request.extensions().get::<Arc<Activity>>();
    let busy = activity.map(Activity::begin);
    let response = next.run(request).await;
    if let Some(busy) = &busy {
        busy.waits_for_client(true);
    }
    response.map(|inner| Body::new(Held { inner, busy }))
}

/// A response's body, and that it is not at its end.
struct Held {
    inner: Body,
    busy: Option<Busy>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Some(busy) = &self.busy {
            busy.waits_for_client(polled.is_ready());
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

/// A connection that ends, as if its client had ended it, when it does nothing or takes nothing.
pub(super) struct Timed<S> {
    inner: S,
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

    /// Whether it has done nothing for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
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
        if self.ended {
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
