//! What went wrong, as HTTP and JSON say it: the codes of gRPC, mapped as `google/rpc/code.proto` has it.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::{Code, Status};

use super::input::Invalid;
use crate::{
    human,
    server::{REASON, body},
};

/// A gRPC status as HTTP and JSON. The response's extensions have the status.
pub(crate) struct Error {
    http: StatusCode,
    status: Status,
}

impl Error {
    pub(in crate::server) fn invalid(message: impl Into<String>) -> Self {
        Status::invalid_argument(message).into()
    }

    /// There is nothing at that path.
    pub(in crate::server) fn not_found(path: &str) -> Self {
        Status::not_found(format!("there is nothing at {path}")).into()
    }

    /// The path is for these methods (RFC 9110 §15.5.6); HEAD is where GET is.
    pub(in crate::server) fn method_not_allowed(verbs: &[&str]) -> Response {
        let mut verbs = verbs.to_vec();
        if verbs.contains(&"GET") {
            verbs.push("HEAD");
        }
        verbs.sort_unstable();
        let verbs = verbs.join(", ");
        let text = format!("the path is not for this method; it takes {verbs}");
        let error = Self {
            http: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::unimplemented(text),
        };
        ([(header::ALLOW, verbs)], error).into_response()
    }

    /// The same, where the answer has `allow` already.
    pub(in crate::server) fn wrong_method() -> Self {
        Self {
            http: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::unimplemented(
                "the path is not for this method; `allow` says for which it is",
            ),
        }
    }

    /// A panic.
    pub(in crate::server) fn internal() -> Self {
        Status::internal("an internal error; see the service's log").into()
    }

    /// A body that did not come whole.
    pub(super) fn of_body(error: &axum::Error) -> Self {
        let Some(status) = body::status(error) else {
            return Self::invalid("the body was cut off");
        };
        let http = match status.code() {
            Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
            Code::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
            code => http_status(code),
        };
        let status = status.clone();
        Self { http, status }
    }

    /// As gRPC has it.
    pub(in crate::server) fn into_status(self) -> Status {
        self.status
    }

    /// What HTTP has a status for and gRPC has not.
    pub(in crate::server) fn from_status(http: StatusCode, message: impl Into<String>) -> Self {
        let status = Status::invalid_argument(message);
        Self { http, status }
    }
}

impl From<Invalid> for Error {
    fn from(Invalid(why): Invalid) -> Self {
        Self::invalid(why)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(status.code()),
            status,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let wait = self.status.metadata().get(header::RETRY_AFTER.as_str());
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse::<u32>().ok());
        let message = match wait {
            Some(wait) => {
                let wait = human::duration_short(Duration::from_secs(wait.into()));
                format!("{}; try again in {wait}", self.status.message())
            }
            None => self.status.message().to_owned(),
        };
        let mut body = json!({
            "code": self.http.as_u16(),
            "status": code_name(self.status.code()),
            "message": message,
        });
        let reason = self.status.metadata().get(REASON);
        if let Some(reason) = reason.and_then(|reason| reason.to_str().ok()) {
            body[REASON] = reason.into();
        }
        let text = body.to_string();
        let mut response = (
            self.http,
            [(header::CONTENT_TYPE, "application/json")],
            text,
        )
            .into_response();
        if self.http == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = wait {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        // For the audit log.
        response.extensions_mut().insert(self.status);
        response
    }
}

/// As `google/rpc/code.proto` maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code as protobuf writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};

    #[tokio::test]
    async fn why_a_body_is_not_read_is_told() {
        for (description, error, status) in [
            ("it does not come", Status::deadline_exceeded(""), 408),
            ("too large", Status::resource_exhausted(""), 413),
            ("no room", Status::unavailable(""), 503),
        ] {
            let body = Body::from_stream(tokio_stream::iter([Err::<&str, _>(error)]));
            let error = to_bytes(body, 10).await.unwrap_err();
            let answer = Error::of_body(&error).into_response();
            assert_eq!(answer.status(), status, "{description}");
        }
    }
}
