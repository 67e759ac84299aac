//! Names that certificates are for: each is checked once, canonical, and of a type of its own.

mod dns;
mod spiffe;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use mcdsl::hostname::HostnameError;
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::asn1::{Ia5String, OctetString},
    ext::pkix::name::GeneralName,
};

use self::spiffe::MAX_URI;
pub(crate) use self::{dns::DnsName, spiffe::SpiffeId};

/// Most names of a certificate.
pub(crate) const MAX_NAMES: usize = 100;

/// Why a name is none that a certificate can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameFault {
    #[error("it {0}")]
    Hostname(#[from] HostnameError),
    #[error(
        "it is a URI; write the name of its host alone, or a SPIFFE ID: spiffe://<trust domain>/<path>"
    )]
    Uri,
    #[error(
        "it ends like a number ({0}), and some programs would take it for an address; write 192.0.2.1 or 2001:db8::1 for one"
    )]
    Number(String),
    #[error(
        "it has an underscore; names of certificates have letters, digits and hyphens (RFC 5280 §4.2.1.6)"
    )]
    Underscore,
    #[error(
        "the label {0:?} begins like one of an internationalised name, and is none (RFC 5891 §4.2.3.1); write the A-label that a registry has"
    )]
    Label(String),
    #[error(
        "it is not spiffe://<trust domain>/<path>: a trust domain of small letters, digits and .-_, and a path of 1 or more segments of letters, digits and .-_, at most {MAX_URI} bytes"
    )]
    Spiffe,
    #[error("names of the kind {0} are not issued; DNS names, IP addresses and SPIFFE IDs are")]
    Kind(&'static str),
    #[error("an IP address of {0} bytes is none")]
    Address(usize),
    #[error("{0:?} is not written as it would be in a certificate, which is {1:?}")]
    Spelling(String, String),
}

/// What a certificate is for: one entry of its subjectAltName (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum AltName {
    Dns(DnsName),
    /// Never an IPv4-mapped one.
    Ip(IpAddr),
    Uri(SpiffeId),
}

impl FromStr for AltName {
    type Err = NameFault;

    /// What is an address is one, what begins with `spiffe://` is an ID, and all else a DNS name: no text is two of them.
    fn from_str(text: &str) -> Result<Self, NameFault> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address.to_canonical()));
        }
        if text.starts_with("spiffe://") {
            return Ok(Self::Uri(text.parse()?));
        }
        if text.contains("://") {
            return Err(NameFault::Uri);
        }
        Ok(Self::Dns(text.parse()?))
    }
}

impl AltName {
    /// As a certificate has it.
    pub(crate) fn general(&self) -> x509_cert::der::Result<GeneralName> {
        Ok(match self {
            Self::Dns(name) => GeneralName::DnsName(Ia5String::new(&name.to_string())?),
            Self::Ip(address) => GeneralName::from(*address),
            Self::Uri(id) => GeneralName::UniformResourceIdentifier(Ia5String::new(id.as_str())?),
        })
    }

    /// From what a request asks for, in any spelling.
    pub(crate) fn asked(name: &GeneralName) -> Result<Self, NameFault> {
        match name {
            GeneralName::DnsName(name) => Ok(Self::Dns(name.as_str().parse()?)),
            GeneralName::UniformResourceIdentifier(id) => Ok(Self::Uri(id.as_str().parse()?)),
            GeneralName::IpAddress(bytes) => Ok(Self::Ip(address(bytes)?.to_canonical())),
            GeneralName::OtherName(_) => Err(NameFault::Kind("otherName")),
            GeneralName::Rfc822Name(_) => Err(NameFault::Kind("e-mail address")),
            GeneralName::DirectoryName(_) => Err(NameFault::Kind("directoryName")),
            GeneralName::EdiPartyName(_) => Err(NameFault::Kind("ediPartyName")),
            GeneralName::RegisteredId(_) => Err(NameFault::Kind("registeredID")),
        }
    }

    /// From what a certificate has, in its one spelling alone.
    pub(crate) fn certified(name: &GeneralName) -> Result<Self, NameFault> {
        let read = Self::asked(name)?;
        let spelled = match name {
            GeneralName::DnsName(text) | GeneralName::UniformResourceIdentifier(text) => {
                text.as_str().to_owned()
            }
            GeneralName::IpAddress(bytes) => address(bytes)?.to_string(),
            _ => String::new(),
        };
        if spelled != read.to_string() {
            return Err(NameFault::Spelling(spelled, read.to_string()));
        }
        Ok(read)
    }
}

fn address(bytes: &OctetString) -> Result<IpAddr, NameFault> {
    let bytes = bytes.as_bytes();
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| v6())
        .map_err(|_| NameFault::Address(bytes.len()))
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
            Self::Uri(id) => id.fmt(f),
        }
    }
}

impl TryFrom<String> for AltName {
    type Error = NameFault;

    fn try_from(text: String) -> Result<Self, NameFault> {
        text.parse()
    }
}

impl From<AltName> for String {
    fn from(name: AltName) -> Self {
        name.to_string()
    }
}

/// The names of a certificate: at least one, at most [`MAX_NAMES`], none twice; the first is the one that was said first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<AltName>", into = "Vec<AltName>")]
pub(crate) struct Names(Vec<AltName>);

/// Why names are none that a certificate can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NamesFault {
    #[error("none; a certificate is for one name at least")]
    Empty,
    #[error("{0} of them; at most {MAX_NAMES} fit into a certificate")]
    TooMany(usize),
    #[error("{}", each(.0))]
    Names(Vec<(String, NameFault)>),
}

fn each(wrong: &[(String, NameFault)]) -> String {
    let one = |(text, fault): &(String, NameFault)| format!("{text:?}: {fault}");
    wrong.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Names {
    /// From texts, as requests have them.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, NamesFault> {
        if texts.len() > MAX_NAMES {
            return Err(NamesFault::TooMany(texts.len()));
        }
        let (mut names, mut wrong) = (Vec::new(), Vec::new());
        for text in texts {
            match text.parse::<AltName>() {
                Ok(name) => names.push(name),
                Err(fault) => wrong.push((text.chars().take(256).collect(), fault)),
            }
        }
        match wrong.is_empty() {
            true => names.try_into(),
            false => Err(NamesFault::Names(wrong)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AltName> {
        self.0.iter()
    }

    /// The one that was said first.
    pub(crate) fn first(&self) -> Option<&AltName> {
        self.0.first()
    }
}

impl TryFrom<Vec<AltName>> for Names {
    type Error = NamesFault;

    fn try_from(all: Vec<AltName>) -> Result<Self, NamesFault> {
        let mut seen = BTreeSet::new();
        let names: Vec<_> = all.into_iter().filter(|n| seen.insert(n.clone())).collect();
        match names.len() {
            0 => Err(NamesFault::Empty),
            1..=MAX_NAMES => Ok(Self(names)),
            many => Err(NamesFault::TooMany(many)),
        }
    }
}

impl From<Names> for Vec<AltName> {
    fn from(names: Names) -> Self {
        names.0
    }
}
