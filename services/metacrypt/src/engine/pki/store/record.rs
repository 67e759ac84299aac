//! Certificates as they are stored.
//!
//! `certificates/<serial>` has all that there is of one. `expiry/<end>/…` and `names/<hash of the name>/…` find it, and end in [`Record::tail`], which is enough
//! to judge it; they have no value, and hold nothing that is not in it. `revoked/<issuer>/<serial>` is what the issuer's CRL is made of, `holds/<hash of the
//! account>` how many an account has ([`Held`]). Issuers are named by what no other CA ever has, for their names can be used again.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use mcdsl::auth::Identity;
use serde::{Deserialize, Serialize};

use super::{IssuerState, broken, decoded, serial_of};
use crate::{
    barrier::{Items, KeyError},
    engine::{
        EngineError,
        pki::{
            ISSUERS, PROFILES,
            crls::AFTER_END,
            issuer::IssuerId,
            name::{AltName, Names},
            revocation::{Revocation, Revoked},
            serial::Serial,
            signed::Issued,
        },
        seconds,
    },
};

/// What a certificate is of, and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum Of {
    /// Somebody's, by this profile.
    Profile(String),
    /// This CA's.
    Issuer(String),
}

impl Of {
    /// What it is judged by.
    pub(in super::super) fn path(&self) -> [&str; 2] {
        match self {
            Self::Profile(name) => [PROFILES, name],
            Self::Issuer(name) => [ISSUERS, name],
        }
    }
}

/// Whose a certificate is: the account that asked for it, with its name then.
#[derive(Clone, Debug)]
pub(in super::super) struct Holder {
    id: String,
    name: String,
}

impl From<&Identity> for Holder {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.account.clone(),
            name: identity.name.clone(),
        }
    }
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Record {
    /// Base64.
    der: String,
    pub(in super::super) of: Of,
    /// Who signed it.
    pub(in super::super) by: IssuerId,
    /// What that was called then.
    pub(in super::super) issuer: String,
    /// None of CAs.
    pub(in super::super) names: Option<Names>,
    pub(in super::super) not_before_s: u64,
    pub(in super::super) not_after_s: u64,
    /// Who asked for it: the account's id.
    pub(in super::super) account: String,
    /// What that was called then; empty: it was not noted.
    #[serde(default)]
    pub(in super::super) account_name: String,
    pub(in super::super) renews: Option<Serial>,
    pub(in super::super) revoked: Option<Revocation>,
}

/// What an index tells of a certificate without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub(in super::super) by: String,
    pub(in super::super) of: Of,
    pub(in super::super) serial: Serial,
}

impl Entry {
    /// From a path in an index.
    ///
    /// # Errors
    /// It is none.
    pub(in super::super) fn of(path: &str) -> Result<Self, EngineError> {
        let mut parts = path.rsplit('/').skip(1);
        let (name, place, by) = (parts.next(), parts.next(), parts.next());
        let of = match (place, name) {
            (Some(PROFILES), Some(name)) => Of::Profile(name.to_owned()),
            (Some(ISSUERS), Some(name)) => Of::Issuer(name.to_owned()),
            _ => return Err(broken(()).into()),
        };
        Ok(Self {
            by: by.unwrap_or_default().to_owned(),
            of,
            serial: serial_of(path)?,
        })
    }
}

fn certificate_at(serial: &Serial) -> String {
    format!("certificates/{serial}")
}

/// Twelve digits, so that the order of texts is that of times.
pub(in super::super) fn expiry_at(end_s: u64) -> String {
    format!("expiry/{end_s:012}/")
}

/// Where certificates of this name are.
pub(in super::super) fn name_at(name: &AltName) -> String {
    format!("names/{}/", short_hash(&name.to_string()))
}

fn revoked_at(issuer: &IssuerId) -> String {
    format!("revoked/{issuer}/")
}

