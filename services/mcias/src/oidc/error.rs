//! What clients are told that fails (RFC 6749 §5.2).

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::Code;

use crate::error::Error;

/// A refusal, as the client that asked is told.
#[derive(Clone, Debug)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: String,
    wait: Option<Duration>,
    /// `WWW-Authenticate`.
    challenge: Option<&'static str>,
}

impl OAuthError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status,
            error,
            description: description.into(),
            wait: None,
            challenge: None,
        }
    }

    /// The request makes no sense.
    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// The client is not who it says, or unknown.
    pub(super) fn invalid_client(description: impl Into<String>) -> Self {
        Self {
            challenge: Some("Basic realm=\"MCIAS\""),
            ..Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
        }
    }

    /// The code or refresh token is not good, or not any more.
    pub(super) fn invalid_grant(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    /// Another way to get tokens than there is.
    pub(super) fn unsupported_grant_type() -> Self {
        let text = "grant_type is neither authorization_code nor refresh_token";
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", text)
    }

    /// The access token is not valid (RFC 6750 §3.1).
    pub(super) fn invalid_token() -> Self {
        let text = "the access token is not valid";
        Self {
            challenge: Some("Bearer error=\"invalid_token\""),
            ..Self::new(StatusCode::UNAUTHORIZED, "invalid_token", text)
        }
    }

    /// Not now.
    pub(super) fn unavailable(description: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            wait: Some(Duration::from_secs(1)),
            ..Self::new(status, "temporarily_unavailable", description)
        }
    }

    /// The body is more than is read.
    pub(super) fn too_large() -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "invalid_request", "the request is too long")
    }

    /// What the audit log says of it.
    pub(super) fn code(&self) -> Code {
        match self.error {
            "invalid_client" | "invalid_token" => Code::Unauthenticated,
            "invalid_grant" => Code::PermissionDenied,
            "temporarily_unavailable" => Code::Unavailable,
            "server_error" => Code::Internal,
            _ => Code::InvalidArgument,
        }
    }
}

impl From<Error> for OAuthError {
    fn from(error: Error) -> Self {
        let told = error.told();
        match told.code {
            Code::ResourceExhausted | Code::Unavailable => {
                let unavailable = Self::unavailable(told.message);
                Self {
                    wait: told.wait.or(unavailable.wait),
                    ..unavailable
                }
            }
            Code::Internal => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "server_error", told.message)
            }
            _ => Self::invalid_grant(told.message),
        }
    }
}

/// As descriptions may be (RFC 6749 §5.2).
pub(super) fn plain(description: &str) -> String {
    let plain = |c| match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    description.chars().map(plain).collect()
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": plain(&self.description) });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            let value = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(wait) = self.wait {
            headers.insert(header::RETRY_AFTER, wait.as_secs().into());
        }
        response
    }
}

/// Why a change for a client was not made.
pub(super) enum Refused {
    /// What the client is told; what was changed so far is committed.
    Told(OAuthError),
    /// Nothing is committed.
    Failed(Error),
}

impl From<OAuthError> for Refused {
    fn from(error: OAuthError) -> Self {
        Self::Told(error)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error.code() {
            // Worth another try, which needs what this one would have used up.
            Code::Unavailable | Code::ResourceExhausted | Code::Internal => Self::Failed(error),
            _ => Self::Told(error.into()),
        }
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use mcdsl::db::StoreError;

    use super::*;

    #[test]
    fn what_is_worth_another_try_is_told_so_and_not_committed() {
        for (description, error, status, commits) in [
            ("the database", Error::from(StoreError::Busy), 503, false),
            (
                "too often",
                Error::too_many("no", Duration::from_secs(9)),
                503,
                false,
            ),
            ("not now", Error::unavailable("no"), 503, false),
            ("it fails", Error::Internal("it"), 500, false),
            ("no", Error::denied("no"), 400, true),
        ] {
            let refused = Refused::from(error);
            assert_eq!(
                matches!(refused, Refused::Told(_)),
                commits,
                "{description}"
            );
            let told = match refused {
                Refused::Told(told) => told,
                Refused::Failed(error) => error.into(),
            };
            let response = told.into_response();
            assert_eq!(response.status().as_u16(), status, "{description}");
            let again = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(again, status == 503, "{description}");
        }
    }
}
