//! The token of a request (RFC 6750 §2.1).

use axum::http::{HeaderMap, header};

/// Bytes of the field: a token is not longer; what is, is refused unread.
pub(super) const MAX: usize = 8 * 1024;

/// The Authorization field is not one Bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization field is not one Bearer token")]
pub struct NotOne;

/// The token, if there is an Authorization field.
///
/// # Errors
/// If that is not one Bearer token of at most 8 KiB, or there are several.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, NotOne> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() || value.len() > MAX {
        return Err(NotOne);
    }
    let (scheme, token) = (value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .ok_or(NotOne)?;
    let token = token.trim_matches(' ');
    // `b64token`.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || !token.bytes().all(plain) {
        return Err(NotOne);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_token_or_none() {
        let long = format!("Bearer {}", "a".repeat(MAX));
        for (description, fields, wanted) in [
            ("no field", &[][..], Ok(None)),
            ("a token", &["Bearer a.b-c_d"], Ok(Some("a.b-c_d"))),
            ("in small letters", &["bearer a"], Ok(Some("a"))),
            ("with spaces around it", &["Bearer   a "], Ok(Some("a"))),
            ("two", &["Bearer a", "Bearer a"], Err(NotOne)),
            ("two in one", &["Bearer a b"], Err(NotOne)),
            ("a list", &["Bearer a, Bearer b"], Err(NotOne)),
            ("another scheme", &["Basic YTpi"], Err(NotOne)),
            ("the scheme alone", &["Bearer"], Err(NotOne)),
            ("an empty one", &["Bearer "], Err(NotOne)),
            ("a tab", &["Bearer\ta"], Err(NotOne)),
            ("one that is too long", &[long.as_str()], Err(NotOne)),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, field.parse().unwrap());
            }
            assert_eq!(bearer(&headers), wanted, "{description}");
        }
    }
}
