//! The maps as text, and differences between two states of them.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    net::{Ipv4Addr, Ipv6Addr},
};

use mc_edge_common::firewall::{MAX_HOSTS, MAX_PREFIXES, MAX_SAMPLES, Rate, action::PASS};

use super::{
    super::{Difference, DifferenceKind, compile::host6, words},
    Compiled, FirewallError, Maps, Prefix,
};

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

impl Maps {
    pub(in crate::firewall) fn fill(&self) -> Result<Vec<(&'static str, u32, u32)>, FirewallError> {
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

    /// What of it is the operator's, in words.
    pub(in crate::firewall) fn operators(&self) -> Result<Vec<String>, FirewallError> {
        let mut words = Vec::new();
        match self.read()?.len() {
            0 => {}
            rules => words.push(format!("{rules} addresses and prefixes")),
        }
        let policies = self.policies()?;
        if policies.countries.actions.iter().any(|a| *a != PASS) {
            words.push("a country policy".to_owned());
        }
        let rates = [policies.config.connections, policies.config.packets];
        if rates.iter().any(|rate| *rate != Rate::default()) {
            words.push("rate limits".to_owned());
        }
        Ok(words)
    }

    pub(in crate::firewall) fn dump(
        &self,
        map: Option<&str>,
    ) -> Result<Vec<(&'static str, String, String)>, FirewallError> {
        let kernel = self.read()?;
        let mut rows: Vec<(&'static str, String, String)> = Vec::new();
        let policies = self.policies()?.tables();
        for (name, keys) in tables(&kernel).into_iter().chain(policies) {
            let words = keys
                .into_iter()
                .map(|(key, value)| (name, key, value.words));
            rows.extend(words);
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

/// A value in words, which may say less than it holds.
#[derive(Clone, Debug)]
pub(in crate::firewall) struct Value {
    words: String,
    /// All of it: what is compared, and told where the words do not tell the difference.
    exact: String,
}

impl Value {
    pub(in crate::firewall) fn new(words: impl Into<String>, exact: &impl Debug) -> Self {
        Self {
            words: words.into(),
            exact: format!("{exact:?}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Readable keys and values.
pub(in crate::firewall) type Readable = BTreeMap<String, Value>;

fn show<K, V: Debug>(
    map: &BTreeMap<K, V>,
    key: impl Fn(&K) -> String,
    words: fn(&V) -> String,
) -> Readable {
    map.iter()
        .map(|(k, v)| (key(k), Value::new(words(v), v)))
        .collect()
}

/// Every table with readable keys and values.
fn tables(compiled: &Compiled) -> [(&'static str, Readable); 6] {
    let four = |(bits, length): &Prefix| format!("{}/{length}", Ipv4Addr::from_bits(*bits as u32));
    let six = |(bits, length): &Prefix| format!("{}/{length}", Ipv6Addr::from_bits(*bits));
    [
        (
            "HOSTS4",
            show(
                &compiled.hosts4,
                |a| Ipv4Addr::from_bits(*a).to_string(),
                words::host,
            ),
        ),
        ("HOSTS6", show(&compiled.hosts6, |a| host6(*a), words::host)),
        ("BLOCK4", show(&compiled.v4.block, four, words::prefix)),
        ("BLOCK6", show(&compiled.v6.block, six, words::prefix)),
        ("ALLOW4", show(&compiled.v4.allow, four, words::prefix)),
        ("ALLOW6", show(&compiled.v6.allow, six, words::prefix)),
    ]
}

/// Differences between what is wanted and what stands in the kernel.
pub(in crate::firewall) fn compare(wanted: &Compiled, kernel: &Compiled) -> Vec<Difference> {
    let both = tables(wanted).into_iter().zip(tables(kernel));
    both.flat_map(|((map, want), (_, have))| compare_table(map, &want, &have))
        .collect()
}

/// The same of one table.
pub(in crate::firewall) fn compare_table(
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
            Some(other) if other.exact == value.exact => continue,
            Some(other) if other.words == value.words => (
                DifferenceKind::Different,
                format!("{}, wanted {}", other.exact, value.exact),
            ),
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
        unexpected
            .map(|(key, value)| difference(key, DifferenceKind::Unexpected, value.to_string())),
    );
    differences
}

/// Prefilter rows that are wrong, as differences.
pub(in crate::firewall) fn show_rows<R: Copy, V: Debug>(
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
