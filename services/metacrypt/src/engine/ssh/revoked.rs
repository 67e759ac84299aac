//! What is revoked: certificates by their serials, and key ids and public keys as a whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use data_encoding::BASE64;
use mcdsl::policy::Name;
use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    key::{SubjectKey, fingerprint},
    krl::Revoked,
};
use crate::{
    barrier::{Items, KeyError},
    engine::EngineError,
};

/// Where the list's version is.
const LIST: &str = "krl";
const SERIALS: &str = "revoked/serials/";
pub(super) const WHOLE: &str = "revoked/whole/";
/// Most serials that are revoked at one time: 400 KB of the list.
const MAX_SERIALS: u32 = 50_000;
/// Most key ids and keys.
const MAX_WHOLE: u32 = 1000;
/// Most that are read at once.
const PAGE: usize = 1000;

/// Of the list that is published.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct List {
    version: u64,
    made_s: u64,
    serials: u32,
    whole: u32,
}

impl List {
    fn of(items: &Items<'_>) -> Result<Self, EngineError> {
        Ok(items.get(LIST)?.unwrap_or_default())
    }

    /// Another version: greater than all before, also than those that a snapshot does not know of.
    fn put(mut self, items: &Items<'_>, now_s: u64) -> Result<(), EngineError> {
        self.version = self.version.saturating_add(1).max(now_s);
        self.made_s = now_s;
        Ok(items.put(LIST, &self)?)
    }
}

/// A certificate that is revoked, as it is stored.
#[derive(Serialize, Deserialize)]
struct Serial {
    /// The key that signed it, in Base64.
    ca: String,
}

fn serial_path(serial: u64) -> String {
    format!("{SERIALS}{serial:020}")
}

/// What is revoked as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Whole {
    /// All certificates of an account.
    KeyId(Name),
    /// A public key, by its line.
    Key(String),
}

/// That, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Revocation {
    pub(super) what: Whole,
    pub(super) revoked_s: u64,
}

fn id_of_key_id(key_id: &Name) -> String {
    format!("id-{key_id}")
}

/// `SHA256:…` without what a path would be cut by.
fn id_of_key(fingerprint: &str) -> String {
    let hash = fingerprint.trim_start_matches("SHA256:");
    format!("key-{}", hash.replace('/', "_").replace('+', "-"))
}

impl Whole {
    /// By what it is known.
    pub(super) fn id(&self) -> Result<String, EngineError> {
        Ok(match self {
            Self::KeyId(key_id) => id_of_key_id(key_id),
            Self::Key(line) => id_of_key(&fingerprint(stored(line)?.written())),
        })
    }
}

fn stored(line: &str) -> Result<SubjectKey, KeyError> {
    let broken = |_| KeyError::Opened("a revoked SSH key".to_owned());
    SubjectKey::parse(line).map_err(broken)
}

/// Revokes a certificate; whether it was not.
pub(super) fn revoke(
    items: &Items<'_>,
    certificate: &Certificate,
    now_s: u64,
) -> Result<bool, EngineError> {
    let path = serial_path(certificate.serial);
    if items.get::<Serial>(&path)?.is_some() {
        return Ok(false);
    }
    let mut list = List::of(items)?;
    if list.serials >= MAX_SERIALS {
        return Err(EngineError::Precondition(format!(
            "{MAX_SERIALS} certificates are revoked, which is the most; revoke their key ids (CreateRevocation), or remove the authority's key"
        )));
    }
    list.serials += 1;
    let ca = certificate.ca.clone();
    items.put(&path, &Serial { ca })?;
    list.put(items, now_s)?;
    Ok(true)
}

/// Drops the revocation of a certificate that expired long ago; whether there was one.
pub(super) fn forget(items: &Items<'_>, serial: u64, now_s: u64) -> Result<bool, EngineError> {
    let there_was = items.delete(&serial_path(serial))?;
    if there_was {
        let mut list = List::of(items)?;
        list.serials = list.serials.saturating_sub(1);
        list.put(items, now_s)?;
    }
    Ok(there_was)
}

