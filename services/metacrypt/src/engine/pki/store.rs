//! What the CA stores, and where.
//!
//! `certificates/<serial>` has all that there is of one. `expiry/<end>/<issuer>/<serial>` and `names/<hash of the name>/<serial>` find it; they have no value,
//! and hold nothing that is not in it. `revoked/<issuer>/<serial>` is what the issuer's CRL is made of.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    ISSUERS, PROFILES,
    name::{AltName, Names},
    profile::Profile,
    public_key::KeyAlgorithm,
    revocation::{Revocation, Revoked},
    serial::Serial,
    signed::Issued,
};
use crate::{
    barrier::{Items, KeyError},
    engine::EngineError,
};

/// Most CAs of a mount.
pub(super) const MAX_ISSUERS: usize = 100;
/// Most profiles of a mount.
pub(super) const MAX_PROFILES: usize = 1000;
/// Most entries of a CRL, which is then some 4 MiB.
pub(super) const MAX_REVOKED: usize = 100_000;
/// Entries that are read at once.
pub(super) const PAGE: usize = 500;

const SETTINGS: &str = "settings";

/// What is said of a mount.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Where everybody reaches it.
    pub(super) base: Option<String>,
    /// The issuer that is meant if none is named.
    pub(super) default: Option<String>,
}

impl Settings {
    pub(super) fn get(items: &Items<'_>) -> Result<Self, EngineError> {
        Ok(items.get(SETTINGS)?.unwrap_or_default())
    }

    pub(super) fn put(&self, items: &Items<'_>) -> Result<(), EngineError> {
        Ok(items.put(SETTINGS, self)?)
    }
}

/// A CA, without its key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredIssuer {
    pub(super) algorithm: KeyAlgorithm,
    /// Base64 of DER: it, and those above it.
    chain: Vec<String>,
    /// The CA of the mount that signed it.
    pub(super) under: Option<String>,
    /// Of its certificate, if that was issued here.
    pub(super) serial: Option<Serial>,
    pub(super) disabled: bool,
}

/// Its key.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    /// Base64 of PKCS #8.
    pkcs8: String,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("a CA".to_owned())
}

fn decoded(text: &str) -> Result<Vec<u8>, EngineError> {
    Ok(BASE64.decode(text.as_bytes()).map_err(broken)?)
}

fn issuer_at(name: &str) -> String {
    format!("{ISSUERS}/{name}")
}

fn key_at(name: &str) -> String {
    format!("keys/{name}")
}

impl StoredIssuer {
    pub(super) fn new(
        algorithm: KeyAlgorithm,
        chain: &[Vec<u8>],
        under: Option<String>,
        serial: Option<Serial>,
    ) -> Self {
        Self {
            algorithm,
            chain: chain.iter().map(|der| BASE64.encode(der)).collect(),
            under,
            serial,
            disabled: false,
        }
    }

    pub(super) fn chain(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        self.chain.iter().map(|text| decoded(text)).collect()
    }

    pub(super) fn find(items: &Items<'_>, name: &str) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&issuer_at(name))?)
    }

    pub(super) fn get(items: &Items<'_>, name: &str) -> Result<Self, EngineError> {
        let none = || EngineError::NotFound("CA", name.to_owned());
        Self::find(items, name)?.ok_or_else(none)
    }

    pub(super) fn put(&self, items: &Items<'_>, name: &str) -> Result<(), EngineError> {
        Ok(items.put(&issuer_at(name), self)?)
    }

    /// A new one with its key. The first of a mount is its default.
    pub(super) fn create(
        &self,
        items: &Items<'_>,
        name: &str,
        pkcs8: &[u8],
    ) -> Result<(), EngineError> {
        if Self::find(items, name)?.is_some() {
            return Err(EngineError::Exists("CA", name.to_owned()));
        }
        if issuers(items)?.len() >= MAX_ISSUERS {
            return Err(EngineError::Precondition(format!(
                "the mount has {MAX_ISSUERS} CAs, which is the most; delete one or make another mount"
            )));
        }
        self.put(items, name)?;
        let key = StoredKey {
            pkcs8: BASE64.encode(pkcs8),
        };
        items.put(&key_at(name), &key)?;
        let mut settings = Settings::get(items)?;
        if settings.default.is_none() {
            settings.default = Some(name.to_owned());
            settings.put(items)?;
        }
        Ok(())
    }

