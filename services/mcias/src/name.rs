//! Names of accounts, roles and tags, as types: what has one was checked, and is a name to the policy engine too.

use std::{fmt, str::FromStr};

use mcdsl::policy::Name as PolicyName;

/// Bytes of an account's name.
const MAX: usize = 64;

/// The name of an account: small letters, digits, `.`, `-` and `_`, beginning with a letter or a digit. One spelling for everybody: no
/// two names look alike, and none is a pattern, a path or a flag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Of an account.
    #[error(
        "{0:?} is no account's name: 1 to {MAX} small letters, digits, `.`, `-` and `_`, beginning with a letter or a digit"
    )]
    Account(String),
    /// Not one of those that there are.
    #[error("{0:?} is no role; there are admin, user and guest")]
    Role(String),
    /// Of a tag.
    #[error("{0:?} is no tag: ASCII letters, digits and `:._-` without spaces or patterns")]
    Tag(String),
}

impl AccountName {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let first = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        if first
            && text.len() <= MAX
            && text.bytes().all(inner)
            && text.parse::<PolicyName>().is_ok()
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Account(text.chars().take(MAX + 1).collect()))
        }
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an account may do at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// What policies let it.
    User,
    /// What policies let guests.
    Guest,
}

impl Role {
    /// As tokens and policies write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Guest => "guest",
        }
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        [Self::Admin, Self::User, Self::Guest]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NameError::Role(text.chars().take(MAX + 1).collect()))
    }
}

/// What policies tell accounts and services apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= MAX && text.parse::<PolicyName>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tag(text.chars().take(MAX + 1).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let (longest, longer) = ("a".repeat(MAX), "a".repeat(MAX + 1));
        for (description, text, fine) in [
            ("letters", "ada", true),
            ("all that may be", "a.b-c_9", true),
            ("a digit first", "9lives", true),
            ("the longest", longest.as_str(), true),
            ("too long", longer.as_str(), false),
            ("empty", "", false),
            ("a capital", "Ada", false),
            ("a space", "a da", false),
            ("a flag", "-ada", false),
            ("a hidden file", ".ada", false),
            ("a path", "a/b", false),
            ("a parent", "a..b", false),
            ("a pattern", "a*", false),
            ("an address", "ada@example.org", false),
            ("another script", "аda", false),
            ("a control character", "a\0", false),
        ] {
            let parsed = text.parse::<AccountName>();
            assert_eq!(parsed.is_ok(), fine, "{description}: {parsed:?}");
        }
    }
}
