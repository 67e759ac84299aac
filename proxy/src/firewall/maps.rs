//! The firewall's kernel maps, typed: what is written to them. What is read from them is in [`read`] and [`counters`].

mod counters;
mod read;
mod show;

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key};
use mc_edge_common::firewall::{
    Config, Counter, CountryActions, CountryCounter, FILTER6_ROWS, Filter4Row, Filter6Row,
    GUARDED_WORDS, HostEntry, PrefixEntry, Sample, SampleKey,
};

use super::{
    FirewallError,
    compile::{Compiled, Prefix},
    policy::Policies,
};
use crate::kernel::Kernel;

pub use counters::{Count, CountryCount, ObservedSample, VerdictCount};
pub use show::DUMPED;
pub(super) use show::{Readable, Value, compare, compare_table, show_rows};

type Trie4 = LpmTrie<MapData, [u8; 4], PrefixEntry>;
type Trie6 = LpmTrie<MapData, [u8; 16], PrefixEntry>;

pub(super) struct Maps {
    config: Array<MapData, Config>,
    hosts4: HashMap<MapData, u32, HostEntry>,
    hosts6: HashMap<MapData, u64, HostEntry>,
    block4: Trie4,
    block6: Trie6,
    allow4: Trie4,
    allow6: Trie6,
    filter4: Array<MapData, Filter4Row>,
    filter6: Array<MapData, Filter6Row>,
    guarded: Array<MapData, u64>,
    countries: Array<MapData, CountryActions>,
    rate_conns: HashMap<MapData, u64, u64>,
    rate_packets: HashMap<MapData, u64, u64>,
    rules: PerCpuArray<MapData, Counter>,
    verdicts: PerCpuArray<MapData, Counter>,
    country_counts: PerCpuArray<MapData, CountryCounter>,
    samples: HashMap<MapData, SampleKey, Sample>,
}

fn take<T: TryFrom<Map, Error = MapError>>(
    kernel: &mut Kernel,
    map: &'static str,
) -> Result<T, FirewallError> {
    T::try_from(kernel.take_map(map)?).map_err(|source| FirewallError::Map { map, source })
}

fn at<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, FirewallError> {
    result.map_err(|source| FirewallError::Map { map, source })
}

/// Absence is not an error.
fn found<T>(map: &'static str, result: Result<T, MapError>) -> Result<Option<T>, FirewallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(FirewallError::Map { map, source }),
    }
}

/// A removed entry may have gone already.
fn gone(map: &'static str, result: Result<(), MapError>) -> Result<(), FirewallError> {
    match result {
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => found(map, other).map(drop),
    }
}

fn key4((bits, length): Prefix) -> Key<[u8; 4]> {
    Key::new(u32::from(length), (bits as u32).to_be_bytes())
}

fn key6((bits, length): Prefix) -> Key<[u8; 16]> {
    Key::new(u32::from(length), bits.to_be_bytes())
}