    pub(super) fn key(items: &Items<'_>, name: &str) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        let key: Option<StoredKey> = items.get(&key_at(name))?;
        let none = || EngineError::NotFound("CA", name.to_owned());
        Ok(Zeroizing::new(decoded(&key.ok_or_else(none)?.pkcs8)?))
    }

    /// Deletes one with its key and its CRL; its certificates stay.
    pub(super) fn delete(items: &Items<'_>, name: &str) -> Result<(), EngineError> {
        items.delete(&issuer_at(name))?;
        items.delete(&key_at(name))?;
        items.delete(&crl_at(name))?;
        let mut settings = Settings::get(items)?;
        if settings.default.as_deref() == Some(name) {
            settings.default = None;
            settings.put(items)?;
        }
        Ok(())
    }
}

/// The names of all CAs.
pub(super) fn issuers(items: &Items<'_>) -> Result<Vec<String>, EngineError> {
    last_parts(items, ISSUERS, MAX_ISSUERS)
}

/// The names of all profiles.
pub(super) fn profiles(items: &Items<'_>) -> Result<Vec<String>, EngineError> {
    last_parts(items, PROFILES, MAX_PROFILES)
}

fn last_parts(items: &Items<'_>, place: &str, limit: usize) -> Result<Vec<String>, EngineError> {
    let paths = items.names(&format!("{place}/"), "", limit)?;
    let last = |path: &String| path.rsplit('/').next().map(ToOwned::to_owned);
    Ok(paths.iter().filter_map(last).collect())
}

pub(super) fn profile_at(name: &str) -> String {
    format!("{PROFILES}/{name}")
}

/// The profile of this name.
pub(super) fn profile(items: &Items<'_>, name: &str) -> Result<Profile, EngineError> {
    let none = || EngineError::NotFound("profile", name.to_owned());
    items.get(&profile_at(name))?.ok_or_else(none)
}

/// What a certificate is of, and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Of {
    /// Somebody's, by this profile.
    Profile(String),
    /// This CA's.
    Issuer(String),
}

impl Of {
    /// What it is judged by.
    pub(super) fn path(&self) -> [&str; 2] {
        match self {
            Self::Profile(name) => [PROFILES, name],
            Self::Issuer(name) => [ISSUERS, name],
        }
    }
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Base64.
    der: String,
    pub(super) of: Of,
    /// Who signed it.
    pub(super) issuer: String,
    /// None of CAs.
    pub(super) names: Option<Names>,
    pub(super) not_before_s: u64,
    pub(super) not_after_s: u64,
    /// Who asked for it: the account's id.
    pub(super) account: String,
    pub(super) renews: Option<Serial>,
    pub(super) revoked: Option<Revocation>,
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

/// The time of such seconds.
pub(super) fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn certificate_at(serial: &Serial) -> String {
    format!("certificates/{serial}")
}

/// Twelve digits, so that the order of texts is that of times.
pub(super) fn expiry_at(end_s: u64) -> String {
    format!("expiry/{end_s:012}/")
}

/// Where certificates of this name are.
pub(super) fn name_at(name: &AltName) -> String {
    let hash = digest::digest(&digest::SHA256, name.to_string().as_bytes());
    format!("names/{}/", HEXLOWER.encode(&hash.as_ref()[..16]))
}

fn revoked_at(issuer: &str) -> String {
    format!("revoked/{issuer}/")
}

fn crl_at(issuer: &str) -> String {
    format!("crls/{issuer}")
}

impl Record {
    pub(super) fn new(issued: &Issued, of: Of, issuer: &str, account: &str) -> Self {
        Self {
            der: BASE64.encode(&issued.der),
            of,
            issuer: issuer.to_owned(),
            names: None,
            not_before_s: seconds(issued.not_before),
            not_after_s: seconds(issued.not_after),
            account: account.to_owned(),
            renews: None,
            revoked: None,
        }
    }

