//! In which form a request comes, and its answer goes.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Error;

/// Protobuf's mapping.
pub(super) const JSON: &str = "application/json";
/// The message itself.
pub(super) const PROTOBUF: &str = "application/protobuf";

/// A body's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Media {
    Json,
    Protobuf,
}

/// What a type or one of a list is, without its parameters.
fn named(text: &str) -> Option<Media> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    [(JSON, Media::Json), (PROTOBUF, Media::Protobuf)]
        .into_iter()
        .find_map(|(name, media)| kind.eq_ignore_ascii_case(name).then_some(media))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// # Errors
/// If it is neither. What a form of another site may send without asking is none.
pub(super) fn of_body(headers: &HeaderMap) -> Result<Media, Error> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(text);
    kind.and_then(named).ok_or_else(|| {
        let text = format!("the body's Content-Type must be {JSON}, or {PROTOBUF}");
        Error::from_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })
}

/// Whether the answer is wanted as it is: of the two the first that is named counts, and of none JSON.
pub(super) fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(text);
    let mut known = accepted.flat_map(|list| list.split(',')).filter_map(named);
    known.next() == Some(Media::Protobuf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_known_is_what_is_wanted() {
        for (description, accept, wanted) in [
            ("nothing", &[][..], false),
            ("protobuf", &["application/protobuf"], true),
            ("another spelling", &["Application/Protobuf; q=1"], true),
            ("behind others", &["text/html, application/protobuf"], true),
            (
                "in a field of its own",
                &["*/*", "application/protobuf"],
                true,
            ),
            (
                "behind JSON",
                &["application/json, application/protobuf"],
                false,
            ),
            ("anything", &["*/*"], false),
            ("a longer name", &["application/protobuf+x"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(wants_protobuf(&headers), wanted, "{description}");
        }
    }
}
