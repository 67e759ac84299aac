//! Forms that programs send, and what has to be in them.

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::header,
};
use mcdsl::server::body_status;
use tonic::Code;

use super::{
    MAX_BODY,
    error::OAuthError,
    params::{Params, ParamsError},
};

impl From<ParamsError> for OAuthError {
    fn from(error: ParamsError) -> Self {
        Self::invalid_request(error.to_string())
    }
}

impl Params {
    /// The value of one that has to be there.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn need(&self, name: &str) -> Result<&str, OAuthError> {
        let missing = || OAuthError::invalid_request(format!("the parameter {name} is missing"));
        self.get(name).ok_or_else(missing)
    }
}

/// A form that a program sent, with at most [`MAX_BODY`] bytes.
pub(super) struct Form(pub(super) Params);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &S) -> Result<Self, OAuthError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let text = "the body is no application/x-www-form-urlencoded";
            return Err(OAuthError::invalid_request(text));
        }
        let body = to_bytes(request.into_body(), MAX_BODY).await;
        let body = body.map_err(|error| unread(&error))?;
        Ok(Self(Params::parse(&body)?))
    }
}

/// What came of a body that did not come whole.
fn unread(error: &axum::Error) -> OAuthError {
    let Some(status) = body_status(error) else {
        return OAuthError::too_large();
    };
    match status.code() {
        Code::ResourceExhausted => OAuthError::too_large(),
        Code::Unavailable => OAuthError::unavailable(status.message()),
        _ => OAuthError::invalid_request("the body cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tonic::Status;

    #[tokio::test]
    async fn why_a_body_is_not_read_is_told() {
        for (description, error, status, said) in [
            (
                "too late",
                Some(Status::deadline_exceeded("")),
                400,
                "invalid_request",
            ),
            (
                "the server's bound",
                Some(Status::resource_exhausted("")),
                413,
                "invalid_request",
            ),
            (
                "no room",
                Some(Status::unavailable("no room")),
                503,
                "temporarily_unavailable",
            ),
            ("a form's bound", None, 413, "invalid_request"),
        ] {
            let body = match error {
                Some(error) => Body::from_stream(tokio_stream::iter([Err::<&str, _>(error)])),
                None => Body::from(vec![b'a'; MAX_BODY + 1]),
            };
            let error = unread(&to_bytes(body, MAX_BODY).await.unwrap_err());
            assert_eq!(
                (error.status.as_u16(), error.error),
                (status, said),
                "{description}"
            );
        }
    }
}
