//! Profiles, authorities and certificates as clients write and read them.

use std::collections::BTreeSet;

use mc_proto::metacrypt::v1 as pb;
use mcdsl::{cidr, policy::Name};

use super::{
    authority::{self, Algorithm, Authority, Kind},
    certificate::{Certificate, Wanted},
    key::{KeyType, SubjectKey},
    principal::{Allowed, Principal},
    profile::{Extension, MAX_ENTRIES, Profile},
    revoked::{Revocation, Whole},
};
use crate::engine::{EngineError, time};

fn field(name: &str, why: impl std::fmt::Display) -> EngineError {
    EngineError::field(name, why)
}

/// The kind that somebody sent.
pub(super) fn kind_of(sent: i32) -> Result<Kind, EngineError> {
    match pb::SshKind::try_from(sent) {
        Ok(pb::SshKind::User) => Ok(Kind::User),
        Ok(pb::SshKind::Host) => Ok(Kind::Host),
        Ok(pb::SshKind::Unspecified) | Err(_) => {
            Err(EngineError::field("kind", "SSH_KIND_USER or SSH_KIND_HOST"))
        }
    }
}

fn kind(kind: Kind) -> i32 {
    match kind {
        Kind::User => pb::SshKind::User,
        Kind::Host => pb::SshKind::Host,
    }
    .into()
}

/// By which function a new key signs.
pub(super) fn algorithm_of(sent: i32) -> Result<Algorithm, EngineError> {
    match pb::SshCaAlgorithm::try_from(sent) {
        Ok(pb::SshCaAlgorithm::Unspecified | pb::SshCaAlgorithm::Ed25519) => Ok(Algorithm::Ed25519),
        Ok(pb::SshCaAlgorithm::EcdsaP256) => Ok(Algorithm::EcdsaP256),
        Err(_) => {
            let why = "SSH_CA_ALGORITHM_ED25519 or SSH_CA_ALGORITHM_ECDSA_P256";
            Err(EngineError::field("algorithm", why))
        }
    }
}

/// Extensions, and what they are called in messages.
const EXTENSIONS: [(Extension, pb::SshExtension); 6] = [
    (Extension::PermitPty, pb::SshExtension::PermitPty),
    (
        Extension::PermitPortForwarding,
        pb::SshExtension::PermitPortForwarding,
    ),
    (
        Extension::PermitAgentForwarding,
        pb::SshExtension::PermitAgentForwarding,
    ),
    (
        Extension::PermitX11Forwarding,
        pb::SshExtension::PermitX11Forwarding,
    ),
    (Extension::PermitUserRc, pb::SshExtension::PermitUserRc),
    (
        Extension::NoTouchRequired,
        pb::SshExtension::NoTouchRequired,
    ),
];

/// Types of keys, and what they are called in messages.
const KEY_TYPES: [(KeyType, pb::SshKeyType); 5] = [
    (KeyType::Ed25519, pb::SshKeyType::Ed25519),
    (KeyType::Ecdsa, pb::SshKeyType::Ecdsa),
    (KeyType::Rsa, pb::SshKeyType::Rsa),
    (KeyType::SkEd25519, pb::SshKeyType::SkEd25519),
    (KeyType::SkEcdsa, pb::SshKeyType::SkEcdsa),
];

/// What messages call so.
fn read<T: Copy + Ord, M: Copy + Into<i32>>(
    field: &str,
    table: &[(T, M)],
    sent: &[i32],
) -> Result<BTreeSet<T>, EngineError> {
    let one = |(at, sent): (usize, &i32)| {
        let found = table.iter().find(|(_, message)| (*message).into() == *sent);
        let wrong = || EngineError::field(&format!("{field}[{at}]"), "no value of the enum");
        found.map(|(value, _)| *value).ok_or_else(wrong)
    };
    sent.iter().enumerate().map(one).collect()
}

/// What messages call that.
fn write<T: Copy + Ord, M: Copy + Into<i32>>(table: &[(T, M)], all: &BTreeSet<T>) -> Vec<i32> {
    let called = table.iter().filter(|(value, _)| all.contains(value));
    called.map(|(_, message)| (*message).into()).collect()
}

