//! Certificates (OpenSSH's PROTOCOL.certkeys), and the one function that signs one.
//!
//! What is to be signed is written here and read again by another implementation; what that reads is compared with what was allowed, and nothing else is signed.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use mcdsl::policy::{Authorized, Name};
use serde::{Deserialize, Serialize};
use ssh_key::{Certificate as Read, certificate::CertType, public::PublicKey};

use super::{
    action,
    authority::{Kind, Ready},
    key::SubjectKey,
    principal::Principal,
    profile::{Options, Profile},
    wire::Wire,
};
use crate::engine::EngineError;

/// Bytes of a nonce, as OpenSSH makes them.
pub(super) const NONCE: usize = 32;
/// Seconds by which a machine's clock may be behind.
const BACKDATED_S: u64 = 60;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) key: SubjectKey,
    pub(super) principals: BTreeSet<Principal>,
    /// 0: as the profile says.
    pub(super) ttl_s: u64,
}

/// What a certificate has of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Not 0, which no list of revoked ones could have.
    pub(super) serial: u64,
    pub(super) nonce: [u8; NONCE],
    pub(super) now_s: u64,
}

/// A certificate, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Certificate {
    pub(super) serial: u64,
    pub(super) profile: Name,
    pub(super) kind: Kind,
    /// Who asked for it: its key id.
    pub(super) account: Name,
    pub(super) principals: Vec<String>,
    pub(super) valid_after_s: u64,
    pub(super) valid_before_s: u64,
    /// As in a `-cert.pub` file.
    pub(super) line: String,
    /// Of the key that was signed.
    pub(super) fingerprint: String,
    pub(super) ca_fingerprint: String,
    /// The key that signed it, as SSH writes it, in Base64.
    pub(super) ca: String,
}

/// Signs a certificate: the one place where that is done.
///
/// # Errors
/// If that is not what was judged, or the profile does not allow it; the text names the field.
pub(super) fn issue(
    allowed: &Authorized,
    profile: &Profile,
    wanted: &Wanted,
    authority: &Ready,
    stamp: Stamp,
) -> Result<Certificate, EngineError> {
    let on = allowed.resource().name.as_str();
    let judged = on.rsplit_once("/profiles/").map(|(_, name)| name);
    if allowed.action().as_str() != action::SIGN.0 || judged != Some(profile.name.as_str()) {
        return Err(wrong("the profile"));
    }
    let caller = &allowed.subject().name;
    profile.takes(&wanted.key)?;
    profile.allows_all(&wanted.principals, caller)?;
    let terms = Terms {
        profile,
        caller,
        wanted,
        authority,
        stamp,
        ttl_s: profile.ttl(wanted.ttl_s)?,
    };
    let checked = terms.check(terms.draft())?;
    let signature = authority.sign(&checked)?;
    let written = Wire::new().raw(checked.to_be_signed()).string(signature);
    let principals = wanted.principals.iter().map(ToString::to_string);
    Ok(Certificate {
        serial: stamp.serial,
        profile: profile.name.clone(),
        kind: profile.kind,
        account: caller.clone(),
        principals: principals.collect(),
        valid_after_s: terms.valid_after_s(),
        valid_before_s: terms.valid_before_s(),
        line: super::key::line(&terms.name(), written.as_bytes()),
        fingerprint: wanted.key.fingerprint(),
        ca_fingerprint: authority.fingerprint(),
        ca: BASE64.encode(authority.public()),
    })
}

/// What may be signed. Nothing but [`Terms::check`] makes one.
pub(super) struct Checked(Vec<u8>);

impl Checked {
    pub(super) fn to_be_signed(&self) -> &[u8] {
        &self.0
    }
}

/// What was allowed.
#[derive(Clone, Copy)]
struct Terms<'a> {
    profile: &'a Profile,
    caller: &'a Name,
    wanted: &'a Wanted,
    authority: &'a Ready,
    stamp: Stamp,
    ttl_s: u64,
}

/// Of what is not to be: a certificate that is not what was allowed.
fn wrong(what: &'static str) -> EngineError {
    EngineError::Unsound(format!(
        "a certificate to be signed has another {what} than was allowed"
    ))
}

