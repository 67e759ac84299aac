//! Certificates that were signed: by their serials, and in the order in which they expire.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use mcdsl::policy::Name;

use super::{certificate::Certificate, revoked};
use crate::{
    barrier::{Items, KeyError},
    engine::{EngineError, MAX_LOOKED_AT},
};

/// Where the serial of the newest one is.
const LAST: &str = "serial";
const CERTIFICATES: &str = "certificates/";
const EXPIRY: &str = "expiry/";
/// How many there are, by account.
const COUNTS: &str = "counts/";
/// How long they are kept when they have expired: 30 days.
const KEPT_S: u64 = 30 * 24 * 60 * 60;
/// Most that are dropped at once.
const DROPPED: usize = 200;
/// Serials of one second.
const SECOND: u32 = 20;
/// Places that are read at once.
const PAGE: usize = 200;
/// Most certificates of one account that are kept.
const MAX_OF_ACCOUNT: u32 = 100_000;

/// The next serial: later ones are greater, also than those that a snapshot does not know of, for their time is in them.
fn next(last: u64, now_s: u64) -> u64 {
    last.saturating_add(1).max(now_s << SECOND)
}

/// The newest serial that was given, also to what is not kept yet.
#[derive(Debug, Default)]
pub(super) struct Serials(Mutex<u64>);

impl Serials {
    /// A serial that no certificate has, where `stored` is the newest one that was kept when nothing was given yet.
    pub(super) fn take(&self, stored: u64, now_s: u64) -> u64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = next(stored.max(*last), now_s);
        *last
    }
}

/// The newest serial that was kept.
pub(super) fn last(items: &Items<'_>) -> Result<u64, EngineError> {
    Ok(items.get(LAST)?.unwrap_or_default())
}

fn path(serial: u64) -> String {
    format!("{CERTIFICATES}{serial:020}")
}

fn count_path(account: &Name) -> String {
    format!("{COUNTS}{account}")
}

/// How many certificates of an account are kept.
pub(super) fn count(items: &Items<'_>, account: &Name) -> Result<u32, EngineError> {
    Ok(items.get(&count_path(account))?.unwrap_or_default())
}

/// Where a certificate is in the order in which they expire; it is judged by its profile, and so opened only if that may be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    valid_before_s: u64,
    serial: u64,
    profile: String,
}

impl Place {
    fn of(certificate: &Certificate) -> Self {
        Self {
            valid_before_s: certificate.valid_before_s,
            serial: certificate.serial,
            profile: certificate.profile.to_string(),
        }
    }

    fn path(&self) -> String {
        let Self {
            valid_before_s,
            serial,
            profile,
        } = self;
        format!("{EXPIRY}{valid_before_s:020}-{serial:020}/{profile}")
    }

    /// The one of a path.
    fn read(path: &str) -> Result<Self, EngineError> {
        let parts = || {
            let (at, profile) = path.strip_prefix(EXPIRY)?.split_once('/')?;
            let (valid_before_s, serial) = at.split_once('-')?;
            Some(Self {
                valid_before_s: valid_before_s.parse().ok()?,
                serial: serial.parse().ok()?,
                profile: profile.to_owned(),
            })
        };
        let broken = || KeyError::Opened("the place of an SSH certificate".to_owned());
        Ok(parts().ok_or_else(broken)?)
    }
}

/// In front of all certificates that expire at this time or later, to go on from.
pub(super) fn from(valid_before_s: u64) -> String {
    format!("{EXPIRY}{valid_before_s:020}")
}

/// Keeps a certificate.
pub(super) fn keep(items: &Items<'_>, certificate: &Certificate) -> Result<(), EngineError> {
    let (account, serial) = (&certificate.account, certificate.serial);
    let kept = count(items, account)?;
    if kept >= MAX_OF_ACCOUNT {
        return Err(EngineError::Precondition(format!(
            "{MAX_OF_ACCOUNT} certificates of {account} are kept, which is the most; they are dropped 30 days after they have expired, so ask for shorter ones (ttl_s), or less often"
        )));
    }
    items.put(&count_path(account), &(kept + 1))?;
    items.put(LAST, &serial.max(last(items)?))?;
    items.put(&path(serial), certificate)?;
    Ok(items.put(&Place::of(certificate).path(), &())?)
}

/// What came of dropping some.
pub(super) struct Dropped {
    /// One of them was revoked.
    pub(super) revoked: bool,
    /// There are more.
    pub(super) more: bool,
}

/// Drops some that expired long ago.
pub(super) fn drop_old(items: &Items<'_>, now_s: u64) -> Result<Dropped, EngineError> {
    let old = |place: &Place| place.valid_before_s.saturating_add(KEPT_S) <= now_s;
    let paths = items.names(EXPIRY, "", DROPPED)?;
    let places = paths.iter().map(|path| Place::read(path));
    let mut places: Vec<_> = places.collect::<Result<_, _>>()?;
    let more = places.len() == DROPPED && places.last().is_some_and(old);
    places.retain(old);
    let mut revoked = false;
    for place in places {
        if let Some(certificate) = find(items, place.serial)? {
            let left = count(items, &certificate.account)?.saturating_sub(1);
            match left {
                0 => drop(items.delete(&count_path(&certificate.account))?),
                left => items.put(&count_path(&certificate.account), &left)?,
            }
        }
        items.delete(&place.path())?;
        items.delete(&path(place.serial))?;
        revoked |= revoked::forget(items, place.serial, now_s)?;
    }
    Ok(Dropped { revoked, more })
}

