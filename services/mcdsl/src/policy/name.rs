//! Names of who, what and on what, each checked once and then of a type of its own.
//!
//! There is one spelling of a name and every other is refused; nothing is rewritten, for whoever compares what came in with
//! what was checked must see the same. ASCII alone: with Unicode, what is equal would depend on the version of its tables, and
//! what looks equal would still not be. `*` is in no name, so that a name written as a pattern matches itself and nothing else,
//! and a wildcard that is data (a certificate for `*.example.org`) must be said as an action or a segment of its own.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, segment or action, in bytes: a DNS name of 253 fits.
pub const MAX_NAME: usize = 256;
/// Longest name of a resource, in bytes: an OCI repository of 255, a digest and what goes before.
pub const MAX_RESOURCE: usize = 1024;
/// Most segments of one resource or action.
pub const MAX_SEGMENTS: usize = 32;

/// Why something is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Over the bound.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// Over [`MAX_SEGMENTS`].
    #[error("it has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A separator at the start, at the end, or two in a row.
    #[error("it has an empty segment: a {0:?} too many")]
    EmptySegment(char),
    /// `.` as a segment, or `..` anywhere.
    #[error("`.` and `..` are in no name, for some would read them as a path")]
    Dots,
    /// `%`.
    #[error("it has a `%`; decode it first, for an encoded name is a second spelling")]
    Encoded,
    /// Not ASCII.
    #[error("{0:?} is not ASCII; an internationalised domain name has an A-label (xn--…)")]
    NotAscii(char),
    /// `*` in a name, or elsewhere in a pattern than allowed.
    #[error(
        "`*` is in patterns alone, as a segment, first or last in one; `**` as the last segment"
    )]
    Star,
    /// Upper case in an action.
    #[error("{0:?} is upper case; actions are lower case")]
    UpperCase(char),
    /// Any other.
    #[error("{0:?} is in no name; letters, digits and -_.:@+=,~ are")]
    Character(char),
}

/// The same for names and for the literal parts of patterns.
pub(super) fn check_segment(segment: &str) -> Result<(), NameError> {
    if segment.len() > MAX_NAME {
        return Err(NameError::TooLong(MAX_NAME));
    }
    for c in segment.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => {}
            '-' | '_' | '.' | ':' | '@' | '+' | '=' | ',' | '~' => {}
            '%' => return Err(NameError::Encoded),
            '*' => return Err(NameError::Star),
            c if !c.is_ascii() => return Err(NameError::NotAscii(c)),
            c => return Err(NameError::Character(c)),
        }
    }
    if segment == "." || segment.contains("..") {
        return Err(NameError::Dots);
    }
    Ok(())
}

/// What separates an action's segments, and what a resource's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Action,
    Resource,
}

impl Kind {
    pub(super) fn separator(self) -> char {
        match self {
            Self::Action => ':',
            Self::Resource => '/',
        }
    }

