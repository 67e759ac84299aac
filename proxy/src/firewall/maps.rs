//! The firewall's kernel maps, typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::maps::{
    Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, lpm_trie::Key,
};
use mc_edge_common::{
    decide::Source,
    firewall::{
        COUNTRIES, Config, Counter, CountryActions, CountryCounter, FILTER6_ROWS, Filter4Row,
        Filter6Row, GUARDED_WORDS, HostEntry, MAX_HOSTS, MAX_PREFIXES, MAX_RULES, MAX_SAMPLES,
        PrefixEntry, Reason, Sample, SampleKey, Verdict, filter6_bit, rule, verdict_slot,
    },
};

use super::{
    Difference, DifferenceKind, FirewallError,
    compile::{Compiled, Prefix, host6},
    policy::Policies,
};
use crate::kernel::Kernel;

/// Maps that can be dumped.
pub const DUMPED: [&str; 11] = [
    "HOSTS4",
    "HOSTS6",
    "BLOCK4",
    "BLOCK6",
    "ALLOW4",
    "ALLOW6",
    "CONFIG",
    "COUNTRY_POLICY",
    "GUARDED",
    "SAMPLES",
    "VERDICTS",
];

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

/// A verdict's counter.
#[derive(Clone, Copy, Debug)]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// How many.
    pub count: Count,
}

/// A country's counter.
#[derive(Clone, Copy, Debug)]
pub struct CountryCount {
    /// Its index.
    pub country: u8,
    /// Packets that the policy let pass.
    pub passed: u64,
    /// Packets that it denied or would have.
    pub denied: u64,
}

/// A source that an observing rule matched.
#[derive(Clone, Copy, Debug)]
pub struct ObservedSample {
    /// The rule.
    pub rule: u32,
    /// The source.
    pub address: IpAddr,
    /// Packets.
    pub packets: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub last_seen: u64,
}

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

