//! Hostnames as types: what has one was checked.

use std::{borrow::Cow, fmt, iter, str::FromStr};

/// Bytes of the longest hostname (RFC 1035 §2.3.4), without the trailing dot.
pub const MAX_HOSTNAME: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A validated, lower-cased hostname in A-label form without the trailing dot. No IP address: RFC 6066 §3 forbids
/// literals in SNI.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(Box<str>);

/// An exact hostname, or `*.` and a parent, which matches any name below the parent at any depth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Box<str>);

/// Why a hostname was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing, or only a dot.
    #[error("is empty")]
    Empty,
    /// Above 253 bytes.
    #[error("is longer than {MAX_HOSTNAME} bytes")]
    TooLong,
    /// Two dots in a row, or one in front.
    #[error("has an empty label (two dots in a row, or a leading one)")]
    EmptyLabel,
    /// A label above 63 bytes.
    #[error("has a label longer than {MAX_LABEL} bytes")]
    LabelTooLong,
    /// A hyphen at a label's edge.
    #[error("has a label that starts or ends with a hyphen")]
    Hyphen,
    /// Not ASCII.
    #[error("is not ASCII; write an internationalised name in its A-label form (xn--…)")]
    NotAscii,
    /// Another character than letters, digits, hyphen, underscore.
    #[error("has the character {0:?}; a label has letters, digits, hyphens and underscores")]
    Character(char),
    /// An address.
    #[error("is an IP address; routes are by name")]
    Address,
    /// A star elsewhere.
    #[error("has a \"*\" that is not the whole first label; write *.example.org")]
    Wildcard,
    /// A star alone.
    #[error(
        "is \"*\" alone: no route takes every name; write the names, or *.example.org for those below one"
    )]
    AnyName,
}

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From untrusted bytes, as in SNI.
    ///
    /// # Errors
    /// [`HostnameError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HostnameError> {
        std::str::from_utf8(bytes)
            .map_err(|_| HostnameError::NotAscii)?
            .parse()
    }

    /// The keys to look up, most specific first: the name, then `*.` and each parent.
    pub fn candidates(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let parents = iter::successors(parent(&self.0), |name| parent(name));
        iter::once(Cow::Borrowed(self.as_str()))
            .chain(parents.map(|p| Cow::Owned(format!("*.{p}"))))
    }
}

fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

impl HostPattern {
    /// Whether `name` is this name, or below this parent.
    #[must_use]
    pub fn matches(&self, name: &Hostname) -> bool {
        match self.0.strip_prefix('*') {
            Some(parent) => name.0.len() > parent.len() && name.0.ends_with(parent),
            None => self.0 == name.0,
        }
    }

    /// Whether it is a parent's, for all names below that.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// The pattern, `*.` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;

    fn try_from(name: String) -> Result<Self, HostnameError> {
        name.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0.into()
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostnameError::Empty);
        }
        if name.len() > MAX_HOSTNAME {
            return Err(HostnameError::TooLong);
        }
        if !name.is_ascii() {
            return Err(HostnameError::NotAscii);
        }
        name.split('.').try_for_each(check_label)?;
        // What looks like an address to a resolver is one: a last label of digits only (WHATWG URL, ends-in-a-number).
        if name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(HostnameError::Address);
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

fn check_label(label: &str) -> Result<(), HostnameError> {
    if label.is_empty() {
        return Err(HostnameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(HostnameError::LabelTooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostnameError::Hyphen);
    }
    match label
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    {
        Some('*') => Err(HostnameError::Wildcard),
        Some(':') => Err(HostnameError::Address),
        Some(c) => Err(HostnameError::Character(c)),
        None => Ok(()),
    }
}

impl FromStr for HostPattern {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let Some(parent) = text.strip_prefix("*.") else {
            return if text == "*" {
                Err(HostnameError::AnyName)
            } else {
                Ok(Self(text.parse::<Hostname>()?.0))
            };
        };
        let pattern = format!("*.{}", parent.parse::<Hostname>()?.0);
        if pattern.len() > MAX_HOSTNAME {
            return Err(HostnameError::TooLong);
        }
        Ok(Self(pattern.into()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = format!("{}.example", "a".repeat(63));
        for (description, text, wanted) in [
            ("lower-cased", "Example.ORG", Ok("example.org")),
            ("one trailing dot goes", "example.org.", Ok("example.org")),
            (
                "underscores are in use",
                "_dmarc.example",
                Ok("_dmarc.example"),
            ),
            ("a single label", "localhost", Ok("localhost")),
            ("digits within", "1.2.3.4a", Ok("1.2.3.4a")),
            ("a label of 63", &long, Ok(long.as_str())),
            ("empty", "", Err(HostnameError::Empty)),
            ("a dot", ".", Err(HostnameError::Empty)),
            ("two trailing dots", "a..", Err(HostnameError::EmptyLabel)),
            ("a leading dot", ".a", Err(HostnameError::EmptyLabel)),
            ("an IPv4 address", "192.0.2.1", Err(HostnameError::Address)),
            (
                "an IPv6 address",
                "2001:db8::1",
                Err(HostnameError::Address),
            ),
            ("a space", "a b", Err(HostnameError::Character(' '))),
            ("NUL", "a\0b", Err(HostnameError::Character('\0'))),
            ("a U-label", "bücher.example", Err(HostnameError::NotAscii)),
            ("an edge hyphen", "-a.example", Err(HostnameError::Hyphen)),
            ("a star", "*.example", Err(HostnameError::Wildcard)),
        ] {
            let got = text.parse::<Hostname>();
            assert_eq!(
                got.as_ref().map(Hostname::as_str).map_err(|e| *e),
                wanted,
                "{description}"
            );
        }
        assert_eq!(
            "a".repeat(64).parse::<Hostname>(),
            Err(HostnameError::LabelTooLong)
        );
        assert_eq!(
            "a.".repeat(127).parse::<Hostname>().map(|n| n.0.len()),
            Ok(253)
        );
        assert_eq!(
            "a.".repeat(128).parse::<Hostname>(),
            Err(HostnameError::TooLong)
        );
    }

    #[test]
    fn patterns() {
        for (text, wanted) in [
            ("*.Example.org", Ok("*.example.org")),
            ("example.org", Ok("example.org")),
            ("*.org", Ok("*.org")),
            ("*", Err(HostnameError::AnyName)),
            ("a.*.org", Err(HostnameError::Wildcard)),
            ("*a.org", Err(HostnameError::Wildcard)),
            ("*.", Err(HostnameError::Empty)),
        ] {
            let got = text.parse::<HostPattern>();
            assert_eq!(
                got.as_ref().map(HostPattern::as_str).map_err(|e| *e),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn candidates_go_from_the_name_up() {
        let name: Hostname = "a.b.example.org".parse().unwrap();
        assert_eq!(
            name.candidates().collect::<Vec<_>>(),
            [
                "a.b.example.org",
                "*.b.example.org",
                "*.example.org",
                "*.org"
            ]
        );
    }
}