fn allowed_of(kind: Kind, field: &str, sent: pb::SshPrincipal) -> Result<Allowed, EngineError> {
    use pb::ssh_principal::What;
    let wrong = |why: &dyn std::fmt::Display| EngineError::field(field, why);
    match sent.what {
        Some(What::Exact(text)) => {
            let principal = Principal::parse(kind, &text).map_err(|why| wrong(&why))?;
            Ok(Allowed::Exact(principal))
        }
        Some(What::Account(true)) => Ok(Allowed::Caller),
        Some(What::Below(text)) => {
            let domain = text.parse().map_err(|why| wrong(&why))?;
            Ok(Allowed::Below(domain))
        }
        Some(What::Account(false)) | None => Err(wrong(&"say `exact`, `account: true` or `below`")),
    }
}

fn allowed(allowed: &Allowed) -> pb::SshPrincipal {
    use pb::ssh_principal::What;
    let what = match allowed {
        Allowed::Exact(principal) => What::Exact(principal.to_string()),
        Allowed::Caller => What::Account(true),
        Allowed::Below(domain) => What::Below(domain.to_string()),
    };
    pb::SshPrincipal { what: Some(what) }
}

/// Too many for one list: said before any is looked at.
fn bounded(field: &str, entries: usize) -> Result<(), EngineError> {
    if entries <= MAX_ENTRIES {
        return Ok(());
    }
    let why = format!("at most {MAX_ENTRIES} entries, not {entries}");
    Err(EngineError::field(field, why))
}

/// The profile that somebody sent for this name.
pub(super) fn profile_of(name: &str, sent: pb::SshProfile) -> Result<Profile, EngineError> {
    let kind = kind_of(sent.kind)?;
    if !sent.name.is_empty() && sent.name != name {
        return Err(field(
            "profile.name",
            "leave it out; the name is in the path",
        ));
    }
    for (name, entries) in [
        ("principals", sent.principals.len()),
        ("extensions", sent.extensions.len()),
        ("source_addresses", sent.source_addresses.len()),
        ("key_types", sent.key_types.len()),
    ] {
        bounded(name, entries)?;
    }
    let mut extensions = read("extensions", &EXTENSIONS, &sent.extensions)?;
    if sent.no_extensions && !extensions.is_empty() {
        return Err(field(
            "no_extensions",
            "extensions are said too; say one of them",
        ));
    }
    if extensions.is_empty() && !sent.no_extensions && kind == Kind::User {
        extensions.insert(Extension::PermitPty);
    }
    let principals = sent.principals.into_iter().enumerate();
    let principals =
        principals.map(|(at, one)| allowed_of(kind, &format!("principals[{at}]"), one));
    let networks = sent.source_addresses.iter().enumerate();
    let networks = networks.map(|(at, text)| {
        cidr::parse(text).map_err(|why| field(&format!("source_addresses[{at}]"), why))
    });
    let mut key_types = read("key_types", &KEY_TYPES, &sent.key_types)?;
    if key_types.is_empty() {
        key_types.extend(KeyType::ALL);
    }
    let profile = Profile {
        name: name.parse().map_err(|why| field("name", why))?,
        kind,
        principals: principals.collect::<Result<_, _>>()?,
        extensions,
        source_addresses: networks.collect::<Result<_, _>>()?,
        force_command: Some(sent.force_command).filter(|command| !command.is_empty()),
        verify_required: sent.verify_required,
        ttl_s: match sent.ttl_s {
            0 => sent.max_ttl_s,
            ttl_s => ttl_s,
        },
        max_ttl_s: sent.max_ttl_s,
        key_types,
    };
    profile.check()?;
    Ok(profile)
}

