//! Name constraints of issuers (RFC 5280 §4.2.1.10): what names the certificates below one may have.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::asn1::{Ia5String, OctetString},
    ext::pkix::{
        NameConstraints,
        constraints::name::{GeneralSubtree, GeneralSubtrees},
        name::GeneralName,
    },
};

use super::name::{AltName, DnsName};

/// Most subtrees of one kind.
pub(crate) const MAX_SUBTREES: usize = 100;

/// Of DNS names: a name and all below it. Of addresses: networks. What is said of one kind of names says nothing of the other. URIs are not bound by either,
/// so a CA with constraints certifies none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Constraints {
    pub(crate) permitted_dns: Vec<DnsName>,
    pub(crate) excluded_dns: Vec<DnsName>,
    pub(crate) permitted_ips: Vec<IpNet>,
    pub(crate) excluded_ips: Vec<IpNet>,
}

/// Why a name is not one that an issuer may certify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outside {
    #[error("{0} is not within what the name constraints of its issuer permit")]
    NotPermitted(AltName),
    #[error("{0} is or has what the name constraints of its issuer exclude")]
    Excluded(AltName),
    #[error(
        "{0} is a URI, which the name constraints of its issuer do not bind: such an issuer certifies none; take an issuer without constraints"
    )]
    Unbound(AltName),
    #[error("{0} is not within what the name constraints of its issuer permit")]
    NetNotPermitted(IpNet),
    #[error("{0} is within what the name constraints of its issuer exclude")]
    NetExcluded(IpNet),
}

/// Why the constraints of a certificate cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConstraintsFault {
    #[error(
        "name constraints of {0} are not understood here; those of DNS names and IP addresses are"
    )]
    Kind(&'static str),
    #[error("the name constraint {0:?} is no DNS name")]
    Dns(String),
    #[error("a name constraint is no network")]
    Network,
    #[error("a name constraint has a minimum or maximum, which RFC 5280 does not allow")]
    Distance,
    #[error("more than {MAX_SUBTREES} name constraints")]
    TooMany,
}

impl Constraints {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a name may be certified.
    pub(crate) fn allow(&self, name: &AltName) -> Result<(), Outside> {
        let (permitted, excluded) = match name {
            AltName::Dns(name) => (
                self.permitted_dns.is_empty()
                    || self.permitted_dns.iter().any(|tree| name.is_within(tree)),
                // A wildcard has what its parent has, too.
                self.excluded_dns.iter().any(|tree| {
                    name.is_within(tree) || (name.is_wildcard() && tree.is_below(name))
                }),
            ),
            AltName::Ip(address) => (
                self.permitted_ips.is_empty()
                    || self.permitted_ips.iter().any(|net| net.contains(address)),
                self.excluded_ips.iter().any(|net| net.contains(address)),
            ),
            AltName::Uri(_) => match self.is_empty() {
                true => (true, false),
                false => return Err(Outside::Unbound(name.clone())),
            },
        };
        match (permitted, excluded) {
            (true, false) => Ok(()),
            (_, true) => Err(Outside::Excluded(name.clone())),
            (false, _) => Err(Outside::NotPermitted(name.clone())),
        }
    }

    /// Whether addresses of all of a network may be certified, but for those that are excluded.
    pub(crate) fn allow_net(&self, net: IpNet) -> Result<(), Outside> {
        let within = |all: &[IpNet]| all.iter().any(|tree| tree.contains(&net));
        if !self.permitted_ips.is_empty() && !within(&self.permitted_ips) {
            return Err(Outside::NetNotPermitted(net));
        }
        match within(&self.excluded_ips) {
            true => Err(Outside::NetExcluded(net)),
            false => Ok(()),
        }
    }

    /// As a certificate has them; `None`: it has none.
    pub(crate) fn extension(&self) -> x509_cert::der::Result<Option<NameConstraints>> {
        let trees = |dns: &[DnsName], ips: &[IpNet]| -> x509_cert::der::Result<_> {
            let dns = dns.iter().map(|name| {
                let base = GeneralName::DnsName(Ia5String::new(name.host())?);
                Ok(subtree(base))
            });
            let ips = ips.iter().map(|net| {
                let base = GeneralName::IpAddress(OctetString::new(network(*net))?);
                Ok(subtree(base))
            });
            let all: GeneralSubtrees = dns.chain(ips).collect::<x509_cert::der::Result<_>>()?;
            Ok((!all.is_empty()).then_some(all))
        };
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some(NameConstraints {
            permitted_subtrees: trees(&self.permitted_dns, &self.permitted_ips)?,
            excluded_subtrees: trees(&self.excluded_dns, &self.excluded_ips)?,
        }))
    }

    /// Those of a certificate.
    pub(crate) fn of(extension: &NameConstraints) -> Result<Self, ConstraintsFault> {
        let mut all = Self::default();
        for tree in extension.permitted_subtrees.iter().flatten() {
            match base(tree)? {
                Base::Dns(name) => all.permitted_dns.push(name),
                Base::Net(net) => all.permitted_ips.push(net),
            }
        }
        for tree in extension.excluded_subtrees.iter().flatten() {
            match base(tree)? {
                Base::Dns(name) => all.excluded_dns.push(name),
                Base::Net(net) => all.excluded_ips.push(net),
            }
        }
        let lengths = [
            all.permitted_dns.len(),
            all.excluded_dns.len(),
            all.permitted_ips.len(),
            all.excluded_ips.len(),
        ];
        if lengths.iter().any(|length| *length > MAX_SUBTREES) {
            return Err(ConstraintsFault::TooMany);
        }
        Ok(all)
    }
}