fn sum(values: &PerCpuValues<Counter>) -> Count {
    values.iter().fold(Count::default(), |sum, c| Count {
        packets: sum.packets + c.packets,
        bytes: sum.bytes + c.bytes,
    })
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

    /// What stands in the maps.
    pub(super) fn read(&self) -> Result<Compiled, FirewallError> {
        let mut found = Compiled::default();
        for entry in self.hosts4.iter() {
            let (key, value) = at("HOSTS4", entry)?;
            found.hosts4.insert(key, value);
        }
        for entry in self.hosts6.iter() {
            let (key, value) = at("HOSTS6", entry)?;
            found.hosts6.insert(key, value);
        }
        let four = [
            ("BLOCK4", &self.block4, &mut found.v4.block),
            ("ALLOW4", &self.allow4, &mut found.v4.allow),
        ];
        for (name, trie, into) in four {
            for entry in trie.iter() {
                let (key, value) = at(name, entry)?;
                into.insert(
                    (
                        u128::from(u32::from_be_bytes(key.data())),
                        key.prefix_len() as u8,
                    ),
                    value,
                );
            }
        }
        let six = [
            ("BLOCK6", &self.block6, &mut found.v6.block),
            ("ALLOW6", &self.allow6, &mut found.v6.allow),
        ];
        for (name, trie, into) in six {
            for entry in trie.iter() {
                let (key, value) = at(name, entry)?;
                into.insert(
                    (u128::from_be_bytes(key.data()), key.prefix_len() as u8),
                    value,
                );
            }
        }
        Ok(found)
    }

    /// IPv4 prefilter rows that are not what `wanted` asks for: row, what it is, what it should be.
    pub(super) fn wrong_rows4(
        &self,
        wanted: &Compiled,
    ) -> Result<Vec<(u16, Filter4Row, Filter4Row)>, FirewallError> {
        let concerned = wanted.rows4_of();
        let mut wrong = Vec::new();
        for row in 0..=u16::MAX {
            let want = if concerned.contains(&row) {
                wanted.row4(row)
            } else {
                Filter4Row::default()
            };
            let have = at("FILTER4", self.filter4.get(&u32::from(row), 0))?;
            if have != want {
                wrong.push((row, have, want));
            }
        }
        Ok(wrong)
    }

    /// The same of the IPv6 prefilter.
    pub(super) fn wrong_rows6(
        &self,
        wanted: &Compiled,
    ) -> Result<Vec<(u32, Filter6Row, Filter6Row)>, FirewallError> {
        let rows = wanted.rows6();
        let mut wrong = Vec::new();
        for row in 0..FILTER6_ROWS {
            let want = rows.get(&row).copied().unwrap_or_default();
            let have = at("FILTER6", self.filter6.get(&row, 0))?;
            if have != want {
                wrong.push((row, have, want));
            }
        }
        Ok(wrong)
    }

    pub(super) fn host(&self, source: Source) -> Result<Option<HostEntry>, FirewallError> {
        match source {
            Source::V4(address) => found("HOSTS4", self.hosts4.get(&address, 0)),
            Source::V6(high, _) => found("HOSTS6", self.hosts6.get(&high, 0)),
        }
    }

    /// The longest prefix, behind the prefilter as in the program.
    pub(super) fn longest(
        &self,
        source: Source,
        allow: bool,
        config: &Config,
    ) -> Result<Option<PrefixEntry>, FirewallError> {
        match source {
            Source::V4(address) => {
                let row = at("FILTER4", self.filter4.get(&(address >> 16), 0))?;
                let words = if allow { row.allow } else { row.block };
                if words[(address >> 14 & 3) as usize] >> (address >> 8 & 63) & 1 == 0 {
                    return Ok(None);
                }
                let key = Key::new(32, address.to_be_bytes());
                if allow {
                    found("ALLOW4", self.allow4.get(&key, 0))
                } else {
                    found("BLOCK4", self.block4.get(&key, 0))
                }
            }
            Source::V6(high, low) => {
                let (row, bit) = filter6_bit((high >> 32) as u32);
                let row = at("FILTER6", self.filter6.get(&row, 0))?;
                let (word, short) = if allow {
                    (row.allow, config.short_allow)
                } else {
                    (row.block, config.short_block)
                };
                if short == 0 && word >> bit & 1 == 0 {
                    return Ok(None);
                }
                let key = key6((u128::from(high) << 64 | u128::from(low), 128));
                if allow {
                    found("ALLOW6", self.allow6.get(&key, 0))
                } else {
                    found("BLOCK6", self.block6.get(&key, 0))
                }
            }
        }
    }

    /// The theoretical arrival time of a source's next event.
    pub(super) fn arrival(
        &self,
        connections: bool,
        key: u64,
    ) -> Result<Option<u64>, FirewallError> {
        let (name, map) = if connections {
            ("RATE_CONNS", &self.rate_conns)
        } else {
            ("RATE_PACKETS", &self.rate_packets)
        };
        found(name, map.get(&key, 0))
    }

    pub(super) fn rule_counter(&self, id: u32) -> Result<Count, FirewallError> {
        Ok(sum(&at("RULE_COUNTERS", self.rules.get(&id, 0))?))
    }

    pub(super) fn reset_rule(&mut self, id: u32) -> Result<(), FirewallError> {
        let zero = vec![Counter::default(); at("RULE_COUNTERS", self.rules.get(&id, 0))?.len()];
        let zero = PerCpuValues::try_from(zero).map_err(|io_error| FirewallError::Map {
            map: "RULE_COUNTERS",
            source: MapError::IoError(io_error),
        })?;
        at("RULE_COUNTERS", self.rules.set(id, zero, 0))
    }

    /// Resets the counters of all rules of the operator but those `kept`.
    pub(super) fn reset_rules_but(&mut self, kept: &BTreeSet<u32>) -> Result<(), FirewallError> {
        for id in (rule::FIRST..MAX_RULES).filter(|id| !kept.contains(id)) {
            // Nearly all are zero, and a reset reads first anyway.
            if self.rule_counter(id)? != Count::default() {
                self.reset_rule(id)?;
            }
        }
        Ok(())
    }

    pub(super) fn verdict_counters(&self) -> Result<Vec<VerdictCount>, FirewallError> {
        let mut counters = Vec::new();
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let values = at(
                    "VERDICTS",
                    self.verdicts.get(&verdict_slot(verdict, *reason), 0),
                )?;
                counters.push(VerdictCount {
                    verdict,
                    reason: *reason,
                    count: sum(&values),
                });
            }
        }
        Ok(counters)
    }

    pub(super) fn country_counters(&self) -> Result<Vec<CountryCount>, FirewallError> {
        (0..COUNTRIES)
            .map(|index| {
                let values = at("COUNTRY_COUNTS", self.country_counts.get(&index, 0))?;
                Ok(CountryCount {
                    country: index as u8,
                    passed: values.iter().map(|c| c.passed).sum(),
                    denied: values.iter().map(|c| c.denied).sum(),
                })
            })
            .collect()
    }

    pub(super) fn samples(&self) -> Result<Vec<ObservedSample>, FirewallError> {
        self.samples
            .iter()
            .map(|entry| {
                let (key, value) = at("SAMPLES", entry)?;
                Ok(ObservedSample {
                    rule: key.rule,
                    address: Ipv6Addr::from(key.address).to_canonical(),
                    packets: value.packets,
                    last_seen: value.last_seen,
                })
            })
            .collect()
    }

    /// Forgets the sources that rules out of force have observed: their ids will be other rules'.
    pub(super) fn forget_samples(
        &mut self,
        forgotten: impl Fn(u32) -> bool,
    ) -> Result<(), FirewallError> {
        let keys: Vec<_> = self
            .samples
            .keys()
            .collect::<Result<_, _>>()
            .or_else(|e| at("SAMPLES", Err(e)))?;
        for key in keys.iter().filter(|key| forgotten(key.rule)) {
            gone("SAMPLES", self.samples.remove(key))?;
        }
        Ok(())
    }

    pub(super) fn fill(&self) -> Result<Vec<(&'static str, u32, u32)>, FirewallError> {
        let kernel = self.read()?;
        let samples = self.samples.keys().filter(Result::is_ok).count();
        Ok([
            ("HOSTS4", kernel.hosts4.len(), MAX_HOSTS),
            ("HOSTS6", kernel.hosts6.len(), MAX_HOSTS),
            ("BLOCK4", kernel.v4.block.len(), MAX_PREFIXES),
            ("BLOCK6", kernel.v6.block.len(), MAX_PREFIXES),
            ("ALLOW4", kernel.v4.allow.len(), MAX_PREFIXES),
            ("ALLOW6", kernel.v6.allow.len(), MAX_PREFIXES),
            ("SAMPLES", samples, MAX_SAMPLES),
        ]
        .map(|(name, used, capacity)| (name, used as u32, capacity))
        .to_vec())
    }

    pub(super) fn dump(
        &self,
        map: Option<&str>,
    ) -> Result<Vec<(&'static str, String, String)>, FirewallError> {
        let kernel = self.read()?;
        let mut rows: Vec<(&'static str, String, String)> = Vec::new();
        let policies = self.policies()?.tables();
        for (name, keys) in tables(&kernel).into_iter().chain(policies) {
            rows.extend(keys.into_iter().map(|(key, value)| (name, key, value)));
        }
        for sample in self.samples()? {
            rows.push((
                "SAMPLES",
                format!("rule {} {}", sample.rule, sample.address),
                format!("{} packets", sample.packets),
            ));
        }
        for c in self
            .verdict_counters()?
            .into_iter()
            .filter(|c| c.count.packets > 0)
        {
            let key = format!("{} {}", c.verdict.name(), c.reason.name());
            rows.push((
                "VERDICTS",
                key,
                format!("{} packets, {} bytes", c.count.packets, c.count.bytes),
            ));
        }
        if let Some(map) = map {
            if !DUMPED.contains(&map) {
                return Err(FirewallError::UnknownMap(map.to_owned()));
            }
            rows.retain(|(name, ..)| *name == map);
        }
        Ok(rows)
    }
}

