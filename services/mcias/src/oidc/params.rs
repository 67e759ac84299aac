//! Parameters of requests, in the query or in a form.

use axum::{
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{StatusCode, header},
};
use url::form_urlencoded;

use super::error::OAuthError;

/// Parameters of a request: more than all specifications together name.
const MAX: usize = 64;

/// Parameters, each at most once (RFC 6749 §3.1, §3.2).
#[derive(Clone, Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Of a query or a form's body.
    ///
    /// # Errors
    /// If one is there twice, or there are too many.
    pub(super) fn parse(text: &[u8]) -> Result<Self, OAuthError> {
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if all.len() == MAX {
                return Err(OAuthError::invalid_request("too many parameters"));
            }
            if all.iter().any(|(other, _)| *other == name) {
                // It is not repeated: a stranger's words have no place on our pages.
                return Err(OAuthError::invalid_request("a parameter is there twice"));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }

    /// The value of one; an empty one is as if it were not there (RFC 6749 §3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The value of one that has to be there.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn need(&self, name: &str) -> Result<&str, OAuthError> {
        let missing = || OAuthError::invalid_request(format!("the parameter {name} is missing"));
        self.get(name).ok_or_else(missing)
    }

    /// As a query.
    pub(super) fn query(&self) -> String {
        query(self.0.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// As a query, without some.
    pub(super) fn query_without(&self, names: &[&str]) -> String {
        let kept = self.0.iter().filter(|(name, _)| !names.contains(&&**name));
        query(kept.map(|(name, value)| (&**name, &**value)))
    }
}

/// Parameters as a query.
pub(super) fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
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
        Params::parse(&body).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_there_once() {
        let many: String = (0..=MAX).map(|n| format!("p{n}=1&")).collect();
        for (description, text, fine) in [
            ("nothing", "", true),
            ("two", "a=1&b=2", true),
            ("twice", "a=1&a=2", false),
            ("twice the same", "a=1&a=1", false),
            ("twice, once encoded", "a=1&%61=2", false),
            ("twice, once empty", "a=1&a=", false),
            ("in capitals, which are another", "a=1&A=2", true),
            ("too many", &many, false),
        ] {
            let parsed = Params::parse(text.as_bytes());
            assert_eq!(parsed.is_ok(), fine, "{description}");
        }
        let params = Params::parse(b"a=&b=x+y%26").unwrap();
        assert_eq!((params.get("a"), params.get("b")), (None, Some("x y&")));
        assert_eq!(params.query_without(&["a"]), "b=x+y%26");
        assert!(params.need("a").is_err());
    }
}