enum Base {
    Dns(DnsName),
    Net(IpNet),
}

fn base(tree: &GeneralSubtree) -> Result<Base, ConstraintsFault> {
    if tree.minimum != 0 || tree.maximum.is_some() {
        return Err(ConstraintsFault::Distance);
    }
    match &tree.base {
        GeneralName::DnsName(name) => {
            let text = name.as_str();
            let parsed = text.parse::<DnsName>().ok();
            let parsed = parsed.filter(|name| !name.is_wildcard());
            let wrong = || ConstraintsFault::Dns(text.chars().take(256).collect());
            Ok(Base::Dns(parsed.ok_or_else(wrong)?))
        }
        GeneralName::IpAddress(bytes) => {
            let net = read_network(bytes.as_bytes());
            Ok(Base::Net(net.ok_or(ConstraintsFault::Network)?))
        }
        GeneralName::OtherName(_) => Err(ConstraintsFault::Kind("otherName")),
        GeneralName::Rfc822Name(_) => Err(ConstraintsFault::Kind("e-mail addresses")),
        GeneralName::DirectoryName(_) => Err(ConstraintsFault::Kind("directoryName")),
        GeneralName::EdiPartyName(_) => Err(ConstraintsFault::Kind("ediPartyName")),
        GeneralName::UniformResourceIdentifier(_) => Err(ConstraintsFault::Kind("URIs")),
        GeneralName::RegisteredId(_) => Err(ConstraintsFault::Kind("registeredID")),
    }
}

fn subtree(base: GeneralName) -> GeneralSubtree {
    GeneralSubtree {
        base,
        minimum: 0,
        maximum: None,
    }
}

/// Address and mask (RFC 4632).
fn network(net: IpNet) -> Vec<u8> {
    match net {
        IpNet::V4(net) => [net.network().octets(), net.netmask().octets()].concat(),
        IpNet::V6(net) => [net.network().octets(), net.netmask().octets()].concat(),
    }
}

fn read_network(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .ok()
    };
    let net = IpNet::with_netmask(ip(address)?, ip(mask)?).ok()?;
    // Another spelling of the same, or a mapped network, would be compared otherwise elsewhere.
    (net == mcdsl::cidr::canonical(net)).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraints() -> Constraints {
        Constraints {
            permitted_dns: vec!["example.org".parse().unwrap(), "host".parse().unwrap()],
            excluded_dns: vec!["secret.example.org".parse().unwrap()],
            permitted_ips: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            excluded_ips: vec!["10.1.0.0/16".parse().unwrap()],
        }
    }

    #[test]
    fn names_are_within() {
        for (name, wanted) in [
            ("example.org", true),
            ("a.example.org", true),
            ("*.a.example.org", true),
            ("host", true),
            ("badexample.org", false),
            ("org", false),
            ("secret.example.org", false),
            ("a.secret.example.org", false),
            ("*.secret.example.org", false),
            ("*.example.org", false),
            ("10.2.3.4", true),
            ("10.1.3.4", false),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("spiffe://other/a", false),
            ("spiffe://example.org/a", false),
        ] {
            let allowed = constraints().allow(&name.parse().unwrap());
            assert_eq!(allowed.is_ok(), wanted, "{name}: {allowed:?}");
        }
        let uri = "spiffe://other/a".parse().unwrap();
        assert_eq!(Constraints::default().allow(&uri), Ok(()));
        for (net, wanted) in [
            ("10.2.0.0/16", true),
            ("10.0.0.0/8", true),
            ("10.1.2.0/24", false),
            ("0.0.0.0/0", false),
            ("192.0.2.0/24", false),
            ("2001:db8:1::/48", true),
        ] {
            let allowed = constraints().allow_net(net.parse().unwrap());
            assert_eq!(allowed.is_ok(), wanted, "{net}: {allowed:?}");
        }
    }

    #[test]
    fn they_are_read_as_they_were_written() {
        let made = constraints().extension().unwrap().unwrap();
        assert_eq!(Constraints::of(&made), Ok(constraints()));
        assert!(Constraints::default().extension().unwrap().is_none());
        let of = |base| {
            Constraints::of(&NameConstraints {
                permitted_subtrees: Some(vec![base]),
                excluded_subtrees: None,
            })
        };
        let ia5 = |text: &str| Ia5String::new(text).unwrap();
        let bytes = |bytes: &[u8]| GeneralName::IpAddress(OctetString::new(bytes).unwrap());
        for (description, base) in [
            ("a leading dot", GeneralName::DnsName(ia5(".example.org"))),
            ("a wildcard", GeneralName::DnsName(ia5("*.example.org"))),
            ("nothing", GeneralName::DnsName(ia5(""))),
            (
                "an e-mail address",
                GeneralName::Rfc822Name(ia5("example.org")),
            ),
            ("an address alone", bytes(&[10, 0, 0, 0])),
            ("a mask with holes", bytes(&[10, 0, 0, 0, 255, 0, 255, 0])),
            ("host bits", bytes(&[10, 0, 0, 1, 255, 0, 0, 0])),
            ("an odd length", bytes(&[10, 0, 0])),
        ] {
            assert!(of(subtree(base)).is_err(), "{description}");
        }
        let far = GeneralSubtree {
            minimum: 1,
            ..subtree(GeneralName::DnsName(ia5("example.org")))
        };
        assert_eq!(of(far), Err(ConstraintsFault::Distance));
    }
}
