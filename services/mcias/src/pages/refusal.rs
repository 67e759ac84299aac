//! What people are told of what went wrong.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use mcdsl::web::ErrorPage;
use tonic::Code;

use crate::error::Error;

/// What went wrong, as a person is told: status, text, and when to try again.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// It is done only if it is said that it is meant.
    pub(super) unmeant: bool,
    wait: Option<Duration>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let told = error.told();
        let status = match told.code {
            Code::InvalidArgument => StatusCode::UNPROCESSABLE_ENTITY,
            Code::FailedPrecondition | Code::AlreadyExists => StatusCode::CONFLICT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            text: sentence(&told.message, told.wait),
            unmeant: told.unmeant.is_some(),
            wait: told.wait,
        }
    }
}

impl Refusal {
    /// On a page that was rendered with the text.
    pub(super) fn with(&self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        if let Some(wait) = self.wait {
            let headers = response.headers_mut();
            headers.insert(axum::http::header::RETRY_AFTER, wait.as_secs().into());
        }
        response
    }
}

/// A page that says what went wrong.
pub(crate) fn failed(error: Error) -> ErrorPage {
    let refusal = Refusal::from(error);
    match (refusal.status, refusal.wait) {
        (StatusCode::TOO_MANY_REQUESTS, Some(wait)) => ErrorPage::too_many(wait),
        (StatusCode::SERVICE_UNAVAILABLE, _) => ErrorPage::unavailable(refusal.text),
        (status, _) => ErrorPage::new(status, refusal.text),
    }
}

/// For people: what cannot be accepted if the message begins with the field (`code: …`), a capital, and one mark at the end.
pub(super) fn sentence(message: &str, wait: Option<Duration>) -> String {
    let mut text = match field(message) {
        Some((field, why)) => {
            let field = field.replace('_', " ").replace("uris", "URIs");
            format!("The {field} cannot be accepted: {why}")
        }
        None => {
            let mut characters = message.chars();
            let first = characters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(characters).collect()
        }
    };
    // Messages say what others say, which may be a sentence.
    text.truncate(text.trim_end_matches(['.', ':', ';', ' ']).len());
    let ended = text.ends_with(['?', '!']);
    if let Some(wait) = wait {
        let wait = mcdsl::human::duration_short(wait);
        let between = if ended { " Try" } else { "; try" };
        return format!("{text}{between} again in {wait}.");
    }
    if !ended {
        text.push('.');
    }
    text
}

/// The field that a message of the API begins with.
fn field(message: &str) -> Option<(&str, &str)> {
    let (field, why) = message.split_once(": ")?;
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
    (!field.is_empty() && field.bytes().all(plain)).then_some((field, why))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn who_comes_at_a_bad_time_is_told_when_to_come_again() {
        use mcdsl::db::StoreError;
        for (description, error, status) in [
            ("the database", Error::from(StoreError::Busy), 503),
            ("a gate", Error::too_many("no", Duration::from_secs(9)), 429),
        ] {
            let response = failed(error).into_response();
            assert_eq!(response.status().as_u16(), status, "{description}");
            let header = axum::http::header::RETRY_AFTER;
            assert!(response.headers().contains_key(header), "{description}");
        }
    }

    #[test]
    fn people_read_sentences() {
        let wait = Some(Duration::from_secs(61));
        assert_eq!(sentence("no", None), "No.");
        assert_eq!(sentence("too many", wait), "Too many; try again in 1m1s.");
        for (description, message, told) in [
            ("nothing", "", "."),
            (
                "a sentence of others",
                "too weak: it is common.",
                "Too weak: it is common.",
            ),
            (
                "a question",
                "are both clocks right?",
                "Are both clocks right?",
            ),
            ("a colon", "it is wrong:", "It is wrong."),
            (
                "a field",
                "code: it is wrong",
                "The code cannot be accepted: it is wrong.",
            ),
            (
                "fields",
                "redirect_uris: more than 16",
                "The redirect URIs cannot be accepted: more than 16.",
            ),
            (
                "a field that ends like many",
                "status: it is none",
                "The status cannot be accepted: it is none.",
            ),
            (
                "no field",
                "there is no account \"a: b\"",
                "There is no account \"a: b\".",
            ),
        ] {
            assert_eq!(sentence(message, None), told, "{description}");
        }
        assert_eq!(sentence("right?", wait), "Right? Try again in 1m1s.");
    }
}
