//! Issuers: CAs with their keys, ready to sign.

use std::{fmt, time::SystemTime};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use x509_cert::{
    Certificate,
    der::{
        Decode as _, Encode as _,
        asn1::{AnyRef, BitStringRef, ObjectIdentifier},
        oid::{AssociatedOid, db::rfc5280::ANY_EXTENDED_KEY_USAGE},
    },
    ext::pkix::{
        AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
        ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectKeyIdentifier,
    },
    name::Name,
    spki::AlgorithmIdentifierOwned,
};

use super::{
    constraints::{Constraints, ConstraintsFault, Outside},
    name::AltName,
    public_key::{KeyFault, PublicKey},
    signed::SigningKey,
};

/// Most certificates above one.
pub(crate) const MAX_CHAIN: usize = 5;
/// Longest certificate that is imported.
pub(crate) const MAX_CERTIFICATE: usize = 64 << 10;

/// Why certificates and a key make no issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssuerFault {
    #[error("certificate {0} is none (RFC 5280): {1}")]
    Form(usize, String),
    #[error("certificate {0}: {1}")]
    Key(usize, KeyFault),
    #[error("certificate {0}: {1}")]
    Constraints(usize, ConstraintsFault),
    #[error(
        "certificate {0} is no CA's: it needs basicConstraints with CA and keyUsage with keyCertSign and cRLSign"
    )]
    NoCa(usize),
    #[error("certificate {0} has no subject or no subject key identifier")]
    Nameless(usize),
    #[error("certificate {0} has the critical extension {1}, which is not understood here")]
    Critical(usize, ObjectIdentifier),
    #[error("certificate {0} is not signed by certificate {1}, which has to be its issuer's")]
    Link(usize, usize),
    #[error("certificate {0} allows fewer CAs below it (its path length)")]
    PathLength(usize),
    #[error("the last certificate is no root (signed by itself); send the chain up to it")]
    NoRoot,
    #[error("more than {MAX_CHAIN} certificates")]
    TooMany,
    #[error("the private key is not that of the certificate")]
    OtherKey,
}

/// What a CA is known by for ever: hashes of its key and of its subject, in hexadecimal. No other CA has its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct IssuerId(String);

impl IssuerId {
    /// Digits of each hash: 128 bits.
    const PART: usize = 32;