/// The certificate of this serial.
pub(super) fn find(items: &Items<'_>, serial: u64) -> Result<Option<Certificate>, EngineError> {
    Ok(items.get(&path(serial))?)
}

/// Certificates behind a path that expire before a time, of profiles that may be read, and of those the ones that are `wanted`: at most `limit`, and the path to go on
/// from; empty: these were the last.
pub(super) fn list(
    items: &Items<'_>,
    after: &str,
    until_s: u64,
    limit: usize,
    may: &dyn Fn(&str) -> bool,
    wanted: &dyn Fn(&Certificate) -> bool,
) -> Result<(Vec<Certificate>, String), EngineError> {
    let (mut found, mut at, mut looked_at) = (Vec::new(), after.to_owned(), 0);
    let mut judged: HashMap<String, bool> = HashMap::new();
    loop {
        let page = items.names(EXPIRY, &at, PAGE)?;
        let last = page.len() < PAGE;
        for next in page {
            let place = Place::read(&next)?;
            if place.valid_before_s >= until_s {
                return Ok((found, String::new()));
            }
            if found.len() == limit || looked_at == MAX_LOOKED_AT {
                return Ok((found, at));
            }
            (at, looked_at) = (next, looked_at + 1);
            let may = judged
                .entry(place.profile)
                .or_insert_with_key(|profile| may(profile));
            if *may {
                found.extend(find(items, place.serial)?.filter(wanted));
            }
        }
        if last {
            return Ok((found, String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::ssh::{KIND, authority::Kind},
        testing::{World, nothing},
    };

    #[test]
    fn serials_grow_whatever_is_known_of_the_last_one() {
        let now_s = 1_800_000_000;
        let first = next(0, now_s);
        let second = next(first, now_s);
        assert_eq!(second, first + 1, "in the same second");
        assert!(next(first, now_s + 1) > second, "a snapshot was restored");
        assert_eq!(
            next(second, now_s - 60),
            second + 1,
            "the clock was set back"
        );
    }

    #[test]
    fn no_serial_is_given_twice_before_it_is_kept() {
        let serials = Serials::default();
        let now_s = 1_800_000_000;
        let first = serials.take(0, now_s);
        assert_eq!(serials.take(0, now_s), first + 1, "nothing is kept yet");
        assert_eq!(serials.take(first + 9, now_s - 60), first + 10);
    }

    fn certificate(serial: u64, profile: &str) -> Certificate {
        let name = |name: &str| name.parse().unwrap();
        Certificate {
            serial,
            profile: name(profile),
            kind: Kind::User,
            account: name("ada"),
            principals: Vec::new(),
            valid_after_s: 0,
            valid_before_s: serial,
            line: String::new(),
            fingerprint: String::new(),
            ca_fingerprint: String::new(),
            ca: String::new(),
        }
    }

    #[tokio::test]
    async fn certificates_that_may_not_be_read_are_not_opened_and_looked_at_in_parts() {
        let world = World::open().await;
        let made = world.metacrypt.mount("ssh", "ssh", nothing());
        made.await.unwrap();
        let mount = world.metacrypt.open().unwrap().mount(&KIND, "ssh").unwrap();
        let db = world.db();
        let items = mount.items(&db);
        db.execute_batch("BEGIN").unwrap();
        for serial in 1..=MAX_LOOKED_AT as u64 {
            let hidden = certificate(serial, "hidden");
            items.put(&Place::of(&hidden).path(), &()).unwrap();
            // What cannot be read at all: a list that opened it would fail.
            items.put(&path(serial), &"no certificate").unwrap();
        }
        for serial in 5000..5003 {
            keep(&items, &certificate(serial, "mine")).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        let read = |after: &str| {
            let may = |profile: &str| profile == "mine";
            let (found, next) = list(&items, after, u64::MAX, 2, &may, &|_| true).unwrap();
            let serials: Vec<_> = found.iter().map(|found| found.serial).collect();
            (serials, next)
        };
        let (none, next) = read(&from(0));
        assert_eq!(none, [0; 0]);
        let (found, next) = read(&next);
        assert_eq!(found, [5000, 5001]);
        assert_eq!(read(&next), (vec![5002], String::new()));
        let opened = list(&items, "", u64::MAX, 2, &|_| true, &|_| true);
        assert!(opened.is_err(), "what may be read is opened");
    }

    #[tokio::test]
    async fn an_account_has_so_many_certificates() {
        let world = World::open().await;
        let made = world.metacrypt.mount("ssh", "ssh", nothing());
        made.await.unwrap();
        let mount = world.metacrypt.open().unwrap().mount(&KIND, "ssh").unwrap();
        let db = world.db();
        let items = mount.items(&db);
        let one = certificate(7, "mine");
        keep(&items, &one).unwrap();
        assert_eq!(count(&items, &one.account).unwrap(), 1);
        items
            .put(&count_path(&one.account), &MAX_OF_ACCOUNT)
            .unwrap();
        let refused = keep(&items, &certificate(8, "mine")).unwrap_err();
        assert!(refused.to_string().contains("of ada"), "{refused}");
        items.put(&count_path(&one.account), &1).unwrap();
        drop_old(&items, 7 + KEPT_S).unwrap();
        assert_eq!(count(&items, &one.account).unwrap(), 0);
        assert_eq!(items.names(COUNTS, "", 1).unwrap(), [""; 0]);
    }
}
