//! Open connections, and requests of an L7 route, by source (IPv4 address, IPv6 /64), so that no client can hold them all.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use crate::firewall::source;

/// Locks, so that the workers seldom meet at one.
const SHARDS: usize = 16;

/// The counts. Bounded by the open connections: a source without one has no entry.
#[derive(Debug)]
pub struct Sources {
    limit: u32,
    shards: [Mutex<HashMap<u64, Weak<Source>>>; SHARDS],
}

/// One of them, as long as anybody has it.
#[derive(Debug)]
pub struct Source {
    open: AtomicU32,
    sources: Arc<Sources>,
    key: u64,
}

/// A counted connection or request; counts until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<Source>);

impl Default for Sources {
    fn default() -> Self {
        Self {
            limit: u32::MAX,
            shards: Default::default(),
        }
    }
}

impl Sources {
    /// At most `limit` open connections from each source.
    #[must_use]
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            limit,
            shards: Default::default(),
        })
    }

    /// The source of `address`, for who counts more than once.
    #[must_use]
    pub fn of(self: &Arc<Self>, address: IpAddr) -> Arc<Source> {
        let key = source(address.to_canonical()).rate_key();
        let mut shard = self.shard(key);
        let known = shard.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::new(Source {
                open: AtomicU32::new(0),
                sources: Arc::clone(self),
                key,
            });
            shard.insert(key, Arc::downgrade(&new));
            new
        })
    }

    /// Counts a connection of `address`; `None` if its source stands at the limit.
    #[must_use]
    pub fn count(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        self.of(address).count_below(self.limit)
    }

    /// The open connections of the source of `address`, and how many there may be.
    #[must_use]
    pub fn open(&self, address: IpAddr) -> (u32, u32) {
        let key = source(address.to_canonical()).rate_key();
        // Let go after the lock, which its end takes.
        let source = self.shard(key).get(&key).and_then(Weak::upgrade);
        let open = source.map_or(0, |source| source.open.load(Relaxed));
        (open, self.limit)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Weak<Source>>> {
        // Neighbouring IPv4 addresses differ in the low bits, IPv6 /64s mostly above bit 16.
        let index = (key ^ key >> 16 ^ key >> 32) as usize % SHARDS;
        (self.shards[index].lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Counts one more, if fewer than `limit` are.
    #[must_use]
    pub fn count_below(self: &Arc<Self>, limit: u32) -> Option<Counted> {
        let more = |open: u32| (open < limit).then(|| open + 1);
        let counted = self.open.fetch_update(Relaxed, Relaxed, more);
        counted.is_ok().then(|| Counted(Arc::clone(self)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.sources.shard(self.key).entry(self.key)
            // Else it is of who came since.
            && entry.get().strong_count() == 0
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_limit_and_no_entry_stays() {
        let sources = Sources::new(2);
        let of = |address: &str| sources.count(address.parse().unwrap());
        let first = of("192.0.2.1");
        let second = of("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(of("192.0.2.1").is_none(), "an IPv4-mapped address is IPv4");
        let open = |address: &str| sources.open(address.parse().unwrap());
        assert_eq!(open("192.0.2.1"), (2, 2));
        assert_eq!(open("192.0.2.2"), (0, 2));
        assert!(of("192.0.2.2").is_some(), "another source");
        drop(first);
        let third = of("192.0.2.1");
        assert!(third.is_some(), "one has ended");
        let six = (of("2001:db8::1"), of("2001:db8::2"));
        assert!(six.0.is_some() && six.1.is_some());
        assert!(of("2001:db8::3").is_none(), "the /64 is the source");
        assert!(of("2001:db8:0:1::1").is_some(), "another /64");
        drop((second, third, six));
        assert!(
            sources.shards.iter().all(|s| s.lock().unwrap().is_empty()),
            "nothing is kept of sources without a connection"
        );
    }
}
