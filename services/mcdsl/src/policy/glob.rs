//! Patterns of rules. Only a rule's text has this grammar; what is matched has none.
//!
//! A segment is a literal, `*` (any one segment), `abc*` or `*abc` (any one that begins or ends so); `**` as the last segment is
//! any number of segments, none included, so that `a/**` covers `a` too: a deny of what is below means what is above as well.
//! Segments are compared once each, in order, so that matching takes time linear in the resource's length and never goes back;
//! that is what `**` in the middle or several stars in a segment would cost, as would regular expressions.

use std::fmt;

use super::name::{Kind, NameError, ResourceName, check_segment};

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    kind: Kind,
    text: Box<str>,
    segments: Box<[Segment]>,
    /// `**` ends it.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Exact(Box<str>),
    Begins(Box<str>),
    Ends(Box<str>),
}

impl Glob {
    pub(super) fn parse(kind: Kind, text: &str) -> Result<Self, NameError> {
        let mut segments = Vec::new();
        let mut open = false;
        for segment in kind.segments(text)? {
            if open {
                return Err(NameError::Star);
            }
            if segment == "**" {
                open = true;
            } else {
                segments.push(Segment::parse(segment)?);
            }
        }
        Ok(Self {
            kind,
            text: text.into(),
            segments: segments.into(),
            open,
        })
    }

    /// That of all that has this name or is below it.
    pub(super) fn below(name: &ResourceName) -> Self {
        let exact = |segment: &str| Segment::Exact(segment.into());
        Self {
            kind: Kind::Resource,
            text: format!("{name}/**").into(),
            segments: name.as_str().split('/').map(exact).collect(),
            open: true,
        }
    }

    /// Whether it covers all that another does which begins with its literal segments and is open.
    pub(super) fn covers(&self, place: &Self) -> bool {
        let mut both = self.segments.iter().zip(&place.segments);
        self.open && self.segments.len() <= place.segments.len() && both.all(|(s, p)| s.covers(p))
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it covers this canonical name.
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut rest = name.split(self.kind.separator());
        let each = self.segments.iter();
        for segment in each {
            if !rest.next().is_some_and(|part| segment.matches(part)) {
                return false;
            }
        }
        self.open || rest.next().is_none()
    }
}

impl Glob {
    /// Whether there may be a name that both cover.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let both = self.segments.iter().zip(&other.segments);
        let longer = match self.segments.len().cmp(&other.segments.len()) {
            std::cmp::Ordering::Less => self.open,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => other.open,
        };
        longer && both.into_iter().all(|(one, two)| one.meets(two))
    }
}

