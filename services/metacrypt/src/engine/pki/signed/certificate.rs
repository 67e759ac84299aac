//! The one function that issues certificates.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use mcdsl::policy::Authorized;
use serde::{Deserialize, Serialize};
use x509_cert::{
    attr::AttributeTypeAndValue,
    certificate::Version,
    der::{
        Encode as _, Sequence, Tag,
        asn1::{Any, Ia5String, ObjectIdentifier, OctetString},
        flagset::FlagSet,
        oid::{
            AssociatedOid,
            db::rfc5280::{ID_AD_CA_ISSUERS, ID_AD_OCSP, ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH},
        },
    },
    ext::{
        Extension,
        pkix::{
            AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
            CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
            SubjectKeyIdentifier,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
    name::{RdnSequence, RelativeDistinguishedName},
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use super::{Refusal, SigningKey, check::check};
use crate::{
    barrier::KeyError,
    engine::pki::{
        constraints::Constraints, issuer::Issuer, name::Names, profile::Profile,
        public_key::PublicKey, serial::Serial, urls::Urls,
    },
};

/// How long before now certificates, CRLs and OCSP responses begin: clocks differ.
pub(in super::super) const BACKDATED: Duration = Duration::from_secs(60);
/// id-at-commonName and id-at-organizationName (RFC 5280 appendix A.1), and the most characters of each.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
pub(super) const MAX_NAME: usize = 64;

/// What a CA is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct CaName {
    common_name: String,
    organization: Option<String>,
}

/// Why a CA is not called that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1 to {MAX_NAME} characters, none of them a control character, and no space at an end")]
pub(in super::super) struct CaNameFault;

impl CaName {
    /// `organization`: none if it is empty.
    pub(in super::super) fn new(
        common_name: &str,
        organization: &str,
    ) -> Result<Self, (&'static str, CaNameFault)> {
        let text = |field, text: &str| {
            let long = text.is_empty() || text.chars().count() > MAX_NAME;
            let bad = text.trim() != text || text.chars().any(char::is_control);
            if long || bad {
                return Err((field, CaNameFault));
            }
            Ok(text.to_owned())
        };
        Ok(Self {
            common_name: text("common_name", common_name)?,
            organization: match organization {
                "" => None,
                organization => Some(text("organization", organization)?),
            },
        })
    }

    /// As certificates have it.
    pub(super) fn rdns(&self) -> x509_cert::der::Result<RdnSequence> {
        let mut rdns = RdnSequence::default();
        if let Some(organization) = &self.organization {
            rdns.push(rdn(ORGANIZATION, organization)?);
        }
        rdns.push(rdn(COMMON_NAME, &self.common_name)?);
        Ok(rdns)
    }
}

fn rdn(oid: ObjectIdentifier, text: &str) -> x509_cert::der::Result<RelativeDistinguishedName> {
    let value = Any::new(Tag::Utf8String, text.as_bytes())?;
    vec![AttributeTypeAndValue { oid, value }].try_into()
}

/// What a certificate is for, and who signs it.
#[derive(Clone, Copy)]
pub(in super::super) enum Subject<'a> {
    /// A CA that signs itself.
    Root {
        /// Of the item that it is to be.
        item: &'a str,
        name: &'a CaName,
        key: &'a SigningKey,
        ttl: Duration,
    },
    /// A CA below another, for leaves alone.
    Issuer {
        /// Of the item that it is to be.
        item: &'a str,
        name: &'a CaName,
        constraints: &'a Constraints,
        key: &'a PublicKey,
        ttl: Option<Duration>,
        under: &'a Issuer,
    },
    /// Whoever has these names.
    Leaf {
        /// The profile's name, and it.
        profile: (&'a str, &'a Profile),
        names: &'a Names,
        key: &'a PublicKey,
        ttl: Option<Duration>,
        under: &'a Issuer,
    },
}

/// A certificate that is wanted.
#[derive(Clone, Copy)]
pub(in super::super) struct Request<'a> {
    pub(in super::super) subject: Subject<'a>,
    /// Where what is to be known of its issuer is told.
    pub(in super::super) urls: Option<&'a Urls>,
    pub(in super::super) now: SystemTime,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(in super::super) struct Issued {
    pub(in super::super) der: Vec<u8>,
    pub(in super::super) serial: Serial,
    pub(in super::super) not_before: SystemTime,
    pub(in super::super) not_after: SystemTime,
}

/// Life of an issuer, if nothing is said: five years.
const ISSUER_TTL: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);