impl Terms<'_> {
    fn valid_after_s(&self) -> u64 {
        self.stamp.now_s.saturating_sub(BACKDATED_S)
    }

    fn valid_before_s(&self) -> u64 {
        self.stamp.now_s.saturating_add(self.ttl_s)
    }

    /// The type of the certificate, as SSH writes it.
    fn name(&self) -> String {
        self.wanted.key.data().algorithm().to_certificate_type()
    }

    /// The certificate without its signature.
    fn draft(&self) -> Vec<u8> {
        let kind = match self.profile.kind {
            Kind::User => 1,
            Kind::Host => 2,
        };
        let names = self.wanted.principals.iter();
        let names = names.fold(Wire::new(), |to, name| to.string(name.to_string()));
        Wire::new()
            .string(self.name())
            .string(self.stamp.nonce)
            .raw(self.wanted.key.fields())
            .u64(self.stamp.serial)
            .u32(kind)
            .string(self.caller.as_str())
            .string(names.as_bytes())
            .u64(self.valid_after_s())
            .u64(self.valid_before_s())
            .string(options(&self.profile.critical_options()))
            .string(options(&self.profile.extensions()))
            .string("")
            .string(self.authority.public())
            .bytes()
    }

    /// Reads what is to be signed, and compares each field with what was allowed.
    fn check(&self, draft: Vec<u8>) -> Result<Checked, EngineError> {
        // A signature of no worth, for without one it is not read.
        let unsigned = self.authority.algorithm.signature(&[1; 64]);
        let whole = Wire::new().raw(&draft).string(unsigned).bytes();
        let read = Read::from_bytes(&whole).map_err(|_| wrong("form"))?;
        // Nothing in it that the reader passed over.
        if read.to_bytes().ok() != Some(whole) {
            return Err(wrong("form"));
        }
        let (profile, stamp) = (self.profile, self.stamp);
        let same = |good: bool, what| good.then_some(()).ok_or(wrong(what));
        same(read.public_key() == self.wanted.key.data(), "key")?;
        profile.takes(&self.wanted.key)?;
        same(read.nonce() == stamp.nonce, "nonce")?;
        same(read.serial() == stamp.serial && stamp.serial != 0, "serial")?;
        let kind = match profile.kind {
            Kind::User => CertType::User,
            Kind::Host => CertType::Host,
        };
        same(read.cert_type() == kind, "type")?;
        same(read.key_id() == self.caller.as_str(), "key id")?;
        let names = read.valid_principals().iter();
        let names = names.map(|name| Principal::parse(profile.kind, name));
        let names: BTreeSet<_> = names
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("principal"))?;
        profile.allows_all(&names, self.caller)?;
        same(names == self.wanted.principals, "principal")?;
        let (after_s, before_s) = (read.valid_after(), read.valid_before());
        let for_s = before_s.checked_sub(stamp.now_s).unwrap_or(u64::MAX);
        same(after_s == self.valid_after_s(), "time")?;
        same(
            for_s == self.ttl_s && (1..=profile.max_ttl_s).contains(&for_s),
            "time",
        )?;
        // The last second that there is means for ever.
        same(i64::try_from(before_s).is_ok(), "time")?;
        let options = **read.critical_options() == profile.critical_options();
        same(options, "critical option")?;
        same(**read.extensions() == profile.extensions(), "extension")?;
        let ca = PublicKey::from(read.signature_key().clone()).to_bytes();
        same(
            ca.is_ok_and(|ca| ca == self.authority.public()),
            "authority",
        )?;
        Ok(Checked(draft))
    }
}

/// Options in their order, each with its data; a flag has none.
fn options(options: &Options) -> Vec<u8> {
    let one = |to: Wire, (name, text): (&String, &String)| {
        let data = match text.is_empty() {
            true => Wire::new(),
            false => Wire::new().string(text),
        };
        to.string(name).string(data.as_bytes())
    };
    options.iter().fold(Wire::new(), one).bytes()
}

#[cfg(test)]
mod refused;
#[cfg(test)]
mod tests;
