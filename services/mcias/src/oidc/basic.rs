//! What a client says of itself in the field `Authorization`.

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;

/// It is there, and says something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization field is not one of Basic")]
pub(super) struct NotBasic;

/// The client's name and secret of the `Authorization` field, both form-encoded (RFC 6749 §2.3.1).
pub(super) fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, NotBasic> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| NotBasic)?;
    let (scheme, encoded) = value.split_once(' ').ok_or(NotBasic)?;
    if all.next().is_some() || !scheme.eq_ignore_ascii_case("basic") {
        return Err(NotBasic);
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| NotBasic)?;
    let text = String::from_utf8(decoded).map_err(|_| NotBasic)?;
    let (id, secret) = text.split_once(':').ok_or(NotBasic)?;
    let plain = |text: &str| {
        // As the name of a parameter; `&` and `=` are encoded in what is one.
        let name = form_urlencoded::parse(text.as_bytes()).next()?.0;
        (!text.contains(['&', '='])).then(|| name.into_owned())
    };
    match (plain(id), plain(secret)) {
        (Some(id), Some(secret)) => Ok(Some((id, secret))),
        _ => Err(NotBasic),
    }
}
