//! The body of a form.

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, Method, StatusCode, header},
};
use serde::de::DeserializeOwned;
use tonic::Code;

use super::{ErrorPage, MAX_FORM};
use crate::server::body_status;

/// A form that was sent, at most [`MAX_FORM`] bytes. Fields that `T` does not have are passed over; repeated fields make a `Vec`
/// (with `#[serde(default)]`, since browsers send nothing of boxes that are not ticked).
#[derive(Clone, Copy, Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = ErrorPage;

    async fn from_request(request: Request, _: &S) -> Result<Self, ErrorPage> {
        if !is_form(request.headers()) {
            return Err(ErrorPage::of(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if request.method() == Method::GET {
            return Err(ErrorPage::of(StatusCode::METHOD_NOT_ALLOWED));
        }
        let body = to_bytes(request.into_body(), MAX_FORM).await;
        let body = body.map_err(|error| unread(&error))?;
        serde_html_form::from_bytes(&body).map(Self).map_err(|e| {
            // Names of fields and types: the form's author is asked, not who filled it in.
            tracing::debug!(error = %e, "a form does not fit");
            let text = "The form is not complete, or a field has a value that it cannot have.";
            ErrorPage::new(StatusCode::UNPROCESSABLE_ENTITY, text)
        })
    }
}

/// A body that did not come in time, is too large, or found no room.
pub(super) fn unread(error: &axum::Error) -> ErrorPage {
    match body_status(error) {
        Some(status) if status.code() == Code::DeadlineExceeded => {
            ErrorPage::of(StatusCode::REQUEST_TIMEOUT)
        }
        Some(status) if status.code() == Code::Unavailable => ErrorPage::unavailable(
            "Too many people send something at this moment. Try again in a few seconds.",
        ),
        _ => ErrorPage::of(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

pub(super) fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, response::IntoResponse as _};
    use tonic::Status;

    #[tokio::test]
    async fn why_a_body_is_not_read_is_told() {
        for (description, error, status) in [
            (
                "it does not come",
                Some(Status::deadline_exceeded("late")),
                408,
            ),
            (
                "the server's bound",
                Some(Status::resource_exhausted("")),
                413,
            ),
            ("no room", Some(Status::unavailable("")), 503),
            ("a form's bound", None, 413),
        ] {
            let body = match error {
                Some(error) => Body::from_stream(tokio_stream::iter([Err::<&str, _>(error)])),
                None => Body::from(vec![b'a'; MAX_FORM + 1]),
            };
            let error = to_bytes(body, MAX_FORM).await.unwrap_err();
            let response = unread(&error).into_response();
            assert_eq!(response.status(), status, "{description}");
        }
    }
}