/// Calls `remove` and `insert` for the difference between two tables.
fn diff<K: Ord + Copy, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    mut change: impl FnMut(K, Option<&V>) -> Result<(), FirewallError>,
) -> Result<(), FirewallError> {
    for (key, value) in new {
        if old.get(key) != Some(value) {
            change(*key, Some(value))?;
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        change(*key, None)?;
    }
    Ok(())
}

macro_rules! sync {
    ($old:expr, $new:expr, $map:expr, $name:literal, $key:expr) => {
        diff(&$old, &$new, |key, value| match value {
            Some(value) => at($name, $map.insert(&$key(key), value, 0)),
            None => gone($name, $map.remove(&$key(key))),
        })?
    };
}

fn same<K>(key: K) -> K {
    key
}

impl Maps {
    pub(super) fn open(kernel: &mut Kernel) -> Result<Self, FirewallError> {
        Ok(Self {
            config: take(kernel, "CONFIG")?,
            hosts4: take(kernel, "HOSTS4")?,
            hosts6: take(kernel, "HOSTS6")?,
            block4: take(kernel, "BLOCK4")?,
            block6: take(kernel, "BLOCK6")?,
            allow4: take(kernel, "ALLOW4")?,
            allow6: take(kernel, "ALLOW6")?,
            filter4: take(kernel, "FILTER4")?,
            filter6: take(kernel, "FILTER6")?,
            guarded: take(kernel, "GUARDED")?,
            countries: take(kernel, "COUNTRY_POLICY")?,
            rate_conns: take(kernel, "RATE_CONNS")?,
            rate_packets: take(kernel, "RATE_PACKETS")?,
            rules: take(kernel, "RULE_COUNTERS")?,
            verdicts: take(kernel, "VERDICTS")?,
            country_counts: take(kernel, "COUNTRY_COUNTS")?,
            samples: take(kernel, "SAMPLES")?,
        })
    }

    pub(super) fn config(&self) -> Result<Config, FirewallError> {
        at("CONFIG", self.config.get(&0, 0))
    }

    pub(super) fn set_config(&mut self, config: &Config) -> Result<(), FirewallError> {
        at("CONFIG", self.config.set(0, config, 0))
    }

    pub(super) fn countries(&self) -> Result<CountryActions, FirewallError> {
        at("COUNTRY_POLICY", self.countries.get(&0, 0))
    }

    pub(super) fn policies(&self) -> Result<Policies, FirewallError> {
        let guarded = (0..GUARDED_WORDS).map(|index| at("GUARDED", self.guarded.get(&index, 0)));
        Ok(Policies {
            config: self.config()?,
            countries: self.countries()?,
            guarded: guarded.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn set_policies(&mut self, policies: &Policies) -> Result<(), FirewallError> {
        self.set_config(&policies.config)?;
        at(
            "COUNTRY_POLICY",
            self.countries.set(0, policies.countries, 0),
        )?;
        for (index, word) in (0..).zip(&policies.guarded) {
            if at("GUARDED", self.guarded.get(&index, 0))? != *word {
                at("GUARDED", self.guarded.set(index, word, 0))?;
            }
        }
        Ok(())
    }

    pub(super) fn guarded(&self, port: u32) -> Result<bool, FirewallError> {
        Ok(at("GUARDED", self.guarded.get(&(port >> 6), 0))? >> (port & 63) & 1 != 0)
    }

    pub(super) fn set_row4(&mut self, row: u16, value: &Filter4Row) -> Result<(), FirewallError> {
        at("FILTER4", self.filter4.set(u32::from(row), value, 0))
    }

    pub(super) fn set_rows6(
        &mut self,
        rows: &BTreeMap<u32, Filter6Row>,
        value: impl Fn(u32, Filter6Row) -> Filter6Row,
    ) -> Result<(), FirewallError> {
        for row in 0..FILTER6_ROWS {
            let value = value(row, rows.get(&row).copied().unwrap_or_default());
            at("FILTER6", self.filter6.set(row, value, 0))?;
        }
        Ok(())
    }

    /// Writes the difference between two tables; prefilters are the caller's.
    pub(super) fn apply(&mut self, old: &Compiled, new: &Compiled) -> Result<(), FirewallError> {
        // Allow-lists first: a packet in between must not be denied by a rule whose exception is on its way.
        sync!(old.v4.allow, new.v4.allow, self.allow4, "ALLOW4", key4);
        sync!(old.v6.allow, new.v6.allow, self.allow6, "ALLOW6", key6);
        sync!(old.v4.block, new.v4.block, self.block4, "BLOCK4", key4);
        sync!(old.v6.block, new.v6.block, self.block6, "BLOCK6", key6);
        sync!(old.hosts4, new.hosts4, self.hosts4, "HOSTS4", same);
        sync!(old.hosts6, new.hosts6, self.hosts6, "HOSTS6", same);
        Ok(())
    }
}
