//! Streams end with what let them begin: the token of who asked, or a place among those that anybody may have.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::HeaderMap,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::access::refusal;
use crate::auth::{AuthError, Authenticator};

/// Between looks at the token of a stream: whoever knows tokens also knows the time, so that an end is found by looking, too.
const AGAIN: Duration = Duration::from_secs(5);
/// For so long a stream goes on while its token cannot be checked: what an answer holds that was asked for.
const UNCHECKED: Duration = Duration::from_secs(30);

/// The response, which ends with a status once the token is no longer valid. What is held back by the client's window is not looked
/// after until it takes something: until then nothing is sent either, and a client that takes nothing loses its connection ([`super::idle`]).
pub(super) fn while_valid(
    response: Response,
    token: String,
    authenticator: Arc<dyn Authenticator>,
) -> Response {
    until(response, end(token, authenticator))
}

/// The response, which ends with the status that `end` gives.
pub(super) fn until(
    response: Response,
    end: impl Future<Output = Status> + Send + 'static,
) -> Response {
    response.map(|body| {
        Body::new(Stream {
            going: Some((body, Box::pin(end))),
        })
    })
}

/// Waits until the token is not valid, and says why.
async fn end(token: String, authenticator: Arc<dyn Authenticator>) -> Status {
    let mut known = Instant::now();
    loop {
        sleep(AGAIN).await;
        match authenticator.authenticate(&token).await {
            Ok(_) => known = Instant::now(),
            Err(AuthError::Unavailable(_)) if known.elapsed() < UNCHECKED => {}
            Err(error) => return refusal(error),
        }
    }
}

struct Stream {
    /// What is sent, and until when. `None`: the status was sent.
    going: Option<(Body, End)>,
}

type End = Pin<Box<dyn Future<Output = Status> + Send>>;

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some((body, end)) = &mut self.going else {
            return Poll::Ready(None);
        };
        let Poll::Ready(status) = end.as_mut().poll(cx) else {
            return Pin::new(body).poll_frame(cx);
        };
        // tonic's frames are whole messages, so that trailers may follow any of them.
        self.going = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).map_err(axum::Error::new)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        (self.going.as_ref()).is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Identity, server::access::tests::identity};
    use tonic::Code;

    /// Says of a token that it is good for some time, and then something else.
    struct Says(Instant, AuthError);

    impl Authenticator for Says {
        fn authenticate<'a>(
            &'a self,
            _: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
            let good = Instant::now() < self.0;
            let said = if good {
                Ok(identity())
            } else {
                Err(self.1.clone())
            };
            Box::pin(async { said })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token() {
        let unavailable = || AuthError::Unavailable("on purpose".to_owned());
        for (description, good, said, code, after) in [
            (
                "it is revoked",
                0,
                AuthError::Invalid("revoked"),
                Code::Unauthenticated,
                5,
            ),
            (
                "it expires later",
                3598,
                AuthError::Invalid("expired"),
                Code::Unauthenticated,
                3600,
            ),
            ("nobody can say", 0, unavailable(), Code::Unavailable, 30),
            (
                "nobody can say any more",
                58,
                unavailable(),
                Code::Unavailable,
                85,
            ),
        ] {
            let begin = Instant::now();
            let authenticator = Arc::new(Says(begin + Duration::from_secs(good), said));
            let endless = Body::from_stream(tokio_stream::pending::<Result<Bytes, axum::Error>>());
            let response = while_valid(Response::new(endless), "".to_owned(), authenticator);
            let mut body = response.into_body();
            let next = |cx: &mut Context<'_>| Pin::new(&mut body).poll_frame(cx);
            let frame = std::future::poll_fn(next).await.unwrap().unwrap();
            let trailers = frame.into_trailers().unwrap();
            let status = Status::from_header_map(&trailers).unwrap();
            assert_eq!(status.code(), code, "{description}");
            // The clock is the test's.
            assert_eq!(begin.elapsed().as_secs(), after, "{description}");
            assert!(body.is_end_stream(), "{description}");
        }
    }
}