impl<'a> Request<'a> {
    /// Who signs; `None`: it itself.
    pub(super) fn issuer(&self) -> Option<&'a Issuer> {
        match self.subject {
            Subject::Root { .. } => None,
            Subject::Issuer { under, .. } | Subject::Leaf { under, .. } => Some(under),
        }
    }

    pub(super) fn signer(&self) -> &'a SigningKey {
        match self.subject {
            Subject::Root { key, .. } => key,
            Subject::Issuer { under, .. } | Subject::Leaf { under, .. } => under.key(),
        }
    }

    pub(super) fn key(&self) -> &'a PublicKey {
        match self.subject {
            Subject::Root { key, .. } => key.public(),
            Subject::Issuer { key, .. } | Subject::Leaf { key, .. } => key,
        }
    }

    /// What was asked for; what was not asked for ends with the issuer, if that is earlier.
    pub(super) fn validity(&self) -> (SystemTime, SystemTime) {
        let (asked, usual) = match self.subject {
            Subject::Root { ttl, .. } => (Some(ttl), ttl),
            Subject::Issuer { ttl, .. } => (ttl, ISSUER_TTL),
            Subject::Leaf { profile, ttl, .. } => (ttl, Duration::from_secs(profile.1.ttl_s)),
        };
        let mut not_before = self.now - BACKDATED;
        let mut not_after = self.now + asked.unwrap_or(usual);
        if let Some(issuer) = self.issuer() {
            not_before = not_before.max(issuer.not_before());
            if asked.is_none() {
                not_after = not_after.min(issuer.not_after());
            }
        }
        (not_before, not_after)
    }

    fn subject(&self) -> x509_cert::der::Result<RdnSequence> {
        match self.subject {
            Subject::Root { name, .. } | Subject::Issuer { name, .. } => name.rdns(),
            Subject::Leaf { profile, names, .. } => {
                let mut rdns = RdnSequence::default();
                let first = names.first().map(ToString::to_string);
                // A longer one has no place there (ub-common-name); it is among the names.
                let first = first.filter(|name| profile.1.common_name && name.len() <= MAX_NAME);
                if let Some(name) = first {
                    rdns.push(rdn(COMMON_NAME, &name)?);
                }
                Ok(rdns)
            }
        }
    }

    fn extensions(&self) -> x509_cert::der::Result<Vec<Extension>> {
        let mut all = Vec::with_capacity(9);
        let mut add = |extension: x509_cert::der::Result<Extension>| -> x509_cert::der::Result<()> {
            all.push(extension?);
            Ok(())
        };
        if let Some(issuer) = self.issuer() {
            let identifier = AuthorityKeyIdentifier {
                key_identifier: Some(OctetString::new(issuer.key_identifier())?),
                ..AuthorityKeyIdentifier::default()
            };
            add(extension(false, &identifier))?;
        }
        let identifier = OctetString::new(self.key().identifier())?;
        add(extension(false, &SubjectKeyIdentifier(identifier)))?;
        match self.subject {
            Subject::Root { .. } | Subject::Issuer { .. } => {
                let (path_len_constraint, constraints) = match self.subject {
                    Subject::Issuer { constraints, .. } => (Some(0), constraints.extension()?),
                    _ => (None, None),
                };
                let basic = BasicConstraints {
                    ca: true,
                    path_len_constraint,
                };
                add(extension(true, &basic))?;
                add(extension(true, &KeyUsage(ca_usages())))?;
                if let Some(constraints) = constraints {
                    add(extension(true, &constraints))?;
                }
            }
            Subject::Leaf { profile, names, .. } => {
                let usage = KeyUsage(KeyUsages::DigitalSignature.into());
                add(extension(true, &usage))?;
                add(extension(false, &ExtendedKeyUsage(usages(profile.1))))?;
                let general: Result<_, _> = names.iter().map(|name| name.general()).collect();
                // RFC 5280 §4.2.1.6: what alone says whom it is for has to be understood.
                let critical = self.subject()?.is_empty();
                add(extension(critical, &SubjectAltName(general?)))?;
            }
        }
        if let (Some(urls), Some(_)) = (self.urls, self.issuer()) {
            add(extension(false, &distribution(urls)?))?;
            add(extension(false, &access(urls)?))?;
        }
        Ok(all)
    }
}

