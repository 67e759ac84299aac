//! Certificates that were signed: by their serials, and in the order in which they expire.

use super::{certificate::Certificate, revoked};
use crate::{barrier::Items, engine::EngineError};

/// Where the serial of the newest one is.
const LAST: &str = "serial";
const CERTIFICATES: &str = "certificates/";
const EXPIRY: &str = "expiry/";
/// How long they are kept when they have expired: 30 days.
const KEPT_S: u64 = 30 * 24 * 60 * 60;
/// Most that are dropped at once.
const DROPPED: usize = 200;
/// Serials of one second.
const SECOND: u32 = 20;
/// Places that are read at once.
const PAGE: usize = 200;
/// Most that a list looks at.
const MAX_LOOKED_AT: usize = 2000;

/// The next serial: later ones are greater, also than those that a snapshot does not know of, for their time is in them.
fn next(last: u64, now_s: u64) -> u64 {
    last.saturating_add(1).max(now_s << SECOND)
}

/// A serial that no certificate has.
pub(super) fn serial(items: &Items<'_>, now_s: u64) -> Result<u64, EngineError> {
    let serial = next(items.get(LAST)?.unwrap_or_default(), now_s);
    items.put(LAST, &serial)?;
    Ok(serial)
}

fn path(serial: u64) -> String {
    format!("{CERTIFICATES}{serial:020}")
}

/// Where a certificate is in the order in which they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) valid_before_s: u64,
    pub(super) serial: u64,
}

impl Place {
    fn of(certificate: &Certificate) -> Self {
        Self {
            valid_before_s: certificate.valid_before_s,
            serial: certificate.serial,
        }
    }

    fn path(self) -> String {
        format!("{EXPIRY}{self}")
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}-{:020}", self.valid_before_s, self.serial)
    }
}

impl std::str::FromStr for Place {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let wrong = || EngineError::field("after", "what the answer before said as `next`");
        let number = |text: &str| {
            let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.ok_or_else(wrong)
        };
        let (valid_before_s, serial) = text.split_once('-').ok_or_else(wrong)?;
        Ok(Self {
            valid_before_s: number(valid_before_s)?,
            serial: number(serial)?,
        })
    }
}

/// Keeps a certificate.
pub(super) fn keep(items: &Items<'_>, certificate: &Certificate) -> Result<(), EngineError> {
    items.put(&path(certificate.serial), certificate)?;
    Ok(items.put(&Place::of(certificate).path(), &())?)
}

/// What came of dropping some.
pub(super) struct Dropped {
    /// One of them was revoked.
    pub(super) revoked: bool,
    /// There are more.
    pub(super) more: bool,
}

/// Places behind one, in their order.
fn places(items: &Items<'_>, after: &str, limit: usize) -> Result<Vec<Place>, EngineError> {
    let names = items.names(EXPIRY, after, limit)?;
    let place = |name: &String| name.strip_prefix(EXPIRY).unwrap_or(name).parse();
    names.iter().map(place).collect()
}

/// Drops some that expired long ago.
pub(super) fn drop_old(items: &Items<'_>, now_s: u64) -> Result<Dropped, EngineError> {
    let old = |place: &Place| place.valid_before_s.saturating_add(KEPT_S) <= now_s;
    let mut places = places(items, "", DROPPED)?;
    let more = places.len() == DROPPED && places.last().is_some_and(old);
    places.retain(old);
    let mut revoked = false;
    for place in places {
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

/// Certificates behind a place that expire before a time, as many as are `wanted` and at most `limit`, and the place to go on from, if there may be more.
pub(super) fn list(
    items: &Items<'_>,
    after: Place,
    until_s: u64,
    limit: usize,
    wanted: &dyn Fn(&Certificate) -> bool,
) -> Result<(Vec<Certificate>, Option<Place>), EngineError> {
    let (mut found, mut at, mut looked_at) = (Vec::new(), after, 0);
    loop {
        let page = places(items, &at.path(), PAGE)?;
        let last = page.len() < PAGE;
        for place in page {
            if place.valid_before_s >= until_s {
                return Ok((found, None));
            }
            if found.len() == limit || looked_at == MAX_LOOKED_AT {
                return Ok((found, Some(at)));
            }
            at = place;
            looked_at += 1;
            if let Some(one) = items.get(&path(place.serial))?.filter(wanted) {
                found.push(one);
            }
        }
        if last {
            return Ok((found, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn places_are_read_as_they_are_written() {
        let place = Place {
            valid_before_s: 7,
            serial: u64::MAX,
        };
        assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        for text in [
            "",
            "-",
            "7-7",
            "../x",
            "+0000000000000000007-00000000000000000007",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