/// Keys and values as text.
pub(super) type Readable = BTreeMap<String, String>;

fn show<K, V: Debug>(map: &BTreeMap<K, V>, key: impl Fn(&K) -> String) -> Readable {
    map.iter()
        .map(|(k, v)| (key(k), format!("{v:?}")))
        .collect()
}

/// Every table with readable keys and values.
fn tables(compiled: &Compiled) -> [(&'static str, Readable); 6] {
    let four = |(bits, length): &Prefix| format!("{}/{length}", Ipv4Addr::from_bits(*bits as u32));
    let six = |(bits, length): &Prefix| format!("{}/{length}", Ipv6Addr::from_bits(*bits));
    [
        (
            "HOSTS4",
            show(&compiled.hosts4, |a| Ipv4Addr::from_bits(*a).to_string()),
        ),
        ("HOSTS6", show(&compiled.hosts6, |a| host6(*a))),
        ("BLOCK4", show(&compiled.v4.block, four)),
        ("BLOCK6", show(&compiled.v6.block, six)),
        ("ALLOW4", show(&compiled.v4.allow, four)),
        ("ALLOW6", show(&compiled.v6.allow, six)),
    ]
}

/// Differences between what is wanted and what stands in the kernel.
pub(super) fn compare(wanted: &Compiled, kernel: &Compiled) -> Vec<Difference> {
    let both = tables(wanted).into_iter().zip(tables(kernel));
    both.flat_map(|((map, want), (_, have))| compare_table(map, &want, &have))
        .collect()
}

/// The same of one table.
pub(super) fn compare_table(
    map: &'static str,
    want: &Readable,
    have: &Readable,
) -> Vec<Difference> {
    let difference = |key: &String, kind, detail| Difference {
        map,
        key: key.clone(),
        kind,
        detail,
    };
    let mut differences = Vec::new();
    for (key, value) in want {
        let (kind, detail) = match have.get(key) {
            Some(other) if other == value => continue,
            Some(other) => (
                DifferenceKind::Different,
                format!("{other}, wanted {value}"),
            ),
            None => (DifferenceKind::Missing, format!("wanted {value}")),
        };
        differences.push(difference(key, kind, detail));
    }
    let unexpected = have.iter().filter(|(key, _)| !want.contains_key(*key));
    differences.extend(
        unexpected.map(|(key, value)| difference(key, DifferenceKind::Unexpected, value.clone())),
    );
    differences
}

/// Prefilter rows that are wrong, as differences.
pub(super) fn show_rows<R: Copy, V: Debug>(
    map: &'static str,
    rows: &[(R, V, V)],
    key: impl Fn(R) -> String,
) -> Vec<Difference> {
    let difference = |(row, have, want): &(R, V, V)| Difference {
        map,
        key: key(*row),
        kind: DifferenceKind::Different,
        detail: format!("{have:x?}, wanted {want:x?}"),
    };
    rows.iter().map(difference).collect()
}
