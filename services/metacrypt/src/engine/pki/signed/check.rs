//! What is looked at before a certificate is signed: all that it says, as its readers will read it.

use std::{
    collections::BTreeSet,
    fmt::Display,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcdsl::{human, policy::Authorized};
use x509_cert::{
    TbsCertificate,
    certificate::Version,
    der::{Decode, Encode, asn1::ObjectIdentifier, oid::AssociatedOid},
    ext::{
        Extension,
        pkix::{
            AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
            CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints,
            SubjectAltName, SubjectKeyIdentifier,
        },
    },
};

use super::{
    Refusal,
    certificate::{BACKDATED, MAX_NAME, Request, Subject, access, ca_usages, distribution, usages},
};
use crate::engine::{
    Act,
    pki::{
        CERTIFYING, ISSUERS, PROFILES, action,
        constraints::Constraints,
        issuer::Issuer,
        name::{AltName, Names},
        profile::{MIN_TTL_S, Profile},
        public_key::{KeyAlgorithm, PublicKey},
        serial::Serial,
    },
};

/// Longest life of a root: thirty years.
pub(in super::super) const MAX_ROOT_S: u64 = 30 * 365 * 24 * 60 * 60;
/// The shortest of a CA.
const MIN_CA_S: u64 = 3600;

/// The extensions that were not looked at yet.
struct Extensions<'a>(Vec<&'a Extension>);

impl<'a> Extensions<'a> {
    /// The one of this type, whether it is critical, and what it says.
    fn take<T: AssociatedOid + Encode + Decode<'a, Error = x509_cert::der::Error>>(
        &mut self,
    ) -> Result<Option<(bool, T)>, Refusal> {
        let Some(at) = self.0.iter().position(|e| e.extn_id == T::OID) else {
            return Ok(None);
        };
        let found = self.0.swap_remove(at);
        if self.0.iter().any(|e| e.extn_id == T::OID) {
            return Err(Refusal::flaw(format!("the extension {} twice", T::OID)));
        }
        let bytes = found.extn_value.as_bytes();
        let value = T::from_der(bytes)?;
        // Some readers take more than one spelling.
        is(
            value.to_der()? == bytes,
            format_args!("the encoding of the extension {}", T::OID),
        )?;
        Ok(Some((found.critical, value)))
    }

    /// That there is one of this type which says this, and is critical or not.
    fn says<T: AssociatedOid + Encode + PartialEq + Decode<'a, Error = x509_cert::der::Error>>(
        &mut self,
        critical: bool,
        wanted: &T,
    ) -> Result<(), Refusal> {
        let found = self.take::<T>()?;
        is(
            found.is_some_and(|(is, value)| is == critical && value == *wanted),
            format_args!("the extension {}", T::OID),
        )
    }
}

/// It is as it should be; else what was written is wrong, whatever was asked for.
fn is(good: bool, what: impl Display) -> Result<(), Refusal> {
    match good {
        true => Ok(()),
        false => Err(Refusal::flaw(what)),
    }
}

/// A request that cannot be.
fn asked(good: bool, field: &'static str, why: impl FnOnce() -> String) -> Result<(), Refusal> {
    match good {
        true => Ok(()),
        false => Err(Refusal::Request(field, why())),
    }
}

