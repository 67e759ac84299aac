//! DNS names.

use std::{fmt, str::FromStr};

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use mcdsl::hostname::{Hostname, HostnameError};
use serde::{Deserialize, Serialize};

use super::NameFault;

/// A DNS name in A-labels and small letters, or `*.` and one, which stands for one label (RFC 6125 §6.4.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct DnsName {
    /// Without the star.
    host: Hostname,
    wildcard: bool,
}

impl DnsName {
    pub(crate) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The name, or what the star stands before.
    pub(crate) fn host(&self) -> &str {
        self.host.as_str()
    }

    /// Whether it, or what its star stands before, has more labels in front of `parent`.
    pub(crate) fn is_below(&self, parent: &Self) -> bool {
        let rest = self.host().strip_suffix(parent.host());
        rest.is_some_and(|rest| rest.ends_with('.'))
    }

    /// Whether all that it stands for is `parent` or below it.
    pub(crate) fn is_within(&self, parent: &Self) -> bool {
        self.host == parent.host || self.is_below(parent)
    }
}

impl FromStr for DnsName {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let host: Hostname = rest.parse().map_err(|fault| match fault {
            HostnameError::Address => NameFault::Number(rest.chars().take(256).collect()),
            fault => fault.into(),
        })?;
        if wildcard && host.as_str().len() + 2 > mcdsl::hostname::MAX_HOSTNAME {
            return Err(HostnameError::TooLong.into());
        }
        if host.as_str().contains('_') {
            return Err(NameFault::Underscore);
        }
        let last = host.as_str().rsplit('.').next().unwrap_or_default();
        if is_number(last) {
            return Err(NameFault::Number(last.to_owned()));
        }
        for label in host.as_str().split('.') {
            // What has hyphens there is reserved (RFC 5890 §2.3.1), but for A-labels.
            if label.get(2..4) == Some("--") && !is_a_label(label) {
                return Err(NameFault::Label(label.to_owned()));
            }
        }
        Ok(Self { host, wildcard })
    }
}

/// Whether it makes an address of the name that ends with it (WHATWG URL §3.5): 0x0a010203 is one to many programs. Those of digits alone are none anyway.
fn is_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x");
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether it is the one spelling of an internationalised label.
fn is_a_label(label: &str) -> bool {
    let of = |label: &[u8]| {
        let made = Uts46::new().to_ascii(
            label,
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        );
        made.ok().map(|made| made.into_owned())
    };
    label.starts_with("xn--") && of(label.as_bytes()).as_deref() == Some(label)
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.host)
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameFault;

    fn try_from(text: String) -> Result<Self, NameFault> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.to_string()
    }
}
