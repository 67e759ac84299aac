//! Guessing made slow: who failed, how often, and when he may try again. No clock and no I/O.
//!
//! What is guessed at and where from are counted apart. A credential answers nobody for a while after each failure, so that many
//! sources together are no faster than one; a source that fails at many credentials is slowed as a whole, and banned in the end. An
//! attempt that comes too early is not looked at, or its answer would be worth something; for its source it counts as a failure.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// After the first, second … failure, seconds.
const WAITS: [u64; 4] = [1, 3, 5, 10];
/// Beyond those it doubles up to this.
const LONGEST: u64 = 300;
/// Failures in a day after which the rest of it is closed.
const DAILY: u32 = 100;
/// A failure of a credential is forgotten after this, if none followed.
const FORGET: Duration = Duration::from_secs(24 * 3600);

/// Failures of a source that cost it nothing: a person who mistypes.
const FREE: u32 = 10;
/// Failures of a source after which it is banned.
const BANNED_AT: u32 = 100;
/// A source's failures are forgotten one by one, each after so long.
const DECAY: Duration = Duration::from_secs(60);
/// The first ban of a source; each further one is twice as long.
const BAN: Duration = Duration::from_secs(3600);
const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);
/// Sources that are remembered. When there are more, those with the fewest failures are forgotten.
const MAX_SOURCES: usize = 100_000;

const DAY: u64 = 24 * 3600;

/// The failures of one credential: of an account's name, whether there is such an account or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Since the last success, or since [`FORGET`].
    pub failures: u32,
    /// Of those, today's.
    pub today: u32,
    /// When the last was; `None`: there was none.
    pub last: Option<SystemTime>,
}

fn day(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / DAY
}

impl Guesses {
    /// From when on the next attempt is looked at. A clock that went back closes nothing for longer than a wait.
    #[must_use]
    pub fn open_from(&self, now: SystemTime) -> SystemTime {
        let Some(last) = self
            .last
            .filter(|last| self.failures > 0 && *last <= now + Duration::from_secs(LONGEST))
        else {
            return UNIX_EPOCH;
        };
        if self.today >= DAILY && day(last) == day(now) {
            return UNIX_EPOCH + Duration::from_secs((day(now) + 1) * DAY);
        }
        last + wait(self.failures)
    }

    /// After a failure.
    #[must_use]
    pub fn failed(self, now: SystemTime) -> Self {
        let recent = self
            .last
            .is_some_and(|last| now.duration_since(last).unwrap_or_default() < FORGET);
        let same_day = self.last.is_some_and(|last| day(last) == day(now));
        Self {
            failures: if recent {
                self.failures.saturating_add(1)
            } else {
                1
            },
            today: if same_day {
                self.today.saturating_add(1)
            } else {
                1
            },
            last: Some(now),
        }
    }

    /// After a success. Today's failures stay: who guesses does not know of it, and the day's bound is against him.
    #[must_use]
    pub fn succeeded(self) -> Self {
        Self {
            failures: 0,
            ..self
        }
    }
}

fn wait(failures: u32) -> Duration {
    let n = failures as usize;
    let seconds = match n {
        0 => 0,
        _ if n <= WAITS.len() => WAITS[n - 1],
        _ => WAITS[WAITS.len() - 1] << (n - WAITS.len()).min(10),
    };
    Duration::from_secs(seconds.min(LONGEST))
}

/// A source that is to be kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The address that was seen last.
    pub source: IpAddr,
    /// Until when.
    pub until: SystemTime,
    /// Failures that led to it.
    pub failures: u32,
}

/// What of a source is remembered.
#[derive(Clone, Copy, Debug)]
struct Source {
    failures: u32,
    last: SystemTime,
    bans: u32,
}

impl Source {
    /// Failures, less what was forgotten since.
    fn at(self, now: SystemTime) -> Self {
        let passed = now.duration_since(self.last).unwrap_or_default().as_secs() / DECAY.as_secs();
        let forgotten = u32::try_from(passed).unwrap_or(u32::MAX);
        Self {
            failures: self.failures.saturating_sub(forgotten),
            ..self
        }
    }
}

/// The sources of failures.
#[derive(Debug, Default)]
pub struct Sources(HashMap<IpAddr, Source>);

