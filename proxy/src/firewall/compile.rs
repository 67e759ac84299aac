//! Rules -> map contents. Pure: what must stand in the maps is a function of the rules, so that a change is
//! the difference of two tables and a check of the kernel is a comparison with one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use ipnet::IpNet;
use mc_edge_common::firewall::{
    Filter4Row, Filter6Row, HostEntry, PrefixEntry, action, filter6_bit,
};

use super::FirewallError;
use crate::spec::{Action, Rule, RuleKind};

/// The action as it stands in maps.
#[must_use]
pub fn action_code(action: Action) -> u8 {
    match action {
        Action::Drop => action::DROP,
        Action::Reset => action::RESET,
        Action::Observe => action::OBSERVE,
    }
}

/// A prefix: network bits (IPv4 in the low 32) and length.
pub(super) type Prefix = (u128, u8);

/// [`check_prefix`] for a stored rule, which has an id.
pub(super) fn check(rule: &Rule) -> Result<(), FirewallError> {
    super::check_prefix(rule.kind, rule.cidr)?;
    if rule.id < crate::spec::FIRST_RULE_ID || rule.id >= mc_edge_common::firewall::MAX_RULES {
        return Err(FirewallError::RuleId(rule.id));
    }
    Ok(())
}

/// The tries of one family and their prefilter's source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    pub(super) block: BTreeMap<Prefix, PrefixEntry>,
    pub(super) allow: BTreeMap<Prefix, PrefixEntry>,
}

/// What must stand in the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    pub(super) hosts4: BTreeMap<u32, HostEntry>,
    pub(super) hosts6: BTreeMap<u64, HostEntry>,
    pub(super) v4: Tries,
    pub(super) v6: Tries,
}

pub(super) fn prefix(cidr: IpNet) -> Prefix {
    match cidr {
        IpNet::V4(net) => (u128::from(net.network().to_bits()), net.prefix_len()),
        IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
    }
}

/// Whether the rule is part of a host's entry and not of a trie.
pub(super) fn is_host(rule: &Rule) -> bool {
    let full = match rule.cidr {
        IpNet::V4(_) => 32,
        IpNet::V6(_) => 64,
    };
    rule.kind != RuleKind::Allow && rule.cidr.prefix_len() == full
}

impl Compiled {
    /// Hosts and prefixes.
    pub(super) fn len(&self) -> usize {
        let tries = [&self.v4, &self.v6];
        let prefixes = tries.map(|trie| trie.block.len() + trie.allow.len());
        self.hosts4.len() + self.hosts6.len() + prefixes.iter().sum::<usize>()
    }

    /// Puts a rule in (`present`) or takes it out. `expires` is the ban's end in ktime.
    pub(super) fn apply(&mut self, rule: &Rule, present: bool, expires: u64) {
        let (bits, length) = prefix(rule.cidr);
        let v4 = matches!(rule.cidr, IpNet::V4(_));
        if is_host(rule) {
            let edit = |entry: &mut HostEntry| edit_host(entry, rule, present, expires);
            if v4 {
                update(&mut self.hosts4, bits as u32, edit);
            } else {
                update(&mut self.hosts6, (bits >> 64) as u64, edit);
                self.mark_longer((bits >> 64) as u64);
            }
            return;
        }
        let tries = if v4 { &mut self.v4 } else { &mut self.v6 };
        let (trie, code) = match rule.kind {
            RuleKind::Allow => (&mut tries.allow, action::PASS),
            RuleKind::Block | RuleKind::Ban => (&mut tries.block, action_code(rule.action)),
        };
        if present {
            trie.insert(
                (bits, length),
                PrefixEntry {
                    rule: rule.id,
                    action: code,
                    length,
                    reserved: 0,
                },
            );
        } else {
            trie.remove(&(bits, length));
        }
        if !v4 && length > 64 {
            self.mark_longer((bits >> 64) as u64);
        }
    }