/// A profile, as clients read it.
pub(super) fn profile(profile: &Profile) -> pb::SshProfile {
    let networks = profile.source_addresses.iter().map(ToString::to_string);
    pb::SshProfile {
        name: profile.name.to_string(),
        kind: kind(profile.kind),
        principals: profile.principals.iter().map(allowed).collect(),
        extensions: write(&EXTENSIONS, &profile.extensions),
        no_extensions: profile.kind == Kind::User && profile.extensions.is_empty(),
        source_addresses: networks.collect(),
        force_command: profile.force_command.clone().unwrap_or_default(),
        verify_required: profile.verify_required,
        ttl_s: profile.ttl_s,
        max_ttl_s: profile.max_ttl_s,
        key_types: write(&KEY_TYPES, &profile.key_types),
    }
}

fn authority_key(key: &authority::Key) -> Result<pb::SshCaKey, EngineError> {
    let ready = key.ready()?;
    let algorithm = match key.algorithm {
        Algorithm::Ed25519 => pb::SshCaAlgorithm::Ed25519,
        Algorithm::EcdsaP256 => pb::SshCaAlgorithm::EcdsaP256,
    };
    Ok(pb::SshCaKey {
        number: key.number,
        algorithm: algorithm.into(),
        created: Some(time(key.made_s).into()),
        public_key: ready.line(),
        fingerprint: ready.fingerprint(),
    })
}

/// An authority, as clients read it.
pub(super) fn ca(of: Kind, authority: &Authority) -> Result<pb::SshCa, EngineError> {
    let keys = authority.keys.iter().map(authority_key);
    Ok(pb::SshCa {
        ca: of.name().to_owned(),
        signing: authority.signing,
        keys: keys.collect::<Result<_, _>>()?,
    })
}

/// A public key that somebody sent.
pub(super) fn key_of(sent: &str) -> Result<SubjectKey, EngineError> {
    SubjectKey::parse(sent).map_err(|why| EngineError::field("public_key", why))
}

/// What somebody wants by a profile of this kind.
pub(super) fn wanted(of: Kind, sent: &pb::SignSshKeyRequest) -> Result<Wanted, EngineError> {
    bounded("principals", sent.principals.len())?;
    let one = |(at, text): (usize, &String)| {
        let field = format!("principals[{at}]");
        Principal::parse(of, text).map_err(|why| EngineError::field(&field, why))
    };
    let principals = sent.principals.iter().enumerate().map(one);
    Ok(Wanted {
        key: key_of(&sent.public_key)?,
        principals: principals.collect::<Result<_, _>>()?,
        ttl_s: sent.ttl_s,
    })
}

/// A certificate, as clients read it.
pub(super) fn certificate(found: Certificate, revoked: bool) -> pb::SshCertificate {
    pb::SshCertificate {
        serial: found.serial,
        profile: found.profile.into(),
        kind: kind(found.kind),
        key_id: found.account.into(),
        principals: found.principals,
        valid_after: Some(time(found.valid_after_s).into()),
        valid_before: Some(time(found.valid_before_s).into()),
        certificate: found.line,
        fingerprint: found.fingerprint,
        ca_fingerprint: found.ca_fingerprint,
        revoked,
    }
}

/// What somebody wants to revoke as a whole.
pub(super) fn whole_of(sent: pb::CreateSshRevocationRequest) -> Result<Whole, EngineError> {
    use pb::create_ssh_revocation_request::What;
    match sent.what {
        Some(What::KeyId(text)) => {
            let name = text.parse::<Name>();
            Ok(Whole::KeyId(
                name.map_err(|why| EngineError::field("key_id", why))?,
            ))
        }
        Some(What::PublicKey(text)) => Ok(Whole::Key(key_of(&text)?.line())),
        None => Err(EngineError::field("key_id", "say this or `public_key`")),
    }
}

/// A revocation, as clients read it.
pub(super) fn revocation(id: &str, found: Revocation) -> pb::SshRevocation {
    use pb::ssh_revocation::What;
    let what = match found.what {
        Whole::KeyId(name) => What::KeyId(name.into()),
        Whole::Key(line) => What::PublicKey(line),
    };
    pb::SshRevocation {
        id: id.to_owned(),
        what: Some(what),
        revoked: Some(time(found.revoked_s).into()),
        certificates: None,
        account_exists: None,
    }
}

#[cfg(test)]
mod tests;