/// # Errors
/// The first thing that is not as profile, issuer and request have it.
pub(super) fn check(
    allowed: &Authorized,
    request: &Request<'_>,
    der: &[u8],
) -> Result<(), Refusal> {
    authorised(allowed, &request.subject)?;
    let tbs = TbsCertificate::from_der(der)?;
    is(tbs.to_der()? == der, "the encoding")?;
    is(tbs.version() == Version::V3, "the version")?;
    let serial = tbs.serial_number().as_bytes();
    is(Serial::of(serial).is_some(), "the serial number")?;
    is(
        *tbs.signature() == request.signer().algorithm(),
        "the signature's algorithm",
    )?;
    let key = tbs.subject_public_key_info();
    is(key == request.key().spki(), "the public key")?;
    let key = PublicKey::new(key.clone()).map_err(|e| Refusal::Request("key", e.to_string()))?;
    let unique = tbs.issuer_unique_id().is_some() || tbs.subject_unique_id().is_some();
    is(!unique, "a unique identifier")?;
    if let Some(issuer) = request.issuer() {
        is(tbs.issuer() == issuer.subject(), "the issuer")?;
        is(
            !tbs.subject().is_empty() || matches!(request.subject, Subject::Leaf { .. }),
            "the subject",
        )?;
        is(
            tbs.subject() != issuer.subject(),
            "a subject that is its issuer",
        )?;
    } else {
        is(
            tbs.issuer() == tbs.subject() && !tbs.subject().is_empty(),
            "the issuer",
        )?;
    }
    check_life(request, &tbs)?;

    let all = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    let mut extensions = Extensions(all.iter().collect());
    let identifier = extensions.take::<SubjectKeyIdentifier>()?;
    let identifier = identifier.filter(|(critical, _)| !critical);
    is(
        identifier.is_some_and(|(_, id)| id.0.as_bytes() == key.identifier()),
        "the subject's key identifier",
    )?;
    check_issuer(request, &mut extensions)?;
    match request.subject {
        Subject::Root { .. } => check_ca(None, None, &key, &mut extensions)?,
        Subject::Issuer {
            constraints, under, ..
        } => {
            asked(under.may_have_issuers(), "under", || {
                "no CA may be below this issuer (its path length); make it below a root".to_owned()
            })?;
            check_ca(Some(0), Some(constraints), &key, &mut extensions)?;
        }
        Subject::Leaf {
            profile: (_, profile),
            names,
            under,
            ..
        } => {
            check_subject(profile, names, &tbs)?;
            check_leaf(
                profile,
                names,
                under,
                &key,
                tbs.subject().is_empty(),
                &mut extensions,
            )?;
        }
    }
    let rest = extensions.0.first().map(|e| e.extn_id);
    is(rest.is_none(), format_args!("the extension {rest:?}"))
}

/// That what was judged is what is done.
fn authorised(allowed: &Authorized, subject: &Subject<'_>) -> Result<(), Refusal> {
    let (place, item, actions): (_, _, &[Act]) = match subject {
        Subject::Root { item, .. } | Subject::Issuer { item, .. } => {
            (ISSUERS, item, &[action::CREATE_ISSUER])
        }
        Subject::Leaf { profile, .. } => (PROFILES, &profile.0, CERTIFYING),
    };
    let path: Vec<_> = allowed.resource().name.as_str().split('/').collect();
    let here = matches!(path[..], [_, of, name] if of == place && name == *item);
    let this = actions.iter().any(|act| act.0 == allowed.action().as_str());
    is(here && this, "what it was allowed for")
}

fn check_life(request: &Request<'_>, tbs: &TbsCertificate) -> Result<(), Refusal> {
    let begin: SystemTime = tbs.validity().not_before.to_system_time();
    let end: SystemTime = tbs.validity().not_after.to_system_time();
    let now = request.now;
    let ttl = |seconds: u64| Duration::from_secs(seconds);
    let (least, most) = match request.subject {
        Subject::Root { .. } | Subject::Issuer { .. } => (ttl(MIN_CA_S), ttl(MAX_ROOT_S)),
        Subject::Leaf { profile, .. } => (ttl(MIN_TTL_S), profile.1.max_ttl()),
    };
    if let Some(issuer) = request.issuer() {
        let left = issuer.not_after().duration_since(now).unwrap_or_default();
        if left < least || now < issuer.not_before() {
            return Err(Refusal::Precondition(format!(
                "the issuer {:?} is not valid now, or not for long enough; make another one",
                issuer.name()
            )));
        }
    }
    let life = end.duration_since(now).unwrap_or_default();
    // Whole seconds, again.
    let life = Duration::from_secs(life.as_secs() + u64::from(life.subsec_nanos() > 0));
    asked((least..=most).contains(&life), "ttl_s", || {
        format!(
            "{} to {} seconds, or nothing (as the profile says)",
            least.as_secs(),
            most.as_secs()
        )
    })?;
    if let Some(issuer) = request.issuer() {
        let name = issuer.name();
        let left = issuer.not_after().duration_since(now).unwrap_or_default();
        asked(end <= issuer.not_after(), "ttl_s", || {
            let left = human::duration(Duration::from_secs(left.as_secs()));
            format!("the issuer {name:?} ends in {left}; ask for less, or have another issuer")
        })?;
        is(begin >= issuer.not_before(), "a begin before its issuer's")?;
    }
    // Whole seconds: what begins, begins a moment before.
    let early = now - BACKDATED - Duration::from_secs(1);
    is((early..=now).contains(&begin) && begin < end, "its begin")?;
    let whole = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let (from, to) = request.validity();
    let same = (whole(begin), whole(end)) == (whole(from), whole(to));
    is(same, "its begin or end")?;
    Ok(())
}