impl Record {
    /// `by`: who signed it, and what that is called.
    pub(in super::super) fn new(
        issued: &Issued,
        of: Of,
        by: (&IssuerId, &str),
        account: &Holder,
    ) -> Self {
        Self {
            der: BASE64.encode(&issued.der),
            of,
            by: by.0.clone(),
            issuer: by.1.to_owned(),
            names: None,
            not_before_s: seconds(issued.not_before),
            not_after_s: seconds(issued.not_after),
            account: account.id.clone(),
            account_name: account.name.clone(),
            renews: None,
            revoked: None,
        }
    }

    pub(in super::super) fn der(&self) -> Result<Vec<u8>, EngineError> {
        decoded(&self.der)
    }

    /// Whether it is void by its CA, which was revoked then: what had ended before is not.
    pub(in super::super) fn is_void_by(&self, revoked_s: Option<u64>) -> bool {
        revoked_s.is_some_and(|revoked_s| revoked_s < self.not_after_s)
    }

    pub(in super::super) fn find(
        items: &Items<'_>,
        serial: &Serial,
    ) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&certificate_at(serial))?)
    }

    /// The last parts of its paths in the indices.
    fn tail(&self, serial: &Serial) -> String {
        let [place, name] = self.of.path();
        format!("{}/{place}/{name}/{serial}", self.by)
    }

    /// Its paths in the indices.
    fn found_at(&self, serial: &Serial) -> impl Iterator<Item = String> {
        let tail = self.tail(serial);
        let names = self.names.iter().flat_map(Names::iter).map(name_at);
        let places = [expiry_at(self.not_after_s)].into_iter().chain(names);
        places.map(move |place| format!("{place}{tail}"))
    }

    /// The hour by which no CRL has it any more. So that an account has few of them, it is later by an eighth of that time at most.
    fn listable_until_h(&self) -> u64 {
        let until_h = (self.not_after_s + AFTER_END.as_secs()).div_ceil(HOUR_S);
        let all_h = until_h.saturating_sub(self.not_before_s / HOUR_S);
        until_h.next_multiple_of((all_h / 16).max(1).next_power_of_two())
    }

    /// A new one: no other has its number. `sure_s`: what had ended by then is counted no more.
    ///
    /// # Errors
    /// If its account has as many as it may.
    pub(in super::super) fn create(
        &self,
        items: &Items<'_>,
        serial: &Serial,
        sure_s: u64,
    ) -> Result<(), EngineError> {
        if Self::find(items, serial)?.is_some() {
            // Of 158 random bits.
            return Err(KeyError::Random.into());
        }
        let mut held = Held::of(items, &self.account)?;
        held.forget(sure_s);
        let by = (&self.by, &*self.issuer);
        IssuerState::issued(items, by, self.not_after_s, held.listable(&self.by))?;
        if held.all >= MAX_HELD {
            return Err(EngineError::Precondition(format!(
                "{MAX_HELD} certificates of this account are kept, which is the most, until they ended 90 days ago; ask for fewer that live longer, or by another account"
            )));
        }
        held.add(&self.by, self.listable_until_h(), 1);
        held.put(items, &self.account)?;
        items.put(&certificate_at(serial), self)?;
        for path in self.found_at(serial) {
            items.put(&path, &())?;
        }
        Ok(())
    }

    /// Writes down that it is revoked.
    pub(in super::super) fn revoke(
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
        items.put(&format!("{}{serial}", revoked_at(&self.by)), &entry)?;
        IssuerState::revoke(items, &self.by)
    }

    /// Forgets it, with all that finds it.
    pub(in super::super) fn forget(
        &self,
        items: &Items<'_>,
        serial: &Serial,
    ) -> Result<(), EngineError> {
        items.delete(&certificate_at(serial))?;
        for path in self.found_at(serial) {
            items.delete(&path)?;
        }
        items.delete(&format!("{}{serial}", revoked_at(&self.by)))?;
        let mut held = Held::of(items, &self.account)?;
        held.all = held.all.saturating_sub(1);
        held.put(items, &self.account)
    }
}

