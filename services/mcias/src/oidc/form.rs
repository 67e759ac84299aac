//! Forms that programs send, and what has to be in them.

use axum::{
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{StatusCode, header},
};

use super::{
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

/// A form that a program sent, with at most [`super::MAX_BODY`] bytes.
pub(super) struct Form(pub(super) Params);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let text = "the body is no application/x-www-form-urlencoded";
            return Err(OAuthError::invalid_request(text));
        }
        let body = axum::body::Bytes::from_request(request, state).await;
        let body = body.map_err(|rejected: BytesRejection| match rejected.status() {
            StatusCode::PAYLOAD_TOO_LARGE => OAuthError::too_large(),
            _ => OAuthError::invalid_request("the body cannot be read"),
        })?;
        Ok(Self(Params::parse(&body)?))
    }
}
