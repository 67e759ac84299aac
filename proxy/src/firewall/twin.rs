//! The firewall for clients that XDP cannot see: behind another proxy, known by their PROXY header. The same decision
//! over the same tables; rates by `governor`.
//!
//! It reads a snapshot, so that a client never waits for whoever reads or changes the kernel's maps.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota};
use mc_edge_common::{
    decide::{Class, Decision, Limit, Packet, Source, Tables, decide},
    firewall::{Config, CountryActions, HostEntry, PrefixEntry, Reason},
};

use super::{
    CountryOf,
    compile::{Compiled, Prefix},
    ktime,
    prefix::{judged, source},
};
use crate::spec::{RateLimit, RateLimits};

/// Sources whose rates are remembered: as the kernel's LRU, at about 100 bytes each.
const MAX_SOURCES: usize = 65_536;

/// The decision on a client.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Pass, drop or reset, and why.
    pub decision: Decision,
    /// Rules that observed it.
    pub observed: Vec<(u32, Reason)>,
    /// Its country index; 0 = unknown.
    pub country: u8,
}

/// One limit's buckets, by [`Source::rate_key`].
struct Limiter {
    buckets: DefaultKeyedRateLimiter<u64>,
    quota: Quota,
}

impl Limiter {
    fn new(quota: Quota) -> Self {
        Self {
            buckets: DefaultKeyedRateLimiter::keyed(quota),
            quota,
        }
    }

    /// Counts an event. Full, it forgets sources whose buckets are full again, and all if that frees less than half:
    /// so a sweep is paid for by as many new sources, and a flood of sources costs the others a burst, as it does
    /// in the kernel's LRU, and never the service.
    fn conforms(&mut self, key: u64, most: usize) -> bool {
        if self.buckets.len() >= most {
            self.buckets.retain_recent();
            if self.buckets.len() > most / 2 {
                *self = Self::new(self.quota);
            }
        }
        self.buckets.check_key(&key).is_ok()
    }
}

/// Both limiters; `None` = no limit.
#[derive(Default)]
pub(super) struct Rates(Mutex<(Option<Limiter>, Option<Limiter>)>);

fn limiter(limit: Option<RateLimit>) -> Option<Limiter> {
    let limit = limit?;
    let interval = Duration::from_secs_f64(1.0 / limit.per_second);
    // The limiter multiplies both in 64 bits of nanoseconds, unchecked; a burst of centuries is none anyway.
    let most = u128::from(u64::MAX / 2) / interval.as_nanos().max(1);
    let burst = u128::from(limit.burst).min(most);
    let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new);
    let quota = Quota::with_period(interval)?.allow_burst(burst.unwrap_or(NonZeroU32::MIN));
    Some(Limiter::new(quota))
}

impl Rates {
    pub(super) fn set(&self, limits: &RateLimits) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            (limiter(limits.connections), limiter(limits.packets));
    }

    fn conforms(&self, limit: Limit, key: u64) -> bool {
        let mut limiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = match limit {
            Limit::Connections => &mut limiters.0,
            Limit::Packets => &mut limiters.1,
        };
        limiter
            .as_mut()
            .is_none_or(|limiter| limiter.conforms(key, MAX_SOURCES))
    }
}

/// What the twin judges by: replaced whole with every change.
pub(super) struct Snapshot {
    pub(super) compiled: Arc<Compiled>,
    pub(super) config: Config,
    pub(super) countries: CountryActions,
    pub(super) guarded: BTreeSet<u16>,
}

struct Twin<'a> {
    in_force: &'a Snapshot,
    rates: &'a Rates,
    country: u8,
    observed: RefCell<Vec<(u32, Reason)>>,
}

fn longest(trie: &BTreeMap<Prefix, PrefixEntry>, bits: u128, width: u8) -> Option<PrefixEntry> {
    if trie.is_empty() {
        return None;
    }
    (0..=width).rev().find_map(|length| {
        let host = u32::from(width - length);
        let network = if host >= 128 { 0 } else { bits >> host << host };
        trie.get(&(network, length)).copied()
    })
}

impl Twin<'_> {
    fn longest(&self, source: Source, allow: bool) -> Option<PrefixEntry> {
        let (tries, bits, width) = match source {
            Source::V4(address) => (&self.in_force.compiled.v4, u128::from(address), 32),
            Source::V6(high, low) => (
                &self.in_force.compiled.v6,
                u128::from(high) << 64 | u128::from(low),
                128,
            ),
        };
        longest(if allow { &tries.allow } else { &tries.block }, bits, width)
    }
}

impl Tables for Twin<'_> {
    fn config(&self) -> &Config {
        &self.in_force.config
    }
    fn host(&self, source: Source) -> HostEntry {
        let compiled = &self.in_force.compiled;
        let entry = match source {
            Source::V4(address) => compiled.hosts4.get(&address),
            Source::V6(high, _) => compiled.hosts6.get(&high),
        };
        entry.copied().unwrap_or_default()
    }
    fn blocked(&self, source: Source) -> Option<PrefixEntry> {
        self.longest(source, false)
    }
    fn allowed(&self, source: Source) -> Option<PrefixEntry> {
        self.longest(source, true)
    }
    fn now(&self) -> u64 {
        ktime()
    }
    fn guarded(&self, port: u32) -> bool {
        self.in_force.guarded.contains(&(port as u16))
    }
    fn country(&self, _source: Source) -> u8 {
        self.country
    }
    fn country_action(&self, country: u8) -> u8 {
        self.in_force.countries.actions[usize::from(country)]
    }
    fn conforms(&self, limit: Limit, source: Source) -> bool {
        self.rates.conforms(limit, source.rate_key())
    }
    fn observed(&self, _packet: &Packet, rule: u32, reason: Reason) {
        self.observed.borrow_mut().push((rule, reason));
    }
    fn judged_country(&self, _country: u8, _denied: bool) {}
}

pub(super) fn admit(
    in_force: &Snapshot,
    rates: &Rates,
    country: &CountryOf,
    address: IpAddr,
    port: u16,
) -> Admission {
    let country = country(judged(address));
    let tables = Twin {
        in_force,
        rates,
        country,
        observed: RefCell::default(),
    };
    let packet = Packet {
        source: source(address),
        class: Class::Syn,
        port: u32::from(port),
        length: 0,
    };
    let decision = decide(&tables, &packet);
    Admission {
        decision,
        observed: tables.observed.into_inner(),
        country,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Action;

    #[test]
    fn a_flood_of_sources_is_bounded_and_denies_no_one_else() {
        let mut limiter = limiter(Some(RateLimit {
            per_second: 0.001,
            burst: 1,
            action: Action::Drop,
        }))
        .unwrap();
        assert!(limiter.conforms(0, 8));
        assert!(!limiter.conforms(0, 8), "its bucket is empty");
        for source in 1..100 {
            assert!(limiter.conforms(source, 8), "source {source} is new");
            assert!(limiter.buckets.len() <= 8, "source {source}");
        }
    }
}
