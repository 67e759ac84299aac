//! From and to what clients send and read.

use std::{str::FromStr, time::Duration};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use mc_proto::metacrypt::v1::{
    AcmeRules as AcmeRulesMessage, CertificateKey, NameConstraints, PkiCertificate, PkiIssuer,
    PkiProfile, RevocationReason,
};
use x509_cert::{Certificate, der::Decode as _};

use crate::engine::{
    EngineError,
    pki::{
        constraints::{Constraints, MAX_SUBTREES},
        name::DnsName,
        pem,
        profile::{AcmeRules, MAX_ENTRIES, Profile},
        public_key::KeyAlgorithm,
        revocation::Reason,
        serial::Serial,
        store::{Of, Record, Settings, StoredIssuer},
    },
    time,
};

/// Of a list each; the first that is none fails the request by its index.
fn all<T, C: FromIterator<T>, E: std::fmt::Display>(
    field: &str,
    texts: &[String],
    most: usize,
    each: impl Fn(&str) -> Result<T, E>,
) -> Result<C, EngineError> {
    if texts.len() > most {
        return Err(EngineError::field(
            field,
            format!("more than {most} entries"),
        ));
    }
    let one = |(index, text): (usize, &String)| {
        each(text).map_err(|e| EngineError::Invalid(format!("{field}[{index}]: {e}")))
    };
    texts.iter().enumerate().map(one).collect()
}

fn exact(text: &str) -> Result<DnsName, String> {
    let name: DnsName = text.parse().map_err(|e| format!("{e}"))?;
    match name.is_wildcard() {
        true => Err("no wildcard here".to_owned()),
        false => Ok(name),
    }
}

pub(super) fn key_algorithm(sent: i32) -> Option<KeyAlgorithm> {
    match CertificateKey::try_from(sent) {
        Ok(CertificateKey::Ed25519) => Some(KeyAlgorithm::Ed25519),
        Ok(CertificateKey::EcdsaP256) => Some(KeyAlgorithm::EcdsaP256),
        Ok(CertificateKey::EcdsaP384) => Some(KeyAlgorithm::EcdsaP384),
        Ok(CertificateKey::Rsa) => Some(KeyAlgorithm::Rsa),
        Ok(CertificateKey::Unspecified) | Err(_) => None,
    }
}

/// Of a key that is made here.
pub(super) fn made_algorithm(sent: i32) -> Result<KeyAlgorithm, EngineError> {
    let made = key_algorithm(sent).filter(|algorithm| *algorithm != KeyAlgorithm::Rsa);
    let which = "Ed25519, ECDSA P-256 or P-384 keys are made here; an RSA key is made elsewhere, and certified by a request (PKCS #10)";
    made.ok_or_else(|| EngineError::field("key_algorithm", which))
}

fn key_message(algorithm: KeyAlgorithm) -> CertificateKey {
    match algorithm {
        KeyAlgorithm::Ed25519 => CertificateKey::Ed25519,
        KeyAlgorithm::EcdsaP256 => CertificateKey::EcdsaP256,
        KeyAlgorithm::EcdsaP384 => CertificateKey::EcdsaP384,
        KeyAlgorithm::Rsa => CertificateKey::Rsa,
    }
}

pub(super) fn reason(sent: i32) -> Result<Reason, EngineError> {
    match RevocationReason::try_from(sent) {
        Ok(RevocationReason::Unspecified) => Ok(Reason::Unspecified),
        Ok(RevocationReason::KeyCompromise) => Ok(Reason::KeyCompromise),
        Ok(RevocationReason::CaCompromise) => Ok(Reason::CaCompromise),
        Ok(RevocationReason::AffiliationChanged) => Ok(Reason::AffiliationChanged),
        Ok(RevocationReason::Superseded) => Ok(Reason::Superseded),
        Ok(RevocationReason::CessationOfOperation) => Ok(Reason::CessationOfOperation),
        Ok(RevocationReason::PrivilegeWithdrawn) => Ok(Reason::PrivilegeWithdrawn),
        Err(_) => Err(EngineError::field("reason", "there is no such reason")),
    }
}

fn reason_message(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::CaCompromise => RevocationReason::CaCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        Reason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
    }
}

