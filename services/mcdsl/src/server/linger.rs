//! Answers to requests that are not read. Over HTTP/2 such a request is reset once it is answered (RFC 9113 §8.1), and clients that are still
//! sending take that for a failure (curl 7) instead of reading why they were refused: a short rest is taken off the wire, and thrown away.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Version, request::Parts},
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// What is thrown away at most: what a client may have sent before it could know (the first window, RFC 9113 §6.9.2).
const MAX: usize = 65_535;
/// For the rest to come: about a round trip.
const WAIT: Duration = Duration::from_secs(1);

/// A request's body, until somebody reads it.
#[derive(Clone)]
pub(super) struct Unread {
    body: Arc<Mutex<Option<Body>>>,
    http2: bool,
}

impl Unread {
    pub(super) fn new(parts: &Parts, body: Body) -> Self {
        Self {
            body: Arc::new(Mutex::new(Some(body))),
            http2: parts.version == Version::HTTP_2,
        }
    }

    /// To read it. There is one once.
    pub(super) fn take(&self) -> Body {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take().unwrap_or_default()
    }

    /// The answer; it ends after the rest of the request if nobody has read that.
    pub(super) fn answered(self, response: Response) -> Response {
        let rest = self.take();
        let short = rest.size_hint().lower() <= MAX as u64;
        if rest.is_end_stream() || !short || !self.http2 {
            return response;
        }
        response.map(|inner| {
            Body::new(Lingering {
                inner,
                rest: Some(Rest {
                    body: rest,
                    left: MAX,
                    wait: Box::pin(sleep(WAIT)),
                }),
            })
        })
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
    use axum::http::Request;
    use tokio::{io::AsyncWriteExt as _, time::Instant};
    use tokio_util::io::ReaderStream;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_a_short_rest_of_its_request() {
        let second = Duration::from_secs(1);
        for (description, version, sent, ends, after) in [
            ("a rest that comes", Version::HTTP_2, 1000, true, 0),
            ("one that does not", Version::HTTP_2, 1000, false, 1),
            ("a long one", Version::HTTP_2, MAX + 1, false, 0),
            ("HTTP/1.1", Version::HTTP_11, 1000, false, 0),
        ] {
            let (mut to, from) = tokio::io::duplex(1 << 20);
            to.write_all(&vec![b'a'; sent]).await.unwrap();
            let to = (!ends).then_some(to);
            let request = Request::builder().version(version);
            let body = Body::from_stream(ReaderStream::new(from));
            let (parts, body) = request.body(body).unwrap().into_parts();
            let unread = Unread::new(&parts, body);
            let begin = Instant::now();
            let answer = unread.answered(Response::new(Body::from("no")));
            let bytes = axum::body::to_bytes(answer.into_body(), 10).await.unwrap();
            assert_eq!(bytes, "no", "{description}");
            // The clock is the test's.
            assert_eq!(begin.elapsed(), second * after, "{description}");
            drop(to);
        }
    }
}