/// Revokes something as a whole; by what it is known.
pub(super) fn add(items: &Items<'_>, what: Whole, now_s: u64) -> Result<String, EngineError> {
    let id = what.id()?;
    let path = format!("{WHOLE}{id}");
    if items.get::<Revocation>(&path)?.is_some() {
        return Err(EngineError::Exists("revocation", id));
    }
    let mut list = List::of(items)?;
    if list.whole >= MAX_WHOLE {
        return Err(EngineError::Precondition(format!(
            "{MAX_WHOLE} key ids and keys are revoked, which is the most; lift those whose certificates have expired"
        )));
    }
    list.whole += 1;
    let revocation = Revocation {
        what,
        revoked_s: now_s,
    };
    items.put(&path, &revocation)?;
    list.put(items, now_s)?;
    Ok(id)
}

/// Lifts a revocation of a whole.
pub(super) fn lift(items: &Items<'_>, id: &str, now_s: u64) -> Result<(), EngineError> {
    if !items.delete(&format!("{WHOLE}{id}"))? {
        return Err(EngineError::NotFound("revocation", id.to_owned()));
    }
    let mut list = List::of(items)?;
    list.whole = list.whole.saturating_sub(1);
    list.put(items, now_s)
}

/// What is revoked as a whole and known by this.
pub(super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Revocation>, EngineError> {
    Ok(items.get(&format!("{WHOLE}{id}"))?)
}

fn whole(items: &Items<'_>, id: &str) -> Result<bool, EngineError> {
    Ok(find(items, id)?.is_some())
}

/// Whether a certificate is revoked, by whatever.
pub(super) fn is_revoked(
    items: &Items<'_>,
    certificate: &Certificate,
) -> Result<bool, EngineError> {
    let path = serial_path(certificate.serial);
    Ok(items.get::<Serial>(&path)?.is_some()
        || whole(items, &id_of_key_id(&certificate.account))?
        || whole(items, &id_of_key(&certificate.fingerprint))?)
}

/// Refuses a certificate that would be revoked when it is made.
pub(super) fn refuse(
    items: &Items<'_>,
    account: &Name,
    key: &SubjectKey,
) -> Result<(), EngineError> {
    let id = id_of_key(&key.fingerprint());
    for (id, what) in [
        (id_of_key_id(account), format!("the account {account}")),
        (id, "the public key".to_owned()),
    ] {
        if whole(items, &id)? {
            return Err(EngineError::Precondition(format!(
                "{what} is revoked for SSH; DeleteRevocation lifts it ({id})"
            )));
        }
    }
    Ok(())
}

/// All that there is below a place.
fn all<T: serde::de::DeserializeOwned>(
    items: &Items<'_>,
    place: &str,
    mut each: impl FnMut(&str, T) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut after = String::new();
    loop {
        let page = items.list::<T>(place, &after, PAGE)?;
        let last = page.len() < PAGE;
        for (path, found) in page {
            each(path.strip_prefix(place).unwrap_or(&path), found)?;
            after = path;
        }
        if last {
            return Ok(());
        }
    }
}

/// The list that is published.
pub(super) fn krl(items: &Items<'_>) -> Result<Bytes, EngineError> {
    let mut revoked = Revoked::default();
    let broken = || KeyError::Opened("a revoked SSH certificate".to_owned());
    all(items, SERIALS, |path, Serial { ca }| {
        let serial = path.parse().map_err(|_| broken())?;
        let ca = BASE64.decode(ca.as_bytes()).map_err(|_| broken())?;
        revoked.serials.entry(ca).or_default().insert(serial);
        Ok(())
    })?;
    all(items, WHOLE, |_, found: Revocation| {
        match found.what {
            Whole::KeyId(id) => revoked.key_ids.insert(id.into()),
            Whole::Key(line) => revoked.keys.insert(stored(&line)?.written().to_vec()),
        };
        Ok(())
    })?;
    let list = List::of(items)?;
    Ok(revoked.krl(list.version, list.made_s).into())
}

/// The published list, as long as nothing changes.
#[derive(Default)]
pub(super) struct Published {
    kept: Mutex<Kept>,
    /// One at a time makes it.
    pub(super) making: tokio::sync::Mutex<()>,
}

/// What is kept of it.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) krl: Option<Bytes>,
    /// How often it changed: what was read before a change is not kept after it.
    pub(super) changes: u64,
}

impl Published {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was kept is not it any more.
    pub(super) fn change(&self) {
        let mut kept = self.kept();
        kept.changes += 1;
        kept.krl = None;
    }
}