/// A life; nothing said: `None`.
pub(super) fn ttl(seconds: u64) -> Option<Duration> {
    // More than any may be, and less than what cannot be added to a time.
    let seconds = seconds.min(u64::from(u32::MAX));
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

pub(super) fn constraints(sent: Option<NameConstraints>) -> Result<Constraints, EngineError> {
    let sent = sent.unwrap_or_default();
    let most = MAX_SUBTREES;
    let net = |text: &str| mcdsl::cidr::parse(text);
    Ok(Constraints {
        permitted_dns: all(
            "constraints.permitted_dns",
            &sent.permitted_dns,
            most,
            exact,
        )?,
        excluded_dns: all("constraints.excluded_dns", &sent.excluded_dns, most, exact)?,
        permitted_ips: all("constraints.permitted_ips", &sent.permitted_ips, most, net)?,
        excluded_ips: all("constraints.excluded_ips", &sent.excluded_ips, most, net)?,
    })
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

fn constraints_message(of: &Constraints) -> Option<NameConstraints> {
    (!of.is_empty()).then(|| NameConstraints {
        permitted_dns: texts(&of.permitted_dns),
        excluded_dns: texts(&of.excluded_dns),
        permitted_ips: texts(&of.permitted_ips),
        excluded_ips: texts(&of.excluded_ips),
    })
}

/// A CA, as clients read it.
pub(super) fn issuer(
    name: &str,
    stored: &StoredIssuer,
    settings: &Settings,
) -> Result<PkiIssuer, EngineError> {
    let chain = stored.chain()?;
    let der = chain.first().map(Vec::as_slice).unwrap_or_default();
    let certificate = Certificate::from_der(der)?;
    let tbs = certificate.tbs_certificate();
    let constraints = tbs.get_extension::<x509_cert::ext::pkix::NameConstraints>()?;
    let constraints = constraints.and_then(|(_, all)| Constraints::of(&all).ok());
    let hash = digest::digest(&digest::SHA256, der);
    Ok(PkiIssuer {
        name: name.to_owned(),
        subject: tbs.subject().to_string(),
        key_algorithm: key_message(stored.algorithm).into(),
        root: chain.len() == 1,
        under: stored.under.clone().unwrap_or_default(),
        not_before: Some(tbs.validity().not_before.to_system_time().into()),
        not_after: Some(tbs.validity().not_after.to_system_time().into()),
        constraints: constraints_message(&constraints.unwrap_or_default()),
        default: settings.default.as_deref() == Some(name),
        disabled: stored.disabled,
        chain: pem::chain(&chain)?,
        fingerprint: HEXLOWER.encode(hash.as_ref()),
        serial: stored
            .serial
            .as_ref()
            .map(Serial::to_string)
            .unwrap_or_default(),
        revoked: stored
            .revoked
            .map(|revocation| time(revocation.at_s).into()),
    })
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

/// A profile, as it was sent.
pub(super) fn profile(sent: &PkiProfile) -> Result<Profile, EngineError> {
    let most = MAX_ENTRIES;
    let net = |text: &str| mcdsl::cidr::parse(text);
    let key = |(index, sent): (usize, &i32)| {
        let field =
            || format!("key_algorithms[{index}]: write Ed25519, ECDSA P-256, ECDSA P-384 or RSA");
        key_algorithm(*sent).ok_or_else(|| EngineError::Invalid(field()))
    };
    let keys = sent.key_algorithms.iter().enumerate().take(most);
    let profile = Profile {
        issuer: sent.issuer.clone(),
        dns_names: all("dns_names", &sent.dns_names, most, exact)?,
        dns_suffixes: all("dns_suffixes", &sent.dns_suffixes, most, exact)?,
        wildcards: sent.wildcards,
        ip_networks: all("ip_networks", &sent.ip_networks, most, net)?,
        uris: all("uris", &sent.uris, most, parsed)?,
        uri_prefixes: all("uri_prefixes", &sent.uri_prefixes, most, parsed)?,
        server: sent.server,
        client: sent.client,
        key_algorithms: keys.map(key).collect::<Result<_, _>>()?,
        common_name: sent.common_name,
        ttl_s: match sent.ttl_s {
            0 => sent.max_ttl_s,
            ttl_s => ttl_s,
        },
        max_ttl_s: sent.max_ttl_s,
        acme: match &sent.acme {
            None => None,
            Some(acme) => Some(AcmeRules {
                description: acme.description.clone(),
                networks: all("acme.networks", &acme.networks, most, net)?,
            }),
        },
    };
    profile
        .check()
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    Ok(profile)
}

/// A profile, as clients read it.
pub(super) fn profile_message(name: &str, profile: Profile) -> PkiProfile {
    let keys = profile.key_algorithms.into_iter();
    PkiProfile {
        name: name.to_owned(),
        issuer: profile.issuer,
        dns_names: texts(profile.dns_names),
        dns_suffixes: texts(profile.dns_suffixes),
        wildcards: profile.wildcards,
        ip_networks: texts(profile.ip_networks),
        uris: texts(profile.uris),
        uri_prefixes: texts(profile.uri_prefixes),
        server: profile.server,
        client: profile.client,
        key_algorithms: keys.map(|key| key_message(key).into()).collect(),
        common_name: profile.common_name,
        ttl_s: profile.ttl_s,
        max_ttl_s: profile.max_ttl_s,
        acme: profile.acme.map(|acme| AcmeRulesMessage {
            description: acme.description,
            networks: texts(acme.networks),
        }),
    }
}

/// A certificate, as clients read it.
pub(super) fn certificate(serial: &Serial, record: &Record) -> Result<PkiCertificate, EngineError> {
    let revoked = record.revoked;
    let reason = revoked.map(|revoked| reason_message(revoked.reason));
    Ok(PkiCertificate {
        serial: serial.to_string(),
        certificate: pem::encode(pem::CERTIFICATE, &record.der()?)?,
        profile: match &record.of {
            Of::Profile(name) => name.clone(),
            Of::Issuer(_) => String::new(),
        },
        ca: match &record.of {
            Of::Profile(_) => String::new(),
            Of::Issuer(name) => name.clone(),
        },
        issuer: record.issuer.clone(),
        names: texts(record.names.iter().flat_map(|names| names.iter())),
        not_before: Some(time(record.not_before_s).into()),
        not_after: Some(time(record.not_after_s).into()),
        account: record.account.clone(),
        account_name: record.account_name.clone(),
        renews: record
            .renews
            .as_ref()
            .map(Serial::to_string)
            .unwrap_or_default(),
        revoked: revoked.map(|revocation| time(revocation.at_s).into()),
        reason: reason.map(Into::into),
        issuer_revoked: None,
    })
}