    pub(super) fn der(&self) -> Result<Vec<u8>, EngineError> {
        decoded(&self.der)
    }

    pub(super) fn find(items: &Items<'_>, serial: &Serial) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&certificate_at(serial))?)
    }

    /// A new one: no other has its number.
    pub(super) fn create(&self, items: &Items<'_>, serial: &Serial) -> Result<(), EngineError> {
        if Self::find(items, serial)?.is_some() {
            // Of 158 random bits.
            return Err(KeyError::Random.into());
        }
        items.put(&certificate_at(serial), self)?;
        let expiry = expiry_at(self.not_after_s);
        items.put(&format!("{expiry}{}/{serial}", self.issuer), &())?;
        for name in self.names.iter().flat_map(Names::iter) {
            items.put(&format!("{}{serial}", name_at(name)), &())?;
        }
        Ok(())
    }

    /// Writes down that it is revoked.
    pub(super) fn revoke(
        &mut self,
        items: &Items<'_>,
        serial: &Serial,
        revocation: Revocation,
    ) -> Result<(), EngineError> {
        self.revoked = Some(revocation);
        items.put(&certificate_at(serial), self)?;
        let entry = RevokedEntry {
            revocation,
            not_after_s: self.not_after_s,
        };
        let place = format!("{}{serial}", revoked_at(&self.issuer));
        Ok(items.put(&place, &entry)?)
    }

    /// Forgets it, with all that finds it.
    pub(super) fn forget(&self, items: &Items<'_>, serial: &Serial) -> Result<(), EngineError> {
        items.delete(&certificate_at(serial))?;
        let expiry = expiry_at(self.not_after_s);
        items.delete(&format!("{expiry}{}/{serial}", self.issuer))?;
        for name in self.names.iter().flat_map(Names::iter) {
            items.delete(&format!("{}{serial}", name_at(name)))?;
        }
        items.delete(&format!("{}{serial}", revoked_at(&self.issuer)))?;
        Ok(())
    }
}

/// What a CRL has of one.
#[derive(Serialize, Deserialize)]
struct RevokedEntry {
    revocation: Revocation,
    not_after_s: u64,
}

/// Of an issuer those that are revoked and had not ended by `since_s`, by serial number.
pub(super) fn revoked(
    items: &Items<'_>,
    issuer: &str,
    since_s: u64,
) -> Result<Vec<Revoked>, EngineError> {
    let place = revoked_at(issuer);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page: Vec<(String, RevokedEntry)> = items.list(&place, &after, PAGE)?;
        let last = page.len() < PAGE;
        for (path, entry) in page {
            let serial = path.rsplit('/').next().unwrap_or_default().parse();
            if entry.not_after_s >= since_s {
                all.push(Revoked {
                    serial: serial.map_err(broken)?,
                    revocation: entry.revocation,
                });
            }
            after = path;
        }
        if last {
            return Ok(all);
        }
    }
}

/// How far an issuer's CRLs are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CrlState {
    /// That of the last one.
    pub(super) number: u64,
    /// Entries of the last one; those that were revoked since are counted on.
    pub(super) entries: usize,
}

impl CrlState {
    pub(super) fn get(items: &Items<'_>, issuer: &str) -> Result<Self, EngineError> {
        Ok(items.get(&crl_at(issuer))?.unwrap_or_default())
    }

    pub(super) fn put(&self, items: &Items<'_>, issuer: &str) -> Result<(), EngineError> {
        Ok(items.put(&crl_at(issuer), self)?)
    }
}

/// The serial number in the last part of a path.
pub(super) fn serial_of(path: &str) -> Result<Serial, EngineError> {
    let last = path.rsplit('/').next().unwrap_or_default();
    Ok(last.parse().map_err(broken)?)
}