/// Most certificates of an account that are kept: nobody fills the disk for all.
const MAX_HELD: u64 = 1_000_000;
const HOUR_S: u64 = 60 * 60;

/// How many certificates an account has. One item for all that is counted of it, so that a certificate reads and writes no more than that.
#[derive(Default, Serialize, Deserialize)]
struct Held {
    /// That are kept.
    all: u64,
    /// By issuer, and by the hour until which it may be in a CRL: of those that were not revoked too, for revoking is never refused.
    listable: BTreeMap<String, BTreeMap<u64, usize>>,
}

impl Held {
    fn of(items: &Items<'_>, account: &str) -> Result<Self, EngineError> {
        if let Some(held) = items.get(&held_at(account))? {
            return Ok(held);
        }
        // Databases of before have the number alone.
        let old = format!("held/{}", short_hash(account));
        let all = items.get(&old)?.unwrap_or_default();
        items.delete(&old)?;
        Ok(Self {
            all,
            ..Self::default()
        })
    }

    fn put(&self, items: &Items<'_>, account: &str) -> Result<(), EngineError> {
        match self.all {
            0 => drop(items.delete(&held_at(account))?),
            _ => items.put(&held_at(account), self)?,
        }
        Ok(())
    }

    /// Counts those no more that no CRL had by then.
    fn forget(&mut self, sure_s: u64) {
        self.listable.retain(|_, hours| {
            *hours = hours.split_off(&(sure_s / HOUR_S + 1));
            !hours.is_empty()
        });
    }

    /// Of an issuer.
    fn listable(&self, by: &IssuerId) -> usize {
        let hours = self.listable.get(by.as_str());
        hours.map_or(0, |hours| hours.values().sum())
    }

    fn add(&mut self, by: &IssuerId, until_h: u64, count: usize) {
        self.all += count as u64;
        let hours = self.listable.entry(by.as_str().to_owned()).or_default();
        *hours.entry(until_h).or_default() += count;
    }
}

fn held_at(account: &str) -> String {
    format!("holds/{}", short_hash(account))
}

fn short_hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    HEXLOWER.encode(&hash.as_ref()[..16])
}

/// As if the account of a certificate had so many more that end as it does.
#[cfg(test)]
pub(in super::super) fn as_if_held(
    items: &Items<'_>,
    like: &Serial,
    count: usize,
) -> Result<(), EngineError> {
    let like = Record::find(items, like)?.expect("one that there is");
    let mut held = Held::of(items, &like.account)?;
    held.add(&like.by, like.listable_until_h(), count);
    held.put(items, &like.account)
}

/// What a CRL has of one.
#[derive(Serialize, Deserialize)]
struct RevokedEntry {
    revocation: Revocation,
    not_after_s: u64,
}

/// Of an issuer some of those that are revoked and had not ended by `since_s`, by serial number: of `limit` behind the path `after`; and the path behind which
/// there may be more.
///
/// # Errors
/// They cannot be read.
pub(in super::super) fn revoked(
    items: &Items<'_>,
    issuer: &IssuerId,
    since_s: u64,
    after: &str,
    limit: usize,
) -> Result<(Vec<Revoked>, Option<String>), EngineError> {
    let page: Vec<(String, RevokedEntry)> = items.list(&revoked_at(issuer), after, limit)?;
    let more = page.last().filter(|_| page.len() == limit);
    let more = more.map(|(path, _)| path.clone());
    let there = page
        .into_iter()
        .filter(|(_, entry)| entry.not_after_s >= since_s);
    let read = there.map(|(path, entry)| {
        Ok(Revoked {
            serial: serial_of(&path)?,
            revocation: entry.revocation,
        })
    });
    Ok((read.collect::<Result<_, EngineError>>()?, more))
}
