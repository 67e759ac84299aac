//! Connections that do nothing. hyper has a deadline for a head of HTTP/1.1, and pings for HTTP/2; for the bytes that tell one from the other it
//! has none, and a client that answers pings could stay for ever.

use std::{
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
/// How often one is looked at that has requests.
const LOOK: Duration = Duration::from_secs(60);
/// What HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The requests of a connection, up to the ends of their responses.
pub(super) struct Activity(Mutex<State>);

struct State {
    requests: usize,
    /// When there were none any more.
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            requests: 0,
            since: Instant::now(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.state().requests += 1;
        Busy(Arc::clone(self))
    }

    /// Until when there may be no request.
    fn until(&self) -> Instant {
        let state = self.state();
        match state.requests {
            0 => state.since + IDLE,
            _ => Instant::now() + LOOK,
        }
    }
}

/// A request is not over.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.since = Instant::now();
    }
}

/// Around all requests: tells the connection of them.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let activity = request.extensions().get::<Arc<Activity>>();
    let busy = activity.map(Activity::begin);
    let response = next.run(request).await;
    response.map(|inner| Body::new(Held { inner, _busy: busy }))
}

/// A response's body, and that it is not at its end.
struct Held {
    inner: Body,
    _busy: Option<Busy>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection that ends, as if its client had ended it, when it does nothing.
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
            self.timer.as_mut().reset(Instant::now() + IDLE);
        }
    }

    /// Whether it has done nothing for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, middleware, routing::get};
    use hyper_util::{
        rt::{TokioExecutor, TokioIo, TokioTimer},
        server::conn::auto::Builder,
        service::TowerToHyperService,
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// SETTINGS, empty.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// HEADERS of stream 1, its end: GET / by the static table (RFC 7541), scheme https.
    const GET: &[u8] = &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x87];

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_nothing_ends() {
        for (description, sent, seconds) in [
            ("nothing", vec![], 10),
            ("the beginning of a preface", PREFACE[..4].to_vec(), 10),
            ("a byte of HTTP/1.1", b"G".to_vec(), 10),
            (
                "HTTP/2 without a request",
                [PREFACE, SETTINGS].concat(),
                300,
            ),
            (
                "HTTP/2 after a request",
                [PREFACE, SETTINGS, GET].concat(),
                300,
            ),
        ] {
            let (mut client, server) = tokio::io::duplex(4096);
            let activity = Activity::new();
            let router = Router::new()
                .route("/", get(async || "ok"))
                .layer(middleware::from_fn(count))
                .layer(axum::Extension(Arc::clone(&activity)));
            let serving = tokio::spawn(async move {
                let mut builder = Builder::new(TokioExecutor::new());
                builder
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(OPENING);
                builder.http2().timer(TokioTimer::new());
                let io = TokioIo::new(Timed::new(server, activity));
                let service = TowerToHyperService::new(router);
                let _ = builder.serve_connection_with_upgrades(io, service).await;
            });
            let begin = Instant::now();
            client.write_all(&sent).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            // The clock is the test's.
            assert_eq!(begin.elapsed().as_secs(), seconds, "{description}");
            let answered = answer.windows(2).any(|bytes| bytes == b"ok");
            assert_eq!(answered, sent.ends_with(GET), "{description}");
            serving.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_stays() {
        let (mut client, server) = tokio::io::duplex(4096);
        let activity = Activity::new();
        let mut timed = Timed::new(server, Arc::clone(&activity));
        client.write_all(PREFACE).await.unwrap();
        let mut bytes = [0; PREFACE.len()];
        timed.read_exact(&mut bytes).await.unwrap();
        let begin = Instant::now();
        let busy = activity.begin();
        let reading = tokio::spawn(async move { timed.read(&mut [0; 1]).await });
        sleep(4 * IDLE).await;
        assert!(!reading.is_finished());
        drop(busy);
        assert_eq!(reading.await.unwrap().unwrap(), 0, "ended");
        assert_eq!(begin.elapsed(), 5 * IDLE);
    }
}