    /// Whether this very rule stands here, whatever its action.
    pub(super) fn holds(&self, rule: &Rule) -> bool {
        let (bits, length) = prefix(rule.cidr);
        let v4 = matches!(rule.cidr, IpNet::V4(_));
        if is_host(rule) {
            let entry = if v4 {
                self.hosts4.get(&(bits as u32))
            } else {
                self.hosts6.get(&((bits >> 64) as u64))
            };
            let id = |e: &HostEntry| match rule.kind {
                RuleKind::Ban => e.ban_rule,
                _ => e.block_rule,
            };
            return entry.is_some_and(|entry| id(entry) == rule.id);
        }
        let tries = if v4 { &self.v4 } else { &self.v6 };
        let trie = match rule.kind {
            RuleKind::Allow => &tries.allow,
            _ => &tries.block,
        };
        trie.get(&(bits, length)).is_some_and(|e| e.rule == rule.id)
    }

    /// Sets `longer` of a /64's entry.
    fn mark_longer(&mut self, high: u64) {
        if let Some(entry) = self.hosts6.get_mut(&high) {
            let low = u128::from(high) << 64;
            let longer = self
                .v6
                .block
                .range((low, 65)..=(low | u128::from(u64::MAX), 128))
                .next()
                .is_some();
            entry.longer = u8::from(longer);
        }
    }

    /// The prefilter row of a /16.
    pub(super) fn row4(&self, row: u16) -> Filter4Row {
        Filter4Row {
            block: bits4(&self.v4.block, row),
            allow: bits4(&self.v4.allow, row),
        }
    }

    /// The IPv6 prefilter's rows that are not empty.
    pub(super) fn rows6(&self) -> BTreeMap<u32, Filter6Row> {
        let mut rows = BTreeMap::<u32, Filter6Row>::new();
        for (bits, _) in self.v6.block.keys().filter(|(_, l)| *l >= 32) {
            let (row, bit) = filter6_bit((bits >> 96) as u32);
            rows.entry(row).or_default().block |= 1 << bit;
        }
        for (bits, _) in self.v6.allow.keys().filter(|(_, l)| *l >= 32) {
            let (row, bit) = filter6_bit((bits >> 96) as u32);
            rows.entry(row).or_default().allow |= 1 << bit;
        }
        rows
    }

    /// Whether the IPv6 (block, allow) tries hold prefixes shorter than /32.
    pub(super) fn short6(&self) -> (bool, bool) {
        let short =
            |trie: &BTreeMap<Prefix, PrefixEntry>| trie.keys().any(|(_, length)| *length < 32);
        (short(&self.v6.block), short(&self.v6.allow))
    }

    /// Every /16 that a prefix concerns.
    pub(super) fn rows4_of(&self) -> BTreeSet<u16> {
        self.v4
            .block
            .keys()
            .chain(self.v4.allow.keys())
            .flat_map(|p| rows_of(*p))
            .collect()
    }
}

/// The /16s that an IPv4 prefix concerns.
pub(super) fn rows_of((bits, length): Prefix) -> std::ops::RangeInclusive<u16> {
    let first = (bits >> 16) as u16;
    let span = if length >= 16 {
        0
    } else {
        (1u32 << (16 - length)) - 1
    };
    first..=first + span as u16
}

fn bits4(trie: &BTreeMap<Prefix, PrefixEntry>, row: u16) -> [u64; 4] {
    let base = u128::from(row) << 16;
    for length in 0..=16u8 {
        let mask = if length == 0 {
            0
        } else {
            u32::MAX << (32 - length)
        };
        if trie.contains_key(&(base & u128::from(mask), length)) {
            return [u64::MAX; 4];
        }
    }
    let mut words = [0u64; 4];
    for (bits, length) in trie
        .range((base, 17)..=(base | 0xffff, 32))
        .map(|(prefix, _)| prefix)
    {
        let first = (*bits >> 8 & 0xff) as usize;
        let span = if *length >= 24 {
            1
        } else {
            1usize << (24 - *length)
        };
        for bit in first..first + span {
            words[bit / 64] |= 1 << (bit % 64);
        }
    }
    words
}

