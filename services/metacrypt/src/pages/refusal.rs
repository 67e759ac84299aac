//! What somebody is told whom the API refused something.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use mcdsl::web::{Flash, Page};
use tonic::{Code, Status};

use super::Answer;

/// Names of fields, where people read others.
const FIELDS: [(&str, &str); 4] = [
    ("ttl_s", "lifetime"),
    ("csr", "request (CSR)"),
    ("rotate_after_s", "age for rotation"),
    ("associated_data", "associated data"),
];

/// The page with its form again, as it was filled in, and why it was refused. What is nobody's mistake is a page of its own.
pub(super) fn again(page: Page, refused: Status, title: &str, content: &impl Template) -> Answer {
    let code = match refused.code() {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::UNPROCESSABLE_ENTITY,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => return Err(refused.into()),
    };
    let page = page.with(Flash::error(sentence(refused.message())));
    let mut response = page.render(title, content)?;
    *response.status_mut() = code;
    let wait = refused.metadata().get("retry-after");
    if let Some(wait) = wait.and_then(|wait| HeaderValue::from_bytes(wait.as_bytes()).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Ok(response)
}

/// For people: the field in words, if the message begins with one, a capital, and one mark at the end.
pub(super) fn sentence(message: &str) -> String {
    let mut text = match field(message) {
        Some((field, why)) => {
            let known = FIELDS.iter().find(|(name, _)| *name == field);
            let field =
                known.map_or_else(|| field.replace('_', " "), |(_, name)| (*name).to_owned());
            format!("The {field} cannot be accepted: {why}")
        }
        None => {
            let mut characters = message.chars();
            let first = characters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(characters).collect()
        }
    };
    text.truncate(text.trim_end_matches(['.', ':', ';', ' ']).len());
    if !text.ends_with(['?', '!']) {
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
    use super::*;

    #[test]
    fn people_read_sentences() {
        for (description, message, told) in [
            ("nothing", "", "."),
            (
                "a field",
                "names: none",
                "The names cannot be accepted: none.",
            ),
            (
                "one with a unit",
                "ttl_s: too long",
                "The lifetime cannot be accepted: too long.",
            ),
            (
                "no field",
                "there is no key \"a: b\"",
                "There is no key \"a: b\".",
            ),
            ("a question", "is it?", "Is it?"),
        ] {
            assert_eq!(sentence(message), told, "{description}");
        }
    }
}
