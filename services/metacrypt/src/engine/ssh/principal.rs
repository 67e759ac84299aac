//! Whom a certificate names: accounts of machines that somebody logs in to, or machines.

use std::{fmt, net::IpAddr, str::FromStr};

use mcdsl::{
    hostname::{Hostname, HostnameError},
    policy::Name,
};
use serde::{Deserialize, Serialize};

use super::authority::Kind;

/// Longest name of an account of a machine.
const MAX_ACCOUNT: usize = 64;
/// The one that may do everything: nobody has it by being called so.
const ROOT: &str = "root";

/// Why a text is no principal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAPrincipal {
    #[error("empty; a certificate without a principal would be for all")]
    Empty,
    #[error(
        "1 to {MAX_ACCOUNT} letters, digits, `-`, `_`, `.` and `@`, the first a letter, a digit or `_`"
    )]
    Account,
    #[error("{0}")]
    Host(#[from] HostnameError),
    #[error("write it as {0}")]
    Spelling(String),
}

/// The name of an account of a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Account(Box<str>);

impl FromStr for Account {
    type Err = NotAPrincipal;

    fn from_str(text: &str) -> Result<Self, NotAPrincipal> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let within = |c: char| word(c) || matches!(c, '-' | '.' | '@');
        if text.is_empty() {
            return Err(NotAPrincipal::Empty);
        }
        let fits = text.len() <= MAX_ACCOUNT && text.starts_with(word) && text.chars().all(within);
        fits.then(|| Self(text.into()))
            .ok_or(NotAPrincipal::Account)
    }
}

impl TryFrom<String> for Account {
    type Error = NotAPrincipal;

    fn try_from(text: String) -> Result<Self, NotAPrincipal> {
        text.parse()
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.0.into()
    }
}

/// A principal. It has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Principal {
    /// Of users.
    Account(Account),
    /// Of hosts.
    Host(Hostname),
    /// Of hosts.
    Address(IpAddr),
}

impl Principal {
    /// One of this kind. ssh reads `*` in a host's as a pattern, which is in no name.
    pub(super) fn parse(kind: Kind, text: &str) -> Result<Self, NotAPrincipal> {
        if text.is_empty() {
            return Err(NotAPrincipal::Empty);
        }
        let principal = match kind {
            Kind::User => Self::Account(text.parse()?),
            Kind::Host => match text.parse() {
                Ok(address) => Self::Address(address),
                Err(_) => Self::Host(text.parse()?),
            },
        };
        let spelling = principal.to_string();
        (spelling == text)
            .then_some(principal)
            .ok_or(NotAPrincipal::Spelling(spelling))
    }

    /// Whom it is for.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Account(_) => Kind::User,
            Self::Host(_) | Self::Address(_) => Kind::Host,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => f.write_str(&account.0),
            Self::Host(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Which principals a profile allows: one, or several by what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Allowed {
    /// This one.
    Exact(Principal),
    /// The name of the account that asks, but for `root`.
    Caller,
    /// Hosts below this domain.
    Below(Hostname),
}

/// For people; no principal of a user is two words.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(principal) => principal.fmt(f),
            Self::Caller => f.write_str("the caller's name"),
            Self::Below(domain) => write!(f, "below {domain}"),
        }
    }
}

impl Allowed {
    /// Whether a caller of this name may have it.
    pub(super) fn allows(&self, principal: &Principal, caller: &Name) -> bool {
        match (self, principal) {
            (Self::Exact(exact), _) => exact == principal,
            (Self::Caller, Principal::Account(account)) => {
                *account.0 == *caller.as_str() && *account.0 != *ROOT
            }
            (Self::Below(domain), Principal::Host(host)) => host
                .as_str()
                .strip_suffix(domain.as_str())
                .is_some_and(|label| label.len() > 1 && label.ends_with('.')),
            _ => false,
        }
    }

    /// Of whom it allows some.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Exact(principal) => principal.kind(),
            Self::Caller => Kind::User,
            Self::Below(_) => Kind::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_have_one_spelling() {
        let long = "a".repeat(65);
        for (description, kind, text, good) in [
            ("an account", Kind::User, "ada", true),
            ("a service's", Kind::User, "_apt", true),
            ("of a domain", Kind::User, "ada.l-1@example.org", true),
            ("case is kept", Kind::User, "Ada", true),
            ("nothing", Kind::User, "", false),
            ("two, by a comma", Kind::User, "ada,root", false),
            ("a pattern", Kind::User, "*", false),
            ("an option", Kind::User, "-ada", false),
            ("a path", Kind::User, "../ada", false),
            ("a line", Kind::User, "ada\nroot", false),
            ("a space", Kind::User, "ada root", false),
            ("a letter that is not ASCII", Kind::User, "аda", false),
            ("too long", Kind::User, &long, false),
            ("a host", Kind::Host, "web.example.org", true),
            ("a short name", Kind::Host, "web", true),
            ("an address", Kind::Host, "192.0.2.1", true),
            ("an address", Kind::Host, "2001:db8::1", true),
            ("another spelling", Kind::Host, "2001:DB8::1", false),
            ("another spelling", Kind::Host, "Web.example.org", false),
            ("another spelling", Kind::Host, "web.example.org.", false),
            ("a pattern", Kind::Host, "*.example.org", false),
            ("a pattern", Kind::Host, "*", false),
            ("a pattern", Kind::Host, "web?.example.org", false),
            ("half an address", Kind::Host, "192.0.2", false),
            ("nothing", Kind::Host, "", false),
        ] {
            let parsed = Principal::parse(kind, text);
            assert_eq!(parsed.is_ok(), good, "{description}, {text:?}: {parsed:?}");
        }
    }

    #[test]
    fn what_a_profile_allows() {
        let user = |text| Principal::parse(Kind::User, text).unwrap();
        let host = |text| Principal::parse(Kind::Host, text).unwrap();
        let below = Allowed::Below("example.org".parse().unwrap());
        let root = Allowed::Exact(user("root"));
        for (description, allowed, principal, caller, good) in [
            ("oneself", &Allowed::Caller, user("ada"), "ada", true),
            ("another", &Allowed::Caller, user("bob"), "ada", false),
            ("another case", &Allowed::Caller, user("ADA"), "ada", false),
            (
                "who is called root",
                &Allowed::Caller,
                user("root"),
                "root",
                false,
            ),
            (
                "a host of that name",
                &Allowed::Caller,
                host("ada"),
                "ada",
                false,
            ),
            ("root, exactly", &root, user("root"), "ada", true),
            ("another", &root, user("ada"), "ada", false),
            ("a host of that name", &root, host("root"), "ada", false),
            ("below", &below, host("web.example.org"), "ada", true),
            ("two below", &below, host("a.b.example.org"), "ada", true),
            ("itself", &below, host("example.org"), "ada", false),
            (
                "another domain's",
                &below,
                host("web.notexample.org"),
                "ada",
                false,
            ),
            ("above", &below, host("org"), "ada", false),
            ("an address", &below, host("192.0.2.1"), "ada", false),
        ] {
            let caller = caller.parse().unwrap();
            let got = allowed.allows(&principal, &caller);
            assert_eq!(got, good, "{description}");
        }
    }
}
