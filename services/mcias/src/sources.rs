//! Where failures come from: a source that fails at many accounts is slowed as a whole, and its network banned in the end. No clock and
//! no I/O.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::guesses::wait;

/// Failures of a source that cost it nothing: a person who mistypes.
const FREE: u32 = 10;
/// Failures of a source after which it is banned.
const BANNED_AT: u32 = 100;
/// A source's failures are forgotten one by one, each after so long.
const DECAY: Duration = Duration::from_secs(60);
/// The first ban of a source; each further one is twice as long.
const BAN: Duration = Duration::from_secs(3600);
const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);
/// A network that behaves for so long after a ban begins anew.
const FORGIVEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Sources that are remembered. When there are more, those with the fewest bans and failures are forgotten.
const MAX_SOURCES: usize = 100_000;

/// A network that is to be kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Which.
    pub network: IpNet,
    /// Until when.
    pub until: SystemTime,
    /// Its bans so far, with this one.
    pub bans: u32,
}

/// What of a source is remembered.
#[derive(Clone, Copy, Debug)]
struct Source {
    failures: u32,
    /// Until when failures were forgotten.
    decayed: SystemTime,
    last: SystemTime,
    bans: u32,
    banned_until: SystemTime,
}

impl Source {
    /// Less what was forgotten since.
    fn at(self, now: SystemTime) -> Self {
        let Ok(passed) = now.duration_since(self.decayed) else {
            // The clock went back: it counts from there.
            return Self {
                decayed: now,
                ..self
            };
        };
        let forgotten = passed.as_secs() / DECAY.as_secs();
        let forgiven = now
            .duration_since(self.banned_until)
            .is_ok_and(|since| since >= FORGIVEN);
        Self {
            failures: self
                .failures
                .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)),
            decayed: self.decayed + Duration::from_secs(forgotten * DECAY.as_secs()),
            bans: if forgiven { 0 } else { self.bans },
            ..self
        }
    }
}

/// The sources of failures.
#[derive(Debug, Default)]
pub struct Sources(HashMap<IpNet, Source>);

/// What of the network one party has: an IPv4 address, or the /64 of an IPv6 one.
#[must_use]
pub fn network(source: IpAddr) -> IpNet {
    match source.to_canonical() {
        IpAddr::V4(v4) => Ipv4Net::from(v4).into(),
        IpAddr::V6(v6) => {
            let first = Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX));
            Ipv6Net::new_assert(first, 64).into()
        }
    }
}

impl Sources {
    /// Takes a ban in that is known from before.
    pub fn remember(&mut self, ban: Ban) {
        if self.0.len() < MAX_SOURCES {
            let source = Source {
                failures: 0,
                decayed: ban.until,
                last: UNIX_EPOCH,
                bans: ban.bans,
                banned_until: ban.until,
            };
            self.0.insert(ban.network, source);
        }
    }

    /// From when on the next attempt of a source is looked at.
    #[must_use]
    pub fn open_from(&self, source: IpAddr, now: SystemTime) -> SystemTime {
        let Some(known) = self.0.get(&network(source)) else {
            return UNIX_EPOCH;
        };
        let failures = known.at(now).failures;
        let slowed = match failures.checked_sub(FREE + 1) {
            Some(beyond) => known.last.min(now) + wait(beyond + 1),
            None => UNIX_EPOCH,
        };
        // A clock that went back closes nothing for longer than a ban.
        slowed.max(known.banned_until.min(now + LONGEST_BAN))
    }