    /// Splits, once the bounds of the whole are kept.
    pub(super) fn segments(self, text: &str) -> Result<impl Iterator<Item = &str>, NameError> {
        let (max, separator) = match self {
            Self::Action => (MAX_NAME, ':'),
            Self::Resource => (MAX_RESOURCE, '/'),
        };
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > max {
            return Err(NameError::TooLong(max));
        }
        if text.split(separator).any(str::is_empty) {
            return Err(NameError::EmptySegment(separator));
        }
        if text.split(separator).nth(MAX_SEGMENTS).is_some() {
            return Err(NameError::TooManySegments);
        }
        let upper = text.chars().find(char::is_ascii_uppercase);
        if let (Self::Action, Some(c)) = (self, upper) {
            return Err(NameError::UpperCase(c));
        }
        Ok(text.split(separator))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A role, a tag, an account's id or name, a rule's name: one segment. Case counts.
    Name, |text: &str| {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        check_segment(text)
    }
}

name! {
    /// What is asked for: lower-case segments with `:` between, such as `auth:login` or `pki:issue`.
    Action, |text| Kind::Action.segments(text)?.try_for_each(check_segment)
}

name! {
    /// On what it is asked for: segments with `/` between, such as `pki/infra/web.example.org`. Case counts.
    ResourceName, |text| Kind::Resource.segments(text)?.try_for_each(check_segment)
}

impl ResourceName {
    /// Of segments, each of which is one whatever is in it: what a client chose belongs in here, never in `format!`.
    ///
    /// # Errors
    /// [`NameError`]; a `/` in a segment is one.
    pub fn of<'s>(segments: impl IntoIterator<Item = &'s str>) -> Result<Self, NameError> {
        let mut name = String::new();
        for (i, segment) in segments.into_iter().enumerate() {
            if segment.is_empty() {
                return Err(NameError::EmptySegment('/'));
            }
            if i == MAX_SEGMENTS {
                return Err(NameError::TooManySegments);
            }
            check_segment(segment)?;
            if i > 0 {
                name.push('/');
            }
            name.push_str(segment);
        }
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        use NameError::*;
        let long = "a".repeat(MAX_NAME);
        for (description, text, name, resource) in [
            ("a word", "alice", Ok(()), Ok(())),
            ("an address", "alice@example.org", Ok(()), Ok(())),
            ("a digest", "sha256:00ff", Ok(()), Ok(())),
            ("case is kept", "V1.0-RC", Ok(()), Ok(())),
            ("a hidden file", ".hidden", Ok(()), Ok(())),
            ("the longest", &long, Ok(()), Ok(())),
            ("segments", "a/b", Err(Character('/')), Ok(())),
            ("nothing", "", Err(Empty), Err(Empty)),
            ("a slash", "/", Err(Character('/')), Err(EmptySegment('/'))),
            (
                "absolute",
                "/a",
                Err(Character('/')),
                Err(EmptySegment('/')),
            ),
            (
                "trailing",
                "a/",
                Err(Character('/')),
                Err(EmptySegment('/')),
            ),
            (
                "doubled",
                "a//b",
                Err(Character('/')),
                Err(EmptySegment('/')),
            ),
            ("here", ".", Err(Dots), Err(Dots)),
            ("above", "..", Err(Dots), Err(Dots)),
            ("above within", "a/../b", Err(Character('/')), Err(Dots)),
            ("two dots in a word", "a..b", Err(Dots), Err(Dots)),
            ("encoded", "a%2fb", Err(Encoded), Err(Encoded)),
            ("a star", "*", Err(Star), Err(Star)),
            ("a star within", "a*", Err(Star), Err(Star)),
            ("NUL", "a\0", Err(Character('\0')), Err(Character('\0'))),
            ("a line", "a\nb", Err(Character('\n')), Err(Character('\n'))),
            ("a space", "a b", Err(Character(' ')), Err(Character(' '))),
            (
                "a backslash",
                "a\\b",
                Err(Character('\\')),
                Err(Character('\\')),
            ),
            (
                "not ASCII",
                "bücher",
                Err(NotAscii('ü')),
                Err(NotAscii('ü')),
            ),
            (
                "a Cyrillic a",
                "\u{430}",
                Err(NotAscii('\u{430}')),
                Err(NotAscii('\u{430}')),
            ),
        ] {
            assert_eq!(text.parse::<Name>().map(drop), name, "{description}: name");
            assert_eq!(
                text.parse::<ResourceName>().map(drop),
                resource,
                "{description}: resource"
            );
        }
        let longer = "a".repeat(MAX_NAME + 1);
        assert_eq!(longer.parse::<Name>(), Err(TooLong(MAX_NAME)));
        let deep = "a/".repeat(MAX_SEGMENTS);
        assert_eq!(
            format!("{deep}a").parse::<ResourceName>(),
            Err(TooManySegments)
        );
        let wide = format!("{0}/{0}/{0}/{0}/a", "a".repeat(255));
        assert_eq!(wide.parse::<ResourceName>(), Err(TooLong(MAX_RESOURCE)));
    }

    #[test]
    fn actions() {
        for (text, wanted) in [
            ("auth:login", Ok(())),
            ("status", Ok(())),
            ("pki:issue:leaf", Ok(())),
            ("Auth:login", Err(NameError::UpperCase('A'))),
            ("auth::login", Err(NameError::EmptySegment(':'))),
            ("auth/login", Err(NameError::Character('/'))),
            ("auth:*", Err(NameError::Star)),
        ] {
            assert_eq!(text.parse::<Action>().map(drop), wanted, "{text}");
        }
    }

    #[test]
    fn a_segment_stays_one() {
        let of = |segment| ResourceName::of(["pki", segment]).map(String::from);
        assert_eq!(of("web.example.org"), Ok("pki/web.example.org".to_owned()));
        for (segment, error) in [
            ("a/b", NameError::Character('/')),
            ("", NameError::EmptySegment('/')),
            ("..", NameError::Dots),
            ("**", NameError::Star),
        ] {
            assert_eq!(of(segment), Err(error), "{segment}");
        }
        assert_eq!(ResourceName::of([]), Err(NameError::Empty));
        assert_eq!(ResourceName::of(["a"; 33]), Err(NameError::TooManySegments));
    }
}
