//! CAs as they are stored: their certificates and state in one place, their keys in another.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Record, Settings, broken, decoded, issuers, profiles};
use crate::{
    barrier::Items,
    engine::{
        EngineError, Secret,
        pki::{
            ISSUERS,
            issuer::{Issuer, IssuerId},
            public_key::KeyAlgorithm,
            revocation::Revocation,
            serial::Serial,
        },
    },
};

/// Most CAs of a mount.
pub(in super::super) const MAX_ISSUERS: usize = 100;
/// Most certificates of an account by one issuer that are in its CRL, or would be if they were revoked: what is revoked is always written, and is in the list.
const MAX_LISTABLE: usize = 50_000;
/// With so many entries (some 4 MiB) a CRL is long, and its issuer issues no more to accounts that have [`FEW`] of those: who makes it long stops nobody else.
const LONG: usize = 100_000;
const FEW: usize = 10_000;
/// To multiples of so many seconds it is written down when the last certificate of a CA ends, so that few certificates change it.
const END_S: u64 = 3600;

/// A CA, without its key.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct StoredIssuer {
    pub(in super::super) id: IssuerId,
    pub(in super::super) algorithm: KeyAlgorithm,
    /// Base64 of DER: it, and those above it.
    chain: Vec<String>,
    /// The CA of the mount that signed it.
    pub(in super::super) under: Option<String>,
    /// Of its certificate, if that was issued here.
    pub(in super::super) serial: Option<Serial>,
    /// It issues nothing more; one that is revoked is that, too.
    pub(in super::super) disabled: bool,
    /// Of its certificate.
    pub(in super::super) revoked: Option<Revocation>,
}

fn issuer_at(name: &str) -> String {
    format!("{ISSUERS}/{name}")
}

fn key_at(name: &str) -> String {
    format!("keys/{name}")
}

impl StoredIssuer {
    pub(in super::super) fn new(
        made: &Issuer,
        under: Option<String>,
        serial: Option<Serial>,
    ) -> Self {
        Self {
            id: made.id().clone(),
            algorithm: made.key().public().algorithm(),
            chain: made.chain().iter().map(|der| BASE64.encode(der)).collect(),
            under,
            serial,
            disabled: false,
            revoked: None,
        }
    }

    pub(in super::super) fn chain(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        self.chain.iter().map(|text| decoded(text)).collect()
    }

    pub(in super::super) fn find(
        items: &Items<'_>,
        name: &str,
    ) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&issuer_at(name))?)
    }

    pub(in super::super) fn get(items: &Items<'_>, name: &str) -> Result<Self, EngineError> {
        let none = || EngineError::NotFound("CA", name.to_owned());
        Self::find(items, name)?.ok_or_else(none)
    }

    pub(in super::super) fn put(&self, items: &Items<'_>, name: &str) -> Result<(), EngineError> {
        Ok(items.put(&issuer_at(name), self)?)
    }

    /// A new one with its key, which no other CA of the mount has.
    pub(in super::super) fn create(
        &self,
        items: &Items<'_>,
        name: &str,
        pkcs8: &[u8],
    ) -> Result<(), EngineError> {
        if Self::find(items, name)?.is_some() {
            return Err(EngineError::Exists("CA", name.to_owned()));
        }
        let others = issuers(items)?;
        if others.len() >= MAX_ISSUERS {
            return Err(EngineError::Precondition(format!(
                "the mount has {MAX_ISSUERS} CAs, which is the most; delete one or make another mount"
            )));
        }
        for other in &others {
            if Self::get(items, other)?.id.has_key_of(&self.id) {
                return Err(EngineError::Precondition(format!(
                    "the CA {other:?} of this mount has this key already: one CA has one name, and one CRL; use that one"
                )));
            }
        }
        self.put(items, name)?;
        Ok(items.put(&key_at(name), &Secret::of(pkcs8))?)
    }

    pub(in super::super) fn key(
        items: &Items<'_>,
        name: &str,
    ) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        let key: Option<Secret> = items.get(&key_at(name))?;
        let none = || EngineError::NotFound("CA", name.to_owned());
        let key = key.ok_or_else(none)?.bytes();
        Ok(key.ok_or(()).map_err(broken)?)
    }

    /// When the CA that signed a certificate was revoked, in seconds since 1970; roots are not. One that is deleted had nothing left to answer for.
    pub(in super::super) fn signer_revoked_s(
        items: &Items<'_>,
        record: &Record,
    ) -> Result<Option<u64>, EngineError> {
        let signer = Self::find(items, &record.issuer)?;
        let signer = signer.filter(|ca| ca.id == record.by);
        Ok(signer.and_then(|ca| ca.revoked).map(|revoked| revoked.at_s))
    }

    /// Its own certificate was revoked: it issues nothing more, and is no default; the one that signed it is, for its CRL says so.
    pub(in super::super) fn end(
        mut self,
        items: &Items<'_>,
        name: &str,
        revocation: Revocation,
    ) -> Result<(), EngineError> {
        let mut settings = Settings::get(items)?;
        if settings.default.as_deref() == Some(name) {
            settings.default.clone_from(&self.under);
            settings.put(items)?;
        }
        (self.disabled, self.revoked) = (true, Some(revocation));
        self.put(items, name)
    }

    /// Deletes one with its key and its CRL, if that tells nobody anything any more: all that it issued had ended by `sure_s`. That a profile names it may be `confirmed`.
    ///
    /// # Errors
    /// If it is of use.
    pub(in super::super) fn delete(
        items: &Items<'_>,
        name: &str,
        confirmed: bool,
        sure_s: u64,
    ) -> Result<Self, EngineError> {
        let stored = Self::get(items, name)?;
        let ends_s = IssuerState::get(items, &stored.id)?.ends_s;
        if ends_s > sure_s {
            let ends = mcdsl::human::utc(i64::try_from(ends_s * 1000).unwrap_or(i64::MAX));
            let instead = match stored.revoked.is_some() {
                true => "it is revoked and issues nothing more, so that it may stay until then",
                false => {
                    "disable it instead, so that it issues nothing more, or revoke its own certificate"
                }
            };
            return Err(EngineError::Precondition(format!(
                "certificates of it are valid, the last until {ends} at most, and need its CRL and OCSP; {instead}"
            )));
        }
        for profile in profiles(items)? {
            if !confirmed && super::profile(items, &profile)?.issuer == name {
                return Err(EngineError::Kept(format!(
                    "the profile {profile:?} is by it and would issue nothing more; send its name as `confirm` if that is meant"
                )));
            }
        }
        let mut settings = Settings::get(items)?;
        if settings.default.as_deref() == Some(name) {
            // Everybody is told to trust it.
            if issuers(items)?.len() > 1 {
                return Err(EngineError::Precondition(
                    "it is the default; make another CA that (SetDefault) first".to_owned(),
                ));
            }
            settings.default = None;
            settings.put(items)?;
        }
        items.delete(&issuer_at(name))?;
        items.delete(&key_at(name))?;
        items.delete(&state_at(&stored.id))?;
        Ok(stored)
    }
}

