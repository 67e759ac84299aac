//! SPIFFE IDs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::NameFault;

/// Longest that is taken; the specification allows 2048 bytes.
pub(super) const MAX_URI: usize = 512;
/// Longest trust domain.
const MAX_TRUST_DOMAIN: usize = 255;

/// A workload's name (SPIFFE-ID §2), in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SpiffeId(String);

impl SpiffeId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has more segments behind those of `parent`.
    pub(crate) fn is_below(&self, parent: &Self) -> bool {
        let rest = self.0.strip_prefix(&parent.0);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for SpiffeId {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        let mark = |b: u8| matches!(b, b'.' | b'-' | b'_');
        let domain = |s: &str| {
            s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || mark(b))
        };
        let segment = |s: &str| {
            let letters = s.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b));
            !s.is_empty() && s != "." && s != ".." && letters
        };
        let rest = text.strip_prefix("spiffe://");
        let parts = rest.and_then(|rest| rest.split_once('/'));
        let good = parts.is_some_and(|(trust, path)| {
            let trust_is = !trust.is_empty() && trust.len() <= MAX_TRUST_DOMAIN && domain(trust);
            trust_is && path.split('/').all(segment)
        });
        if !good || text.len() > MAX_URI {
            return Err(NameFault::Spiffe);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = NameFault;

    fn try_from(text: String) -> Result<Self, NameFault> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.0
    }
}
