//! Failures as people see them.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use tonic::{Code, Status};

use super::{
    Flash, SessionError,
    page::{Page, render_message},
};
use crate::{
    db::{StoreError, is_unwritable},
    server::UNWRITTEN,
};

/// A handler's failure. The guard makes a page of it for browsers, a message for htmx, and a line of text for others.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    status: StatusCode,
    /// `None`: there is no more to say than of its status.
    message: Option<String>,
    retry_after: Option<Duration>,
}

impl ErrorPage {
    /// Of any status; the message is plain text, and shown.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::of(status)
        }
    }

    /// 400: what came makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::of(StatusCode::NOT_FOUND)
    }

    /// 429, until `wait` is over.
    #[must_use]
    pub fn too_many(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::of(StatusCode::TOO_MANY_REQUESTS)
        }
    }

    /// 502: another service's answer is none. Why belongs into the log.
    #[must_use]
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, message)
    }

    /// 503: something that is needed does not answer. Browsers may ask again soon.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// 500. What happened belongs into the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::of(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// With what there is to say of a status alone.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        Self {
            status,
            message: None,
            retry_after: None,
        }
    }

    /// Where there is no headline.
    fn text(&self) -> String {
        match &self.message {
            Some(message) => message.clone(),
            None => format!("{}. {}", headline(self.status), advice(self.status)),
        }
    }
}

/// What failed, for the headline; the message says why. Without an end.
fn headline(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "You are not logged in",
        StatusCode::FORBIDDEN => "You may not do that",
        StatusCode::NOT_FOUND => "That was not found",
        StatusCode::METHOD_NOT_ALLOWED => "This page cannot be used that way",
        StatusCode::REQUEST_TIMEOUT => "It took too long",
        StatusCode::CONFLICT => "That cannot be done now",
        StatusCode::PAYLOAD_TOO_LARGE => "That is too much",
        StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
        StatusCode::BAD_GATEWAY => "Another service's answer is not valid",
        StatusCode::SERVICE_UNAVAILABLE => "The service cannot do that now",
        s if s.is_client_error() => "That was not accepted",
        _ => "Something went wrong here",
    }
}

/// What follows the headline where nothing else is known.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "Log in first.",
        StatusCode::FORBIDDEN => "If you should be able to, log in again, or ask an administrator.",
        StatusCode::METHOD_NOT_ALLOWED => "Go to the page itself, and use what is on it.",
        StatusCode::NOT_FOUND => "There is no such page. It may have been moved or removed.",
        StatusCode::REQUEST_TIMEOUT => "The request did not come in time. Send it again.",
        StatusCode::PAYLOAD_TOO_LARGE => "That is more than this page takes.",
        StatusCode::TOO_MANY_REQUESTS => "Wait a little and try again.",
        StatusCode::SERVICE_UNAVAILABLE => "Try again later.",
        s if s.is_client_error() => "The request makes no sense to this page.",
        _ => "It has been logged.",
    }
}

impl From<SessionError> for ErrorPage {
    fn from(error: SessionError) -> Self {
        if is_unwritable(&error) {
            // The store has told it once.
            return Self::unavailable(UNWRITTEN);
        }
        let why = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, why, "a page failed");
        match error {
            SessionError::Store { source, .. } if matches!(*source, StoreError::Busy) => {
                Self::of(StatusCode::SERVICE_UNAVAILABLE)
            }
            _ => Self::internal(),
        }
    }
}

/// What a method of the API says, to people.
impl From<Status> for ErrorPage {
    fn from(status: Status) -> Self {
        let message = status.message();
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
                Self::new(StatusCode::CONFLICT, message)
            }
            Code::NotFound => Self::new(StatusCode::NOT_FOUND, message),
            Code::PermissionDenied => Self::forbidden(message),
            Code::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, message),
            Code::ResourceExhausted => Self::new(StatusCode::TOO_MANY_REQUESTS, message),
            Code::Unavailable => Self::unavailable(message),
            code => {
                tracing::error!(?code, message, "a page failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text())).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs().max(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// What the client takes for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// A page.
    Page,
    /// A part of one.
    Fragment,
    /// Neither is a browser's.
    Text,
}

impl Wants {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let is = |name| headers.get(name).is_some_and(|v| v == "true");
        // htmx asks for whole pages too: of links that it follows for the browser, and of history that it has not kept.
        if is("hx-request") && !is("hx-boosted") && !is("hx-history-restore-request") {
            Self::Fragment
        } else if accepts_html(headers) {
            Self::Page
        } else {
            Self::Text
        }
    }
}

/// Whether HTML is named; `*/*` is what programs send.
fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let refused = |p: &str| {
                p.strip_prefix("q=")
                    .is_some_and(|q| q.parse() == Ok(0.0f32))
            };
            kind.eq_ignore_ascii_case("text/html") && !parts.any(refused)
        })
}

/// A failure's response as the client takes it; other responses as they are.
pub(super) fn present(page: &Page, response: Response) -> Response {
    let status = response.status();
    let given = response.extensions().get::<ErrorPage>().cloned();
    let html = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let failed = status.is_client_error() || status.is_server_error();
    let error = match given {
        Some(error) => error,
        // axum's own, which speak to programmers.
        None if failed && !html && page.wants() != Wants::Text => ErrorPage::of(status),
        None => return response,
    };
    let content = match page.wants() {
        Wants::Text => return response,
        Wants::Page => {
            let message = error.message.as_deref().unwrap_or(advice(status));
            page.error(status, headline(status), message)
        }
        Wants::Fragment => render_message(page, &Flash::error(error.text())),
    };
    let Ok(rendered) = content else {
        return response;
    };
    let (mut head, _) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let (new, body) = rendered.into_parts();
    head.headers.extend(new.headers);
    head.extensions.extend(new.extensions);
    if page.wants() == Wants::Fragment {
        // Not where the answer would have gone, but above the page.
        let name = |n| axum::http::HeaderName::from_static(n);
        let headers = &mut head.headers;
        headers.insert(name("hx-retarget"), HeaderValue::from_static("#messages"));
        headers.insert(name("hx-reswap"), HeaderValue::from_static("innerHTML"));
    }
    Response::from_parts(head, Body::new(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_for_those_who_name_it() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
            ("text/html;q=0", false),
            ("text/html; q=0.0, application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(accepts_html(&headers), html, "{accept}");
        }
    }
}