/// What goes on at an issuer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct IssuerState {
    /// Of its last CRL.
    crl_number: u64,
    /// Entries of that; those that were revoked since are counted on.
    revoked: usize,
    /// When the last of its certificates ends, or at most an hour later.
    ends_s: u64,
}

fn state_at(id: &IssuerId) -> String {
    format!("state/{id}")
}

impl IssuerState {
    pub(in super::super) fn get(items: &Items<'_>, id: &IssuerId) -> Result<Self, EngineError> {
        Ok(items.get(&state_at(id))?.unwrap_or_default())
    }

    fn put(&self, items: &Items<'_>, id: &IssuerId) -> Result<(), EngineError> {
        Ok(items.put(&state_at(id), self)?)
    }

    /// A certificate of the issuer is stored, which ends then, of an account that has so many that are in its CRL or would be.
    ///
    /// # Errors
    /// If those are as many as there may be.
    pub(super) fn issued(
        items: &Items<'_>,
        (id, name): (&IssuerId, &str),
        not_after_s: u64,
        listable: usize,
    ) -> Result<(), EngineError> {
        let mut state = Self::get(items, id)?;
        let (most, why) = match state.revoked >= LONG {
            false => (MAX_LISTABLE, String::new()),
            true => (
                FEW,
                format!(" while its CRL has {LONG} entries or more, as now"),
            ),
        };
        if listable >= most {
            return Err(EngineError::Precondition(format!(
                "{most} certificates of this account by {name:?} are valid, or ended less than three days ago, which is the most{why}; use those, wait, or have another issuer named in the profile"
            )));
        }
        if state.ends_s < not_after_s {
            state.ends_s = not_after_s.next_multiple_of(END_S);
            state.put(items, id)?;
        }
        Ok(())
    }

    /// One more is revoked.
    pub(super) fn revoke(items: &Items<'_>, id: &IssuerId) -> Result<(), EngineError> {
        let mut state = Self::get(items, id)?;
        state.revoked += 1;
        state.put(items, id)
    }

    /// The number of a CRL that is made now: greater than those before, also than those of a database that was restored since or of another service that had
    /// this CA. `counted`: what [`Self::revoked`] was when its entries were read, and how many those are.
    pub(in super::super) fn number(
        items: &Items<'_>,
        id: &IssuerId,
        now_s: u64,
        counted: (usize, usize),
    ) -> Result<u64, EngineError> {
        let mut state = Self::get(items, id)?;
        state.crl_number = now_s.max(state.crl_number.saturating_add(1));
        state.revoked = state.revoked.saturating_sub(counted.0) + counted.1;
        state.put(items, id)?;
        Ok(state.crl_number)
    }

    /// Entries of the last CRL and what was revoked since.
    pub(in super::super) fn revoked(&self) -> usize {
        self.revoked
    }
}

/// As if so many more were revoked.
#[cfg(test)]
pub(in super::super) fn as_if_revoked(
    items: &Items<'_>,
    id: &IssuerId,
    count: usize,
) -> Result<(), EngineError> {
    let mut state = IssuerState::get(items, id)?;
    state.revoked += count;
    state.put(items, id)
}
