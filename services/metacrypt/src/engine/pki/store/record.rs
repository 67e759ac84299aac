//! Certificates as they are stored.
//!
//! `certificates/<serial>` has all that there is of one. `expiry/<end>/…` and `names/<hash of the name>/…` find it, and end in [`Record::tail`], which is enough
//! to judge it; they have no value, and hold nothing that is not in it. `revoked/<issuer>/<serial>` is what the issuer's CRL is made of, `held/<hash of the
//! account>` how many an account has, and `ended/<issuer>/<hash of the account>` how many of those are revoked. Issuers are named by what no other CA ever has, for their names can be used again.

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

    /// A new one: no other has its number.
    pub(in super::super) fn create(
        &self,
        items: &Items<'_>,
        serial: &Serial,
    ) -> Result<(), EngineError> {
        if Self::find(items, serial)?.is_some() {
            // Of 158 random bits.
            return Err(KeyError::Random.into());
        }
        IssuerState::issued(items, (&self.by, &self.issuer), self.not_after_s)?;
        let revoked = Ended::of(items, &self.by, &self.account)?;
        if revoked.since(self.not_before_s) >= MAX_REVOKED {
            return Err(EngineError::Precondition(format!(
                "{MAX_REVOKED} certificates of this account by {:?} are revoked and have not ended, which is the most; wait until some have ended, or use a profile of another issuer",
                self.issuer
            )));
        }
        hold(items, &self.account, |held| match held < MAX_HELD {
            true => Ok(held + 1),
            false => Err(EngineError::Precondition(format!(
                "{MAX_HELD} certificates of this account are kept, which is the most, until they ended 90 days ago; ask for fewer that live longer, or by another account"
            ))),
        })?;
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
        let mut revoked = Ended::of(items, &self.by, &self.account)?;
        *revoked.0.entry(self.not_after_s / DAY_S).or_default() += 1;
        revoked.put(items, &self.by, &self.account)?;
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
        if self.revoked.is_some() {
            // Those of that day and before have ended, too.
            let mut revoked = Ended::of(items, &self.by, &self.account)?;
            revoked.0 = revoked.0.split_off(&(self.not_after_s / DAY_S + 1));
            revoked.put(items, &self.by, &self.account)?;
        }
        hold(items, &self.account, |held| Ok(held.saturating_sub(1)))
    }
}

/// Most certificates of an account in the list of what one issuer revoked: a list that is full stops the issuer for all.
const MAX_REVOKED: usize = 10_000;
const DAY_S: u64 = 24 * 60 * 60;

/// How many certificates of an account one issuer revoked, by the day on which they end.
#[derive(Default, Serialize, Deserialize)]
struct Ended(BTreeMap<u64, usize>);

impl Ended {
    fn of(items: &Items<'_>, by: &IssuerId, account: &str) -> Result<Self, EngineError> {
        Ok(items.get(&ended_at(by, account))?.unwrap_or_default())
    }

    fn put(&self, items: &Items<'_>, by: &IssuerId, account: &str) -> Result<(), EngineError> {
        match self.0.is_empty() {
            true => drop(items.delete(&ended_at(by, account))?),
            false => items.put(&ended_at(by, account), self)?,
        }
        Ok(())
    }

    /// Of those that end on the day of `since_s` or later.
    fn since(&self, since_s: u64) -> usize {
        let all = self.0.range(since_s / DAY_S..);
        all.map(|(_, count)| count).sum()
    }
}

fn ended_at(by: &IssuerId, account: &str) -> String {
    format!("ended/{by}/{}", short_hash(account))
}

fn short_hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    HEXLOWER.encode(&hash.as_ref()[..16])
}

/// As if so many of an account were revoked that end then.
#[cfg(test)]
pub(in super::super) fn as_if_revoked(
    items: &Items<'_>,
    (by, account): (&IssuerId, &str),
    not_after_s: u64,
    count: usize,
) -> Result<(), EngineError> {
    let mut revoked = Ended::of(items, by, account)?;
    *revoked.0.entry(not_after_s / DAY_S).or_default() += count;
    revoked.put(items, by, account)
}

/// Most certificates of an account that are kept: nobody fills the disk for all.
const MAX_HELD: u64 = 1_000_000;

/// Changes how many certificates of an account there are.
fn hold(
    items: &Items<'_>,
    account: &str,
    change: impl FnOnce(u64) -> Result<u64, EngineError>,
) -> Result<(), EngineError> {
    let path = format!("held/{}", short_hash(account));
    match change(items.get(&path)?.unwrap_or_default())? {
        0 => drop(items.delete(&path)?),
        held => items.put(&path, &held)?,
    }
    Ok(())
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