/// What CAs sign: certificates, CRLs, and OCSP responses themselves.
pub(super) fn ca_usages() -> FlagSet<KeyUsages> {
    KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign
}

/// What leaves of a profile are for.
pub(super) fn usages(profile: &Profile) -> Vec<ObjectIdentifier> {
    let all = [
        (profile.server, ID_KP_SERVER_AUTH),
        (profile.client, ID_KP_CLIENT_AUTH),
    ];
    all.into_iter()
        .filter_map(|(wanted, oid)| wanted.then_some(oid))
        .collect()
}

fn uri(url: &str) -> x509_cert::der::Result<GeneralName> {
    Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(url)?))
}

pub(super) fn distribution(urls: &Urls) -> x509_cert::der::Result<CrlDistributionPoints> {
    let name = DistributionPointName::FullName(vec![uri(&urls.crl)?]);
    Ok(CrlDistributionPoints(vec![DistributionPoint {
        distribution_point: Some(name),
        reasons: None,
        crl_issuer: None,
    }]))
}

pub(super) fn access(urls: &Urls) -> x509_cert::der::Result<AuthorityInfoAccessSyntax> {
    let at = |access_method, url: &str| -> x509_cert::der::Result<_> {
        let access_location = uri(url)?;
        Ok(AccessDescription {
            access_method,
            access_location,
        })
    };
    Ok(AuthorityInfoAccessSyntax(vec![
        at(ID_AD_OCSP, &urls.ocsp)?,
        at(ID_AD_CA_ISSUERS, &urls.issuer)?,
    ]))
}

fn extension<T: AssociatedOid + x509_cert::der::Encode>(
    critical: bool,
    value: &T,
) -> x509_cert::der::Result<Extension> {
    Ok(Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

/// TBSCertificate (RFC 5280 §4.1), to be written alone: it is read by another's type.
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: RdnSequence,
    validity: Validity,
    subject: RdnSequence,
    key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// What is to be signed, in DER.
pub(super) fn write(request: &Request<'_>, serial: &Serial) -> x509_cert::der::Result<Vec<u8>> {
    let subject = request.subject()?;
    let (not_before, not_after) = request.validity();
    let tbs = Tbs {
        version: Version::V3,
        serial: serial.number()?,
        signature: request.signer().algorithm(),
        issuer: match request.issuer() {
            Some(issuer) => issuer.subject().clone().into(),
            None => subject.clone(),
        },
        validity: Validity::new(Time::try_from(not_before)?, Time::try_from(not_after)?),
        subject,
        key: request.key().spki().clone(),
        extensions: request.extensions()?,
    };
    tbs.to_der()
}

/// A certificate for what `allowed` says: it is written, read again, compared in all its fields with profile, issuer and request, and signed if nothing
/// is wrong. Whether there is another of the same serial number is for whoever stores it.
///
/// # Errors
/// [`Refusal`], which names the field of the request.
pub(in super::super) fn issue(
    allowed: &Authorized,
    request: &Request<'_>,
) -> Result<Issued, Refusal> {
    let mut random = [0; Serial::BYTES];
    rand::fill(&mut random).map_err(|_| KeyError::Random)?;
    let serial = Serial::new(random);
    let tbs = write(request, &serial)?;
    check(allowed, request, &tbs)?;
    let (not_before, not_after) = request.validity();
    Ok(Issued {
        der: request.signer().sign(&tbs)?,
        serial,
        not_before,
        not_after,
    })
}