fn update<K: Ord>(map: &mut BTreeMap<K, HostEntry>, key: K, edit: impl FnOnce(&mut HostEntry)) {
    let mut entry = map.remove(&key).unwrap_or_default();
    edit(&mut entry);
    if entry.ban_action != action::PASS || entry.block_action != action::PASS {
        map.insert(key, entry);
    }
}

fn edit_host(entry: &mut HostEntry, rule: &Rule, present: bool, expires: u64) {
    let (id, code) = if present {
        (rule.id, action_code(rule.action))
    } else {
        (0, action::PASS)
    };
    if rule.kind == RuleKind::Ban {
        entry.ban_rule = id;
        entry.ban_action = code;
        entry.ban_expires = if present { expires } else { 0 };
    } else {
        entry.block_rule = id;
        entry.block_action = code;
    }
}

/// An IPv6 /64 as text.
pub(super) fn host6(high: u64) -> String {
    format!("{}/64", Ipv6Addr::from_bits(u128::from(high) << 64))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Of any length, but close to one another, so that they nest.
    fn rule() -> impl Strategy<Value = Rule> {
        let bits = (0u128..8, 0u128..4, any::<u128>());
        (any::<bool>(), any::<bool>(), bits, 0u8..=128).prop_map(|(v4, allow, bits, length)| {
            let (high, middle, low) = bits;
            let cidr = if v4 {
                let address = (high << 29 | middle << 14 | low & 0x3fff) as u32;
                IpNet::new_assert(address.to_be_bytes().into(), length % 33)
            } else {
                let address = high << 125 | middle << 94 | low >> 34;
                IpNet::new_assert(address.to_be_bytes().into(), length)
            };
            Rule {
                id: 16,
                kind: if allow {
                    RuleKind::Allow
                } else {
                    RuleKind::Block
                },
                cidr: cidr.trunc(),
                action: Action::Drop,
                expires: None,
                comment: String::new(),
                created: SystemTime::UNIX_EPOCH,
            }
        })
    }

    /// Whether the program asks the trie about an address.
    fn asks(compiled: &Compiled, v4: bool, allow: bool, bits: u128) -> bool {
        if v4 {
            let row = compiled.row4((bits >> 16) as u16);
            let words = if allow { row.allow } else { row.block };
            let bit = (bits >> 8 & 0xff) as usize;
            return words[bit / 64] >> (bit % 64) & 1 != 0;
        }
        let (row, bit) = filter6_bit((bits >> 96) as u32);
        let row = compiled.rows6().get(&row).copied().unwrap_or_default();
        let (short, word) = if allow {
            (compiled.short6().1, row.allow)
        } else {
            (compiled.short6().0, row.block)
        };
        short || word >> bit & 1 != 0
    }

    proptest! {
        /// Rules come, some go, and whatever address a remaining prefix holds, its trie is asked.
        #[test]
        fn the_prefilter_hides_no_rule(
            rules in vec((rule(), any::<bool>(), any::<u128>()), 1..30),
        ) {
            let mut compiled = Compiled::default();
            for (rule, ..) in &rules {
                compiled.apply(rule, true, 0);
            }
            for (rule, stays, _) in &rules {
                if !stays {
                    compiled.apply(rule, false, 0);
                }
            }
            let four = |p: &Prefix| (true, *p);
            let six = |p: &Prefix| (false, *p);
            let block = compiled.v4.block.keys().map(four).chain(compiled.v6.block.keys().map(six));
            let allow = compiled.v4.allow.keys().map(four).chain(compiled.v6.allow.keys().map(six));
            let all = block.map(|p| (false, p)).chain(allow.map(|p| (true, p)));
            for (allow, (v4, (bits, length))) in all {
                let width = if v4 { 32 } else { 128 };
                for (.., random) in &rules {
                    let within = u128::MAX.checked_shr(128 - u32::from(width - length)).unwrap_or(0);
                    for address in [bits, bits | within, bits | within & random] {
                        prop_assert!(
                            asks(&compiled, v4, allow, address),
                            "{:x}/{} {:x}", bits, length, address
                        );
                    }
                }
            }
        }
    }
}