/// Whoever has an IPv6 address has its /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Sources {
    /// From when on the next attempt of a source is looked at.
    #[must_use]
    pub fn open_from(&self, source: IpAddr, now: SystemTime) -> SystemTime {
        let Some(known) = self.0.get(&network(source)) else {
            return UNIX_EPOCH;
        };
        let failures = known.at(now).failures;
        if failures <= FREE {
            return UNIX_EPOCH;
        }
        known.last.min(now) + wait(failures - FREE)
    }

    /// After a failure, or an attempt that came too early. A ban, if it is one too many.
    pub fn failed(&mut self, source: IpAddr, now: SystemTime) -> Option<Ban> {
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&network(source)) {
            self.forget(now);
        }
        let new = Source {
            failures: 0,
            last: now,
            bans: 0,
        };
        let known = self.0.entry(network(source)).or_insert(new);
        *known = known.at(now);
        known.failures = known.failures.saturating_add(1);
        known.last = now;
        if known.failures < BANNED_AT {
            return None;
        }
        let failures = known.failures;
        let ban = BAN.saturating_mul(1 << known.bans.min(10)).min(LONGEST_BAN);
        (known.failures, known.bans) = (0, known.bans.saturating_add(1));
        Some(Ban {
            source,
            until: now + ban,
            failures,
        })
    }

    /// Makes room: an eighth of all, those with the fewest failures first.
    fn forget(&mut self, now: SystemTime) {
        let mut failures: Vec<u32> = self
            .0
            .values()
            .map(|source| source.at(now).failures)
            .collect();
        let eighth = failures.len() / 8;
        let (_, least, _) = failures.select_nth_unstable(eighth);
        let (least, mut room) = (*least, eighth.max(1));
        self.0.retain(|_, source| {
            let goes = room > 0 && source.at(now).failures <= least;
            room -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000 * DAY;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + seconds)
    }

    #[test]
    fn each_failure_waits_longer() {
        let mut guesses = Guesses::default();
        assert!(guesses.open_from(at(0)) <= at(0), "nothing failed");
        for (failure, wanted) in [1, 3, 5, 10, 20, 40, 80, 160, 300, 300]
            .into_iter()
            .enumerate()
        {
            guesses = guesses.failed(at(0));
            assert_eq!(
                guesses.open_from(at(0)),
                at(wanted),
                "after failure {}",
                failure + 1
            );
        }
        assert!(
            guesses.succeeded().open_from(at(0)) <= at(0),
            "after a success"
        );
        let later = guesses.failed(at(2 * DAY));
        assert_eq!(
            later.open_from(at(2 * DAY)),
            at(2 * DAY + 1),
            "two days later"
        );
    }

    #[test]
    fn a_hundred_failures_close_the_day() {
        let fail = |guesses: Guesses, _| guesses.failed(at(3600));
        let many = (0..DAILY).fold(Guesses::default(), fail);
        assert_eq!(many.open_from(at(7200)), at(DAY));
        assert!(many.open_from(at(DAY)) <= at(DAY), "the next day");
        // Somebody who guesses is not helped by a success in between, which is the owner's.
        let half = (0..DAILY / 2).fold(Guesses::default(), fail).succeeded();
        let rest = (0..DAILY / 2).fold(half, fail);
        assert_eq!(rest.open_from(at(7200)), at(DAY));
        let clock_went_back = many.open_from(at(0));
        assert!(clock_went_back <= at(DAY), "{clock_went_back:?}");
    }

    #[test]
    fn a_source_is_slowed_then_banned_each_time_for_longer() {
        let mut sources = Sources::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for n in 0..FREE {
            assert_eq!(sources.failed(source, at(0)), None);
            assert!(
                sources.open_from(source, at(0)) <= at(0),
                "failure {n} is free"
            );
        }
        sources.failed(source, at(0));
        assert_eq!(sources.open_from(source, at(0)), at(1));
        assert!(
            sources.open_from("192.0.2.2".parse().unwrap(), at(0)) <= at(0),
            "another one"
        );
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            let ban = (0..BANNED_AT)
                .find_map(|_| sources.failed(source, at(0)))
                .unwrap();
            assert_eq!(ban.until, at(hours * 3600));
            assert_eq!(ban.source, source);
        }
    }

    #[test]
    fn failures_of_a_source_are_forgotten_in_time() {
        let mut sources = Sources::default();
        let source: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..50 {
            sources.failed(source, at(0));
        }
        let neighbour = "2001:db8::2".parse().unwrap();
        assert!(sources.open_from(neighbour, at(0)) > at(0), "the same /64");
        assert!(
            sources.open_from("2001:db8:0:1::1".parse().unwrap(), at(0)) <= at(0),
            "another /64"
        );
        assert!(
            sources.open_from(source, at(40 * 60)) <= at(40 * 60),
            "after 40 minutes"
        );
        // One that fails once a minute is never banned.
        assert!((0..1000).all(|n| sources.failed(source, at(3600 + n * 60)).is_none()));
    }

    #[test]
    fn a_flood_of_sources_forgets_those_that_failed_least() {
        let mut sources = Sources::default();
        let bad: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..50 {
            sources.failed(bad, at(0));
        }
        for n in 0..2 * MAX_SOURCES as u32 {
            sources.failed(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), at(0));
        }
        assert!(sources.0.len() <= MAX_SOURCES);
        assert!(sources.open_from(bad, at(0)) > at(0));
    }
}