    fn new(link: &Link) -> x509_cert::der::Result<Self> {
        let key = link.key.spki().to_der()?;
        let parts = [key, link.subject().to_der()?].map(|der| {
            let hash = digest::digest(&digest::SHA256, &der);
            HEXLOWER.encode(&hash.as_ref()[..Self::PART / 2])
        });
        Ok(Self(parts.concat()))
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is its text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    /// Whether both are of one key.
    pub(crate) fn has_key_of(&self, other: &Self) -> bool {
        let key = |id: &Self| id.0.get(..Self::PART).map(str::to_owned);
        key(self) == key(other)
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A CA's certificate, looked at.
struct Link {
    certificate: Certificate,
    key: PublicKey,
    constraints: Constraints,
    key_identifier: Vec<u8>,
    path_len: Option<u8>,
    usages: Option<Vec<ObjectIdentifier>>,
}

/// What the signature is over, as it was written.
#[derive(x509_cert::der::Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

impl Link {
    /// The certificate at `at` of a chain.
    fn new(at: usize, der: &[u8]) -> Result<Self, IssuerFault> {
        let form = |why: x509_cert::der::Error| IssuerFault::Form(at, why.to_string());
        if der.len() > MAX_CERTIFICATE {
            let why = format!("it is longer than {MAX_CERTIFICATE} bytes");
            return Err(IssuerFault::Form(at, why));
        }
        let certificate = Certificate::from_der(der).map_err(form)?;
        let tbs = certificate.tbs_certificate();
        for extension in tbs.extensions().into_iter().flatten() {
            if extension.critical && !KNOWN.contains(&extension.extn_id) {
                return Err(IssuerFault::Critical(at, extension.extn_id));
            }
        }
        let basic = tbs.get_extension::<BasicConstraints>().map_err(form)?;
        let usage = tbs.get_extension::<KeyUsage>().map_err(form)?;
        let signs = usage.is_some_and(|(_, usage)| usage.key_cert_sign() && usage.crl_sign());
        let basic = basic.filter(|(_, basic)| basic.ca && signs);
        let (_, basic) = basic.ok_or(IssuerFault::NoCa(at))?;
        let identifier = tbs.get_extension::<SubjectKeyIdentifier>().map_err(form)?;
        let identifier = identifier.filter(|_| !tbs.subject().is_empty());
        let (_, identifier) = identifier.ok_or(IssuerFault::Nameless(at))?;
        let key = PublicKey::new(tbs.subject_public_key_info().clone());
        let key = key.map_err(|e| IssuerFault::Key(at, e))?;
        let constraints = tbs.get_extension::<NameConstraints>().map_err(form)?;
        let constraints = constraints.map(|(_, c)| Constraints::of(&c)).transpose();
        let constraints = constraints.map_err(|e| IssuerFault::Constraints(at, e))?;
        let usages = tbs.get_extension::<ExtendedKeyUsage>().map_err(form)?;
        Ok(Self {
            key,
            constraints: constraints.unwrap_or_default(),
            key_identifier: identifier.0.as_bytes().to_vec(),
            path_len: basic.path_len_constraint,
            usages: usages.map(|(_, usages)| usages.0),
            certificate,
        })
    }

    fn subject(&self) -> &Name {
        self.certificate.tbs_certificate().subject()
    }

    /// Whether `self` signed the certificate `der`, which was parsed as `below`.
    fn signed(&self, below: &Certificate, der: &[u8]) -> bool {
        let tbs = below.tbs_certificate();
        let verified = || {
            let signed = Signed::from_der(der).ok()?;
            let same = signed.algorithm == *tbs.signature();
            let tbs = signed.tbs.to_der().ok()?;
            let signature = signed.signature.as_bytes()?;
            let verified = self.key.verifies(&signed.algorithm, &tbs, signature);
            (same && verified).then_some(())
        };
        tbs.issuer() == self.subject() && verified().is_some()
    }
}

/// Critical extensions that are heeded here.
const KNOWN: [ObjectIdentifier; 8] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    NameConstraints::OID,
    ExtendedKeyUsage::OID,
    SubjectKeyIdentifier::OID,
    AuthorityKeyIdentifier::OID,
    CrlDistributionPoints::OID,
    AuthorityInfoAccessSyntax::OID,
];

/// A CA that can sign.
pub(crate) struct Issuer {
    name: String,
    id: IssuerId,
    /// It, and those above it up to the root, in DER.
    chain: Vec<Vec<u8>>,
    /// Likewise.
    links: Vec<Link>,
    key: SigningKey,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Issuer {
    /// Of a certificate, those above it up to the root, and its private key, all of which are compared with one another.
    pub(crate) fn new(
        name: &str,
        chain: Vec<Vec<u8>>,
        key: SigningKey,
    ) -> Result<Self, IssuerFault> {
        if chain.len() > MAX_CHAIN {
            return Err(IssuerFault::TooMany);
        }
        let links: Vec<_> = chain
            .iter()
            .enumerate()
            .map(|(at, der)| Link::new(at, der))
            .collect::<Result<_, _>>()?;
        let (Some(first), Some(last)) = (links.first(), links.last()) else {
            return Err(IssuerFault::Form(0, "there is none".to_owned()));
        };
        if first.key != *key.public() {
            return Err(IssuerFault::OtherKey);
        }
        for (at, (link, der)) in links.iter().zip(&chain).enumerate() {
            if let Some(above) = links.get(at + 1)
                && !above.signed(&link.certificate, der)
            {
                return Err(IssuerFault::Link(at, at + 1));
            }
            // CAs between it and a leaf.
            if link.path_len.is_some_and(|most| usize::from(most) < at) {
                return Err(IssuerFault::PathLength(at));
            }
        }
        if !chain
            .last()
            .is_some_and(|der| last.signed(&last.certificate, der))
        {
            return Err(IssuerFault::NoRoot);
        }
        let life = |link: &Link| *link.certificate.tbs_certificate().validity();
        let begins = links
            .iter()
            .map(|link| life(link).not_before.to_system_time());
        let ends = links
            .iter()
            .map(|link| life(link).not_after.to_system_time());
        let id = IssuerId::new(first).map_err(|e| IssuerFault::Form(0, e.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            id,
            not_before: begins.max().unwrap_or(SystemTime::UNIX_EPOCH),
            not_after: ends.min().unwrap_or(SystemTime::UNIX_EPOCH),
            chain,
            links,
            key,
        })
    }

    /// The item's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is known by, whatever it is called.
    pub(crate) fn id(&self) -> &IssuerId {
        &self.id
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// It, and those above it up to the root, in DER.
    pub(crate) fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    fn link(&self) -> &Link {
        // There is one, by construction.
        &self.links[0]
    }

    /// What certificates name as their issuer.
    pub(crate) fn subject(&self) -> &Name {
        self.link().subject()
    }

    /// What it is known by.
    pub(crate) fn key_identifier(&self) -> &[u8] {
        &self.link().key_identifier
    }

    /// When the last of its chain begins.
    pub(crate) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the first of its chain ends.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether it signed itself.
    pub(crate) fn is_root(&self) -> bool {
        self.links.len() == 1
    }

    /// Whether CAs may be below it.
    pub(crate) fn may_have_issuers(&self) -> bool {
        let room =
            |(at, link): (usize, &Link)| link.path_len.is_none_or(|most| usize::from(most) > at);
        self.links.iter().enumerate().all(room)
    }

    /// Whether what it signs may be for this.
    pub(crate) fn may_be_for(&self, purpose: ObjectIdentifier) -> bool {
        self.links.iter().all(|link| {
            let for_it = |oid: &ObjectIdentifier| *oid == purpose || *oid == ANY_EXTENDED_KEY_USAGE;
            link.usages
                .as_ref()
                .is_none_or(|all| all.iter().any(for_it))
        })
    }

    /// Whether what it signs may be for addresses of all of this network.
    pub(crate) fn permits_net(&self, net: IpNet) -> Result<(), Outside> {
        self.links
            .iter()
            .try_for_each(|link| link.constraints.allow_net(net))
    }

    /// Whether what it signs may have this name.
    pub(crate) fn permits(&self, name: &AltName) -> Result<(), Outside> {
        self.links
            .iter()
            .try_for_each(|link| link.constraints.allow(name))
    }
}
