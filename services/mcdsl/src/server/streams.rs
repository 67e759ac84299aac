//! Streams end with what let them begin: the token of who asked.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
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
use crate::auth::{AuthError, Authenticator, Identity};

/// Between looks at the token of a stream.
const AGAIN: Duration = Duration::from_secs(5);
/// For so long a stream goes on while its token cannot be checked: what an answer holds that was asked for.
const UNCHECKED: Duration = Duration::from_secs(30);

/// The response, which ends with a status once the token is no longer valid. What is held back by the client's window is not looked
/// after until it takes something: until then nothing is sent either.
pub(super) fn while_valid(
    response: Response,
    token: String,
    identity: &Identity,
    authenticator: Arc<dyn Authenticator>,
) -> Response {
    let expires = identity.expires;
    response.map(|body| {
        Body::new(Stream {
            going: Some((body, Box::pin(end(token, expires, authenticator)))),
        })
    })
}

/// Waits until the token is not valid, and says why.
async fn end(token: String, expires: SystemTime, authenticator: Arc<dyn Authenticator>) -> Status {
    let left = expires.duration_since(SystemTime::now());
    let expired = sleep(left.unwrap_or_default());
    let looking = async {
        let mut known = Instant::now();
        loop {
            sleep(AGAIN).await;
            match authenticator.authenticate(&token).await {
                Ok(_) => known = Instant::now(),
                Err(AuthError::Unavailable(_)) if known.elapsed() < UNCHECKED => {}
                Err(error) => return refusal(error),
            }
        }
    };
    tokio::select! {
        () = expired => Status::unauthenticated("the token has expired"),
        status = looking => status,
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
    use crate::server::access::tests::identity;
    use std::sync::Mutex;
    use tonic::Code;

    /// Says of a token what it is told to.
    struct Says(Mutex<Result<(), AuthError>>);

    impl Authenticator for Says {
        fn authenticate<'a>(
            &'a self,
            _: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
            let said = self.0.lock().unwrap().clone();
            Box::pin(async { said.map(|()| identity()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token() {
        let unavailable = || Err(AuthError::Unavailable("on purpose".to_owned()));
        let hour = Duration::from_secs(3600);
        for (description, left, said, code, after) in [
            (
                "it expires",
                Duration::from_secs(3),
                Ok(()),
                Code::Unauthenticated,
                3..=4,
            ),
            (
                "it expires later",
                hour,
                Ok(()),
                Code::Unauthenticated,
                3599..=3600,
            ),
            (
                "it is revoked",
                hour,
                Err(AuthError::Invalid("revoked")),
                Code::Unauthenticated,
                5..=5,
            ),
            (
                "nobody can say",
                hour,
                unavailable(),
                Code::Unavailable,
                30..=30,
            ),
        ] {
            let identity = Identity {
                expires: SystemTime::now() + left,
                ..identity()
            };
            let authenticator = Arc::new(Says(Mutex::new(said)));
            let endless = Body::from_stream(tokio_stream::pending::<Result<Bytes, axum::Error>>());
            let begin = Instant::now();
            let response = while_valid(
                Response::new(endless),
                "".to_owned(),
                &identity,
                authenticator,
            );
            let mut body = response.into_body();
            let next = |cx: &mut Context<'_>| Pin::new(&mut body).poll_frame(cx);
            let frame = std::future::poll_fn(next).await.unwrap().unwrap();
            let trailers = frame.into_trailers().unwrap();
            let status = Status::from_header_map(&trailers).unwrap();
            assert_eq!(status.code(), code, "{description}");
            // The clock is the test's.
            let took = begin.elapsed().as_secs();
            assert!(after.contains(&took), "{description}: after {took} s");
            assert!(body.is_end_stream(), "{description}");
        }
    }
}
