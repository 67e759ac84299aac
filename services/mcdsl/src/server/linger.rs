//! Answers to requests that are not read, whoever gives them: a refusal, a path that is not there, a method that it does not have. Over HTTP/2 such a
//! request is reset once it is answered (RFC 9113 §8.1), over HTTP/1.1 its connection is closed, and clients that are still sending take that for a
//! failure (curl 7) instead of reading why they were refused: a short rest is taken off the wire, and thrown away.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Version, header},
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// What is thrown away at most: what a client may have sent before it could know (the first window, RFC 9113 §6.9.2).
const MAX: usize = 65_535;
/// For the rest to come: about a round trip.
const WAIT: Duration = Duration::from_secs(1);

/// Around all requests. What nobody reads of one is taken off the wire: over HTTP/2 between its answer and the end of that, over HTTP/1.1 before it,
/// where the end is known by its length. gRPC's answers end by themselves, and its clients know resets.
pub(super) async fn around(request: Request, next: Next) -> Response {
    let http2 = request.version() == Version::HTTP_2;
    // Who waits to be told to send has sent nothing (RFC 9110 §10.1.1), and would be told to by reading.
    let waits = !http2 && request.headers().contains_key(header::EXPECT);
    if request.body().is_end_stream() || waits || super::api::is_grpc(&request) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let read = Body::new(Read(Arc::clone(&body)));
    let response = next.run(Request::from_parts(parts, read)).await;
    let Some(mut rest) = Rest::of(body) else {
        return response;
    };
    if !http2 {
        poll_fn(|cx| rest.poll_end(cx)).await;
        return response;
    }
    response.map(|inner| {
        Body::new(Lingering {
            inner,
            rest: Some(rest),
        })
    })
}

/// A request's body, as it is read.
struct Read(Arc<Mutex<Body>>);

impl Read {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Read {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

struct Lingering {
    inner: Body,
    rest: Option<Rest>,
}

struct Rest {
    body: Body,
    left: usize,
    wait: Pin<Box<Sleep>>,
}

impl Rest {
    /// What is left of a body, if that is short and nobody reads it any more.
    fn of(body: Arc<Mutex<Body>>) -> Option<Self> {
        let body = Arc::into_inner(body)?.into_inner();
        let body = body.unwrap_or_else(PoisonError::into_inner);
        let short = body.size_hint().lower() <= MAX as u64;
        (short && !body.is_end_stream()).then(|| Self {
            body,
            left: MAX,
            wait: Box::pin(sleep(WAIT)),
        })
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let Some(Ok(frame)) = frame else {
                return Poll::Ready(());
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.left.checked_sub(length) else {
                return Poll::Ready(());
            };
            self.left = left;
        }
        self.wait.as_mut().poll(cx)
    }
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            return Poll::Ready(Some(frame));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.poll_end(cx));
            self.rest = None;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, middleware, routing::post};
    use tokio::{io::AsyncWriteExt as _, time::Instant};
    use tokio_util::io::ReaderStream;
    use tower::ServiceExt as _;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_a_short_rest_of_its_request() {
        let second = Duration::from_secs(1);
        let (two, one) = (Version::HTTP_2, Version::HTTP_11);
        let router = Router::new()
            .route("/no", post(async || "no"))
            .fallback(async || "no")
            .layer(middleware::from_fn(around));
        for (description, version, path, field, sent, ends, after) in [
            ("a rest that comes", two, "/no", "x", 1000, true, 0),
            ("one that does not", two, "/no", "x", 1000, false, 1),
            ("no such path", two, "/else", "x", 1000, false, 1),
            ("a long one", two, "/no", "x", MAX + 1, false, 0),
            (
                "HTTP/1.1: a rest that comes",
                one,
                "/no",
                "x",
                1000,
                true,
                0,
            ),
            ("one that does not", one, "/else", "x", 1000, false, 1),
            ("one that waits", one, "/no", "expect", 0, false, 0),
        ] {
            let (mut to, from) = tokio::io::duplex(1 << 20);
            to.write_all(&vec![b'a'; sent]).await.unwrap();
            let to = (!ends).then_some(to);
            let request = Request::post(path).version(version);
            let request = request.header(field, "100-continue");
            let body = Body::from_stream(ReaderStream::new(from));
            let begin = Instant::now();
            let answer = router.clone().oneshot(request.body(body).unwrap()).await;
            let body = answer.unwrap().into_body();
            let bytes = axum::body::to_bytes(body, 10).await.unwrap();
            assert_eq!(bytes, "no", "{description}");
            // The clock is the test's.
            assert_eq!(begin.elapsed(), second * after, "{description}");
            drop(to);
        }
    }
}
