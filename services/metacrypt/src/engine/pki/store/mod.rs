//! What the CA stores, and where.

mod issuer;
mod record;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(super) use self::{issuer::as_if_revoked, record::as_if_held};
pub(super) use self::{
    issuer::{IssuerState, MAX_ISSUERS, StoredIssuer},
    record::{Entry, Holder, Of, Record, expiry_at, name_at, revoked},
};
use super::{ISSUERS, PROFILES, profile::Profile, serial::Serial};
use crate::{
    barrier::{Items, KeyError},
    engine::EngineError,
};

/// Most profiles of a mount.
pub(super) const MAX_PROFILES: usize = 1000;
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

fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("a CA".to_owned())
}

fn decoded(text: &str) -> Result<Vec<u8>, EngineError> {
    Ok(BASE64.decode(text.as_bytes()).map_err(broken)?)
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

/// The serial number in the last part of a path.
pub(super) fn serial_of(path: &str) -> Result<Serial, EngineError> {
    let last = path.rsplit('/').next().unwrap_or_default();
    Ok(last.parse().map_err(broken)?)
}