    /// After a failure, or an attempt that came too early. A ban, if it is one too many.
    pub fn failed(&mut self, source: IpAddr, now: SystemTime) -> Option<Ban> {
        let network = network(source);
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&network) {
            self.forget(now);
        }
        let known = self.0.entry(network).or_insert(Source {
            failures: 0,
            decayed: now,
            last: now,
            bans: 0,
            banned_until: UNIX_EPOCH,
        });
        *known = known.at(now);
        if known.failures == 0 {
            known.decayed = now;
        }
        known.last = now;
        if known.banned_until > now {
            // It is kept away already, as far as somebody does.
            return None;
        }
        known.failures = known.failures.saturating_add(1);
        if known.failures < BANNED_AT {
            return None;
        }
        let length = BAN.saturating_mul(1 << known.bans.min(10)).min(LONGEST_BAN);
        known.failures = 0;
        known.bans = known.bans.saturating_add(1);
        known.banned_until = now + length;
        Some(Ban {
            network,
            until: known.banned_until,
            bans: known.bans,
        })
    }

    /// Forgets what a network did.
    pub fn forgive(&mut self, network: IpNet) {
        self.0.remove(&network);
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes room: an eighth of all, those with the fewest bans and failures first.
    fn forget(&mut self, now: SystemTime) {
        let rank = |source: &Source| {
            let source = source.at(now);
            (source.bans, source.failures)
        };
        let mut ranks: Vec<_> = self.0.values().map(rank).collect();
        let eighth = ranks.len() / 8;
        let (_, least, _) = ranks.select_nth_unstable(eighth);
        let (least, mut room) = (*least, eighth.max(1));
        self.0.retain(|_, source| {
            let goes = room > 0 && rank(source) <= least;
            room -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 86_400_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + seconds)
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
        let other = "192.0.2.2".parse().unwrap();
        assert!(sources.open_from(other, at(0)) <= at(0), "another one");
        let mut now = 0;
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(now)));
            let ban = failed.expect("a ban");
            assert_eq!(ban.until, at(now + hours * 3600), "{hours} hours");
            assert_eq!(ban.network, "192.0.2.1/32".parse().unwrap());
            assert_eq!(sources.open_from(source, at(now)), ban.until);
            let again = (0..2 * BANNED_AT).find_map(|_| sources.failed(source, at(now)));
            assert_eq!(again, None, "it is banned already");
            now += hours * 3600;
        }
        now += FORGIVEN.as_secs();
        let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(now)));
        assert_eq!(failed.map(|ban| ban.bans), Some(1), "forgiven");
    }

    #[test]
    fn a_ban_outlives_the_process() {
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let ban = Ban {
            network: network(source),
            until: at(3600),
            bans: 1,
        };
        let mut sources = Sources::default();
        sources.remember(ban);
        assert_eq!(sources.open_from(source, at(0)), at(3600));
        assert!(sources.open_from(source, at(3600)) <= at(3600));
        let failed = (0..BANNED_AT).find_map(|_| sources.failed(source, at(3600)));
        assert_eq!(
            failed.map(|ban| ban.until),
            Some(at(3 * 3600)),
            "twice as long"
        );
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
        // One that fails once a minute is never banned; one that fails a little more often is.
        assert!((0..1000).all(|n| sources.failed(source, at(7200 + n * 60)).is_none()));
        let mut sources = Sources::default();
        assert!((0..1000).any(|n| sources.failed(source, at(n * 50)).is_some()));
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

    proptest! {
        /// Whoever guesses from one network, whenever he likes and whoever fails beside him: in no stretch of time are there more
        /// failures than a ban takes, and one for each minute.
        #[test]
        fn a_source_guesses_no_faster_than_it_is_to(
            steps in prop::collection::vec((0_u64..200, any::<bool>()), 1..500),
        ) {
            let mut sources = Sources::default();
            let (bad, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
            let (mut now, mut looked_at) = (0, Vec::new());
            for (passed, beside) in steps {
                now += passed * passed / 100;
                if beside {
                    sources.failed(other, at(now));
                }
                let open = sources.open_from(bad, at(now)) <= at(now);
                if let Some(ban) = sources.failed(bad, at(now)) {
                    prop_assert!(ban.until >= at(now) + BAN && ban.until <= at(now) + LONGEST_BAN);
                }
                if open {
                    looked_at.push(now);
                }
            }
            for (first, from) in looked_at.iter().enumerate() {
                for (last, to) in looked_at.iter().enumerate().skip(first) {
                    let count = last - first + 1;
                    let most = u64::from(BANNED_AT) + (to - from) / DECAY.as_secs() + 1;
                    prop_assert!(count as u64 <= most, "{count} in {} s", to - from);
                }
            }
            prop_assert!(sources.len() <= 2);
        }

        /// Who is looked at often is forgotten no sooner.
        #[test]
        fn looking_forgets_nothing(
            failures in 0_u32..200,
            bans in 0_u32..5,
            banned in 0_u64..100_000,
            looks in prop::collection::vec(0_u64..5_000, 0..40),
        ) {
            let source = Source {
                failures,
                decayed: at(0),
                last: at(0),
                bans,
                banned_until: at(banned),
            };
            let (mut now, mut looked) = (0, source);
            for passed in looks {
                now += passed;
                looked = looked.at(at(now));
                let once = source.at(at(now));
                prop_assert_eq!((looked.failures, looked.bans), (once.failures, once.bans));
                prop_assert!(looked.failures <= failures);
            }
        }

        /// A ban that is lifted is over, and nothing else is.
        #[test]
        fn who_is_forgiven_begins_anew(host in any::<u32>(), failures in 0_u32..200) {
            let source: IpAddr = std::net::Ipv4Addr::from_bits(host).into();
            let other = std::net::Ipv4Addr::from_bits(host ^ 1).into();
            let mut sources = Sources::default();
            for _ in 0..failures {
                sources.failed(source, at(0));
                sources.failed(other, at(0));
            }
            let before = sources.open_from(other, at(0));
            sources.forgive(network(source));
            prop_assert!(sources.open_from(source, at(0)) <= at(0));
            prop_assert_eq!(sources.open_from(other, at(0)), before);
        }
    }
}
