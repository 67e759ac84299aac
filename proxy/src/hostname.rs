//! Stub: hostnames.
use std::{fmt, str::FromStr};

/// A validated, lower-cased hostname in A-label form without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Box<str>);

/// An exact hostname or `*.` and a parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Box<str>);

/// Why a hostname was refused.
#[derive(Debug, thiserror::Error)]
#[error("bad hostname")]
pub struct HostnameError;

impl Hostname {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl HostPattern {
    /// The text, `*.` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for HostPattern {
    type Err = HostnameError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(s.to_ascii_lowercase().into()))
    }
}
impl FromStr for Hostname {
    type Err = HostnameError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(s.to_ascii_lowercase().into()))
    }
}
