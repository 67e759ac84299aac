//! Names that certificates are for: each is checked once, canonical, and of a type of its own.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use mcdsl::hostname::{Hostname, HostnameError};
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::asn1::{Ia5String, OctetString},
    ext::pkix::name::GeneralName,
};

/// Most names of a certificate.
pub(crate) const MAX_NAMES: usize = 100;
/// Longest SPIFFE ID that is taken; the specification allows 2048 bytes.
const MAX_URI: usize = 512;
/// Longest trust domain.
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a name is none that a certificate can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameFault {
    #[error("it {0}")]
    Hostname(#[from] HostnameError),
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
        let host: Hostname = rest.parse()?;
        if wildcard && host.as_str().len() + 2 > mcdsl::hostname::MAX_HOSTNAME {
            return Err(HostnameError::TooLong.into());
        }
        if host.as_str().contains('_') {
            return Err(NameFault::Underscore);
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

/// A workload's name (SPIFFE-ID §2), in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SpiffeId(String);

impl SpiffeId {
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
        Ok(Self::Dns(text.parse()?))
    }
}

impl AltName {
    /// As a certificate has it.
    pub(crate) fn general(&self) -> x509_cert::der::Result<GeneralName> {
        Ok(match self {
            Self::Dns(name) => GeneralName::DnsName(Ia5String::new(&name.to_string())?),
            Self::Ip(address) => GeneralName::from(*address),
            Self::Uri(id) => GeneralName::UniformResourceIdentifier(Ia5String::new(&id.0)?),
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
    #[error("{0:?}: {1}")]
    Name(String, NameFault),
}

impl Names {
    /// From texts, as requests have them.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, NamesFault> {
        if texts.len() > MAX_NAMES {
            return Err(NamesFault::TooMany(texts.len()));
        }
        let name = |text: &String| {
            let wrong = |fault| NamesFault::Name(text.chars().take(256).collect(), fault);
            text.parse().map_err(wrong)
        };
        let names: Vec<_> = texts.iter().map(name).collect::<Result<_, _>>()?;
        names.try_into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (description, text, wanted) in [
            ("small letters", "Web.Example.ORG.", Some("web.example.org")),
            ("a wildcard", "*.Example.org", Some("*.example.org")),
            (
                "an A-label",
                "xn--bcher-kva.example",
                Some("xn--bcher-kva.example"),
            ),
            ("an IPv4 address", "192.0.2.1", Some("192.0.2.1")),
            ("an IPv6 address", "2001:DB8:0::1", Some("2001:db8::1")),
            (
                "an IPv4-mapped address",
                "::ffff:192.0.2.1",
                Some("192.0.2.1"),
            ),
            (
                "a SPIFFE ID",
                "spiffe://example.org/a/B",
                Some("spiffe://example.org/a/B"),
            ),
            ("nothing", "", None),
            ("a star alone", "*", None),
            ("a star within", "a.*.example.org", None),
            ("two stars", "*.*.example.org", None),
            ("a star as part of a label", "w*.example.org", None),
            ("an underscore", "_acme.example.org", None),
            ("a U-label", "bücher.example", None),
            ("an A-label of nothing", "xn--.example", None),
            ("an A-label of ASCII", "xn--example-.example", None),
            (
                "an A-label that decodes to none",
                "xn--a-\u{0}.example",
                None,
            ),
            ("a reserved label", "ab--cd.example", None),
            ("an address with leading zeros", "192.0.2.01", None),
            ("a short address", "127.1", None),
            ("a number", "2130706433", None),
            ("an address with a zone", "fe80::1%eth0", None),
            ("a network", "192.0.2.0/24", None),
            ("an e-mail address", "ada@example.org", None),
            ("NUL", "a.example\0.b.example", None),
            ("a space in front", " a.example", None),
            ("a URI of another scheme", "https://example.org/a", None),
            ("a SPIFFE ID without a path", "spiffe://example.org", None),
            (
                "a SPIFFE ID with an empty path",
                "spiffe://example.org/",
                None,
            ),
            ("with a trailing slash", "spiffe://example.org/a/", None),
            ("with dots", "spiffe://example.org/a/../b", None),
            ("with a port", "spiffe://example.org:1/a", None),
            ("with a user", "spiffe://u@example.org/a", None),
            ("with a query", "spiffe://example.org/a?b", None),
            ("with an encoded slash", "spiffe://example.org/a%2fb", None),
            (
                "with capitals in the trust domain",
                "spiffe://Example.org/a",
                None,
            ),
        ] {
            let got = text.parse::<AltName>().ok().map(|name| name.to_string());
            assert_eq!(got.as_deref(), wanted, "{description}");
        }
    }

    #[test]
    fn what_a_certificate_has_is_read_as_it_was_written() {
        for text in [
            "web.example.org",
            "*.example.org",
            "192.0.2.1",
            "2001:db8::1",
            "spiffe://a/b",
        ] {
            let name: AltName = text.parse().unwrap();
            assert_eq!(AltName::certified(&name.general().unwrap()), Ok(name));
        }
        let ia5 = |text: &str| Ia5String::new(text).unwrap();
        let mapped: std::net::Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        for (description, name) in [
            ("capitals", GeneralName::DnsName(ia5("Web.example.org"))),
            (
                "a trailing dot",
                GeneralName::DnsName(ia5("web.example.org.")),
            ),
            (
                "an address as a name",
                GeneralName::DnsName(ia5("192.0.2.1")),
            ),
            (
                "an e-mail address",
                GeneralName::Rfc822Name(ia5("a@b.example")),
            ),
            ("a mapped address", GeneralName::from(IpAddr::from(mapped))),
            (
                "an address of 5 bytes",
                GeneralName::IpAddress(OctetString::new([1; 5]).unwrap()),
            ),
        ] {
            assert!(AltName::certified(&name).is_err(), "{description}");
        }
    }

    #[test]
    fn names_are_few_and_differ() {
        let of = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
            Names::parse(&texts)
        };
        assert_eq!(of(&[]), Err(NamesFault::Empty));
        let twice = of(&["b.example", "a.example", "B.example"]).unwrap();
        let texts: Vec<_> = twice.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["b.example", "a.example"]);
        let many: Vec<_> = (0..=MAX_NAMES).map(|n| format!("n{n}.example")).collect();
        assert_eq!(Names::parse(&many), Err(NamesFault::TooMany(101)));
    }

    #[test]
    fn below_and_within_go_by_labels() {
        let dns = |text: &str| text.parse::<DnsName>().unwrap();
        for (name, parent, below, within) in [
            ("a.example", "example", true, true),
            ("a.b.example", "example", true, true),
            ("example", "example", false, true),
            ("badexample", "example", false, false),
            ("*.example", "example", false, true),
            ("*.a.example", "example", true, true),
            ("example", "a.example", false, false),
        ] {
            let (name, parent) = (dns(name), dns(parent));
            assert_eq!(
                (name.is_below(&parent), name.is_within(&parent)),
                (below, within),
                "{name} {parent}"
            );
        }
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        assert!(id("spiffe://a/b/c").is_below(&id("spiffe://a/b")));
        assert!(!id("spiffe://a/bc").is_below(&id("spiffe://a/b")));
        assert!(!id("spiffe://a/b").is_below(&id("spiffe://a/b")));
    }
}