/// What names the issuer.
fn check_issuer(request: &Request<'_>, extensions: &mut Extensions<'_>) -> Result<(), Refusal> {
    let found = extensions.take::<AuthorityKeyIdentifier>()?;
    match (request.issuer(), found) {
        (None, None) => {}
        (Some(issuer), Some((false, id))) => {
            let named = id.key_identifier.as_ref().map(|id| id.as_bytes());
            let alone =
                id.authority_cert_issuer.is_none() && id.authority_cert_serial_number.is_none();
            is(
                named == Some(issuer.key_identifier()) && alone,
                "the issuer's key identifier",
            )?;
        }
        _ => return Err(Refusal::flaw("the issuer's key identifier")),
    }
    if let (Some(urls), Some(_)) = (request.urls, request.issuer()) {
        extensions.says::<CrlDistributionPoints>(false, &distribution(urls)?)?;
        extensions.says::<AuthorityInfoAccessSyntax>(false, &access(urls)?)?;
    }
    Ok(())
}

fn check_ca(
    path_len_constraint: Option<u8>,
    wanted: Option<&Constraints>,
    key: &PublicKey,
    extensions: &mut Extensions<'_>,
) -> Result<(), Refusal> {
    asked(key.algorithm() != KeyAlgorithm::Rsa, "algorithm", || {
        "CAs have Ed25519, ECDSA P-256 or ECDSA P-384 keys".to_owned()
    })?;
    let basic = BasicConstraints {
        ca: true,
        path_len_constraint,
    };
    extensions.says(true, &basic)?;
    extensions.says(true, &KeyUsage(ca_usages()))?;
    let found = match extensions.take::<NameConstraints>()? {
        None => Constraints::default(),
        Some((true, found)) => Constraints::of(&found).map_err(Refusal::flaw)?,
        Some((false, _)) => return Err(Refusal::flaw("name constraints that are not critical")),
    };
    is(
        found == wanted.cloned().unwrap_or_default(),
        "the name constraints",
    )
}

fn check_subject(profile: &Profile, names: &Names, tbs: &TbsCertificate) -> Result<(), Refusal> {
    let first = names.first().map(ToString::to_string);
    let wanted = first.filter(|name| profile.common_name && name.len() <= MAX_NAME);
    let common_name = tbs.subject().common_name()?;
    let found = common_name.as_ref().map(|name| name.value());
    let alone = tbs.subject().iter().count() == usize::from(wanted.is_some());
    is(
        found.as_deref() == wanted.as_deref() && alone,
        "the subject",
    )
}

fn check_leaf(
    profile: &Profile,
    names: &Names,
    under: &Issuer,
    key: &PublicKey,
    nameless: bool,
    extensions: &mut Extensions<'_>,
) -> Result<(), Refusal> {
    if under.is_root() {
        return Err(Refusal::Precondition(format!(
            "{:?} is a root, which signs issuers alone; make an issuer below it and name it in the profile",
            under.name()
        )));
    }
    asked(
        profile.key_algorithms.contains(&key.algorithm()),
        "key",
        || {
            let all: Vec<_> = profile
                .key_algorithms
                .iter()
                .map(ToString::to_string)
                .collect();
            format!(
                "the profile does not take {} keys; it takes {}",
                key.algorithm(),
                all.join(", ")
            )
        },
    )?;
    extensions.says(true, &KeyUsage(KeyUsages::DigitalSignature.into()))?;
    let purposes: Vec<ObjectIdentifier> = usages(profile);
    is(!purposes.is_empty(), "no purpose")?;
    if !purposes.iter().all(|purpose| under.may_be_for(*purpose)) {
        return Err(Refusal::Precondition(format!(
            "the issuer {:?} is not for all that the profile is for (its extended key usage)",
            under.name()
        )));
    }
    extensions.says(false, &ExtendedKeyUsage(purposes))?;

    let found = extensions.take::<SubjectAltName>()?;
    let found = found.filter(|(critical, _)| *critical == nameless);
    let found = found.ok_or_else(|| Refusal::flaw("the names"))?.1;
    let found: Vec<_> = found
        .0
        .iter()
        .map(AltName::certified)
        .collect::<Result<_, _>>()
        .map_err(Refusal::flaw)?;
    let wanted: BTreeSet<_> = names.iter().collect();
    let same = found.len() == wanted.len() && found.iter().all(|name| wanted.contains(name));
    is(same && !found.is_empty(), "the names")?;
    let others: Vec<_> = found.iter().filter(|name| !profile.allows(name)).collect();
    asked(others.is_empty(), "names", || {
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        format!(
            "the profile does not allow {}; it allows {}",
            others.join(", "),
            profile.allowed()
        )
    })?;
    let outside = found.iter().filter_map(|name| under.permits(name).err());
    let outside: Vec<_> = outside.map(|fault| fault.to_string()).collect();
    asked(outside.is_empty(), "names", || outside.join("; "))
}