impl Segment {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), segment) | (segment, Self::Exact(text)) => segment.matches(text),
            (Self::Begins(one), Self::Begins(two)) => {
                one.starts_with(&**two) || two.starts_with(&**one)
            }
            (Self::Ends(one), Self::Ends(two)) => one.ends_with(&**two) || two.ends_with(&**one),
            _ => true,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Exact(text) => self.matches(text),
            other => *self == Self::Any || self == other,
        }
    }

    fn parse(text: &str) -> Result<Self, NameError> {
        let literal = text.strip_prefix('*').or_else(|| text.strip_suffix('*'));
        check_segment(literal.unwrap_or(text))?;
        Ok(match literal {
            None => Self::Exact(text.into()),
            Some("") => Self::Any,
            Some(end) if text.starts_with('*') => Self::Ends(end.into()),
            Some(start) => Self::Begins(start.into()),
        })
    }

    fn matches(&self, part: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => part == &**text,
            Self::Begins(start) => part.starts_with(&**start),
            Self::Ends(end) => part.ends_with(&**end),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Action, ResourceName};

    fn matches(pattern: &str, name: &str) -> bool {
        let name: ResourceName = name.parse().unwrap();
        Glob::parse(Kind::Resource, pattern)
            .unwrap()
            .matches(name.as_str())
    }

    #[test]
    fn patterns_meet_where_a_name_is_covered_by_both() {
        for (one, two, meet) in [
            ("a/*", "*/b", true),
            ("a/b", "*/c", false),
            ("a/**", "*/keys/*", true),
            ("**", "*/keys/*", true),
            ("a/keys", "*/keys/*", false),
            ("a/keys/b/c", "*/keys/*", false),
            ("a/kyes/*", "*/keys/*", false),
            ("a/k*/x", "*/keys/*", true),
            ("a/x*/x", "*/keys/*", false),
            ("a/*ys/x", "*/keys/*", true),
            ("ab*", "a*", true),
            ("ab*", "ac*", false),
            ("*ba", "*a", true),
            ("*ba", "*ca", false),
            ("a*", "*b", true),
        ] {
            let parse = |text| Glob::parse(Kind::Resource, text).unwrap();
            let (one, two) = (parse(one), parse(two));
            assert_eq!(
                (one.meets(&two), two.meets(&one)),
                (meet, meet),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn grammar() {
        for (pattern, yes, no) in [
            ("a", &["a"][..], &["A", "b", "a/b", "aa"][..]),
            ("a/b", &["a/b"], &["a", "a/b/c", "a/bb"]),
            ("*", &["a", "a.b"], &["a/b"]),
            ("a/*", &["a/b", "a/.b"], &["a", "a/b/c", "b/b"]),
            ("*/b", &["a/b"], &["b", "a/a/b"]),
            ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
            ("**", &["a", "a/b/c"], &[]),
            ("a/**", &["a", "a/b", "a/b/c"], &["ab", "b/a"]),
            ("a/*/**", &["a/b", "a/b/c"], &["a"]),
            ("web-*", &["web-1", "web-"], &["web", "web-/1", "a-web-1"]),
            (
                "dns/*.example.org",
                &["dns/a.example.org", "dns/a.b.example.org"],
                &[
                    "dns/example.org",
                    "dns/aexample.org",
                    "dns/a.example.org.evil",
                ],
            ),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} covers {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} does not cover {name}");
            }
        }
        for (pattern, error) in [
            ("", NameError::Empty),
            ("**/a", NameError::Star),
            ("a/**/b", NameError::Star),
            ("***", NameError::Star),
            ("a**", NameError::Star),
            ("*a*", NameError::Star),
            ("a*b", NameError::Star),
            ("a//b", NameError::EmptySegment('/')),
            ("/**", NameError::EmptySegment('/')),
            ("a/../**", NameError::Dots),
            ("a?", NameError::Character('?')),
            ("[ab]", NameError::Character('[')),
            ("{a", NameError::Character('{')),
            ("a%2f", NameError::Encoded),
        ] {
            assert_eq!(
                Glob::parse(Kind::Resource, pattern),
                Err(error),
                "{pattern}"
            );
        }
    }

    #[test]
    fn actions_have_colons() {
        let covers = |pattern, name: &str| {
            let name: Action = name.parse().unwrap();
            Glob::parse(Kind::Action, pattern)
                .unwrap()
                .matches(name.as_str())
        };
        assert!(covers("pki:*", "pki:issue"));
        assert!(!covers("pki:*", "pki:issue:leaf"));
        assert!(covers("pki:**", "pki:issue:leaf"));
        assert!(!covers("*", "pki:issue"));
        assert_eq!(
            Glob::parse(Kind::Action, "PKI:*"),
            Err(NameError::UpperCase('P'))
        );
    }

    /// What the grammar says, with going back.
    fn slow(pattern: &[&str], name: &[&str]) -> bool {
        fn within(pattern: &[u8], part: &[u8]) -> bool {
            match (pattern.split_first(), part.split_first()) {
                (None, None) => true,
                (Some((b'*', p)), _) if within(p, part) => true,
                (Some((b'*', _)), Some((_, s))) => within(pattern, s),
                (Some((a, p)), Some((b, s))) => a == b && within(p, s),
                _ => false,
            }
        }
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((&"**", p)), _) if slow(p, name) => true,
            (Some((&"**", _)), Some((_, n))) => slow(pattern, n),
            (Some((a, p)), Some((b, n))) => within(a.as_bytes(), b.as_bytes()) && slow(p, n),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn linear_is_what_slow_is(
            pattern in "(\\*|[ab]{1,2}\\*?|\\*[ab]{1,2})(/(\\*|[ab]{1,2}\\*?|\\*[ab]{1,2})){0,3}(/\\*\\*)?",
            name in "[ab]{1,3}(/[ab]{1,3}){0,4}",
        ) {
            let wanted = slow(&pattern.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &name), wanted, "{} {}", pattern, name);
        }

        #[test]
        fn whatever_the_text_it_is_refused_or_a_name(text in any::<String>()) {
            if let Ok(name) = text.parse::<ResourceName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(text.split('/').all(|s| !s.is_empty() && s != "." && !s.contains("..")));
            }
            if let Ok(glob) = Glob::parse(Kind::Resource, &text) {
                prop_assert_eq!(glob.to_string(), text);
            }
        }

        /// The bytes that grammars are made of, mostly.
        #[test]
        fn a_name_as_a_pattern_is_itself_alone(
            a in "[ab*./%\\\\\\[\\]{}?^$|~+:-]{1,6}", b in "[ab*./%\\\\\\[\\]{}?^$|~+:-]{1,6}",
        ) {
            if let (Ok(a), Ok(b)) = (a.parse::<ResourceName>(), b.parse::<ResourceName>()) {
                let glob = Glob::parse(Kind::Resource, a.as_str()).unwrap();
                prop_assert!(glob.matches(a.as_str()));
                prop_assert_eq!(glob.matches(b.as_str()), a == b);
            }
        }

        /// A segment from a client never reaches what is under another pattern than its own place.
        #[test]
        fn a_segment_never_leaves_its_place(segment in "[ab*./%\\\\-]{1,6}") {
            if let Ok(name) = ResourceName::of(["own", &segment]) {
                let parsed = |pattern| Glob::parse(Kind::Resource, pattern).unwrap();
                prop_assert!(parsed("own/*").matches(name.as_str()));
                prop_assert!(!parsed("other/**").matches(name.as_str()));
                prop_assert!(!parsed("own/*/*/**").matches(name.as_str()));
            }
        }
    }
}
