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
    /// Attempts since it is banned, which nobody was told of.
    refused: u64,
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

/// Of a network's first ban, the second, and so on.
fn length(bans: u32) -> Duration {
    let doubled = bans.saturating_sub(1).min(10);
    BAN.saturating_mul(1 << doubled).min(LONGEST_BAN)
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
                refused: 0,
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

    /// After an attempt of a source that is banned: counts it. `false`: it is not.
    pub fn refuse(&mut self, source: IpAddr, now: SystemTime) -> bool {
        let known = self.0.get_mut(&network(source));
        let banned = known.filter(|known| known.banned_until > now);
        banned.is_some_and(|known| {
            known.refused = known.refused.saturating_add(1);
            true
        })
    }

    /// How many attempts of a network were refused in its ban.
    #[must_use]
    pub fn refused(&self, network: IpNet) -> u64 {
        self.0.get(&network).map_or(0, |known| known.refused)
    }

    /// Networks whose bans are over, and in which attempts were refused that nobody was told of.
    #[must_use]
    pub fn over(&self, now: SystemTime) -> Vec<(IpNet, u64)> {
        let over = self.0.iter();
        let over = over.filter(|(_, known)| known.refused > 0 && known.banned_until <= now);
        over.map(|(network, known)| (*network, known.refused))
            .collect()
    }

    /// Somebody was told of so many of them.
    pub fn told(&mut self, network: IpNet, refused: u64) {
        if let Some(known) = self.0.get_mut(&network) {
            known.refused = known.refused.saturating_sub(refused);
        }
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
            refused: 0,
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
        known.failures = 0;
        known.bans = known.bans.saturating_add(1);
        known.banned_until = now + length(known.bans);
        Some(Ban {
            network,
            until: known.banned_until,
            bans: known.bans,
        })
    }

    /// Undoes a ban that came to nothing: the next failure leads to it again.
    pub fn take_back(&mut self, ban: Ban) {
        let Some(known) = self.0.get_mut(&ban.network) else {
            return;
        };
        if (known.bans, known.banned_until) == (ban.bans, ban.until) {
            known.failures = BANNED_AT - 1;
            known.bans -= 1;
            // When it began, from when on it may be forgiven.
            known.banned_until = ban.until - length(ban.bans);
        }
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
mod tests;
