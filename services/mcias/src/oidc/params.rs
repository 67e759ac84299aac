//! Parameters of requests, in the query or in a form. Nothing but text: what makes requests and answers of it is in [`super::form`].

use url::form_urlencoded;

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParamsError {
    /// More than [`MAX`].
    #[error("too many parameters")]
    TooMany,
    /// It is not repeated: a stranger's words have no place on our pages.
    #[error("a parameter is there twice")]
    Twice,
}

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
    pub(super) fn parse(text: &[u8]) -> Result<Self, ParamsError> {
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if all.len() == MAX {
                return Err(ParamsError::TooMany);
            }
            if all.iter().any(|(other, _)| *other == name) {
                return Err(ParamsError::Twice);
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
    }
}
