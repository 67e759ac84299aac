//! What is in force, and the order in which it is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use mc_edge_common::firewall::{Filter6Row, HostEntry};

use super::{
    Change, Difference, DifferenceKind, FirewallError,
    compile::{self, Compiled},
    expires,
    maps::{self, Maps},
    policy::{Part, Policies},
    twin::Snapshot,
};
use crate::spec::{Rule, RuleKind};

/// The maps, and what is to stand in them.
pub(super) struct State {
    pub(super) maps: Maps,
    pub(super) rules: BTreeMap<u32, Rule>,
    /// Shared with the twin's snapshot.
    pub(super) compiled: Arc<Compiled>,
    /// What was set last; until then, what a former daemon left.
    pub(super) policies: Policies,
    /// Parts of them that a former daemon left.
    pub(super) inherited: BTreeSet<Part>,
    /// What the twin judges by country and rate.
    pub(super) guarded: BTreeSet<u16>,
}

impl State {
    /// What the twin is to judge by.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            compiled: Arc::clone(&self.compiled),
            config: self.policies.config,
            countries: self.policies.countries,
            guarded: self.guarded.clone(),
        }
    }

    /// Applies changes that were checked.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let mut next = Compiled::clone(&self.compiled);
        let mut rows = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for change in changes {
            let id = match change {
                Change::Set(rule) => rule.id,
                Change::Remove(id) => *id,
            };
            if let Some(old) = self.rules.remove(&id) {
                next.apply(&old, false, 0);
                touch(&mut rows, &old);
                if matches!(change, Change::Remove(_)) {
                    gone.insert(id);
                }
            }
            if let Change::Set(rule) = change {
                next.apply(rule, true, expires(rule));
                touch(&mut rows, rule);
                self.rules.insert(id, rule.clone());
            }
        }
        self.write(next, &rows)?;
        if !gone.is_empty() {
            self.maps.forget_samples(|id| gone.contains(&id))?;
        }
        gone.into_iter().try_for_each(|id| self.maps.reset_rule(id))
    }

    /// Compares the kernel maps with the rules and the policies last set; `repair` makes the kernel right.
    pub(super) fn reconcile(
        &mut self,
        rules: &[Rule],
        repair: bool,
    ) -> Result<Vec<Difference>, FirewallError> {
        let mut differences = Vec::new();
        let mut next = Compiled::default();
        let mut wanted = BTreeMap::new();
        for rule in rules {
            if let Err(error) = compile::check(rule) {
                differences.push(refused(rule, &error));
                continue;
            }
            next.apply(rule, true, expires(rule));
            wanted.insert(rule.id, rule.clone());
        }
        let kernel = self.maps.read()?;
        keep_expiries(&mut next.hosts4, &kernel.hosts4);
        keep_expiries(&mut next.hosts6, &kernel.hosts6);
        differences.extend(maps::compare(&next, &kernel));
        differences.extend(self.maps.compare_filters(&next)?);
        let have = self.maps.policies()?;
        let mut policies = self.policies.clone();
        let (block, allow) = next.short6();
        policies.config.short_block = u8::from(block);
        policies.config.short_allow = u8::from(allow);
        differences.extend(policies.compare(&have));
        if repair {
            // The flags of the tries are `write`'s, in its order.
            policies.config.short_block = have.config.short_block;
            policies.config.short_allow = have.config.short_allow;
            self.maps.set_policies(&policies)?;
            self.policies = policies;
            self.compiled = Arc::new(kernel);
            self.rules = wanted;
            let rows: BTreeSet<u16> = (0..=u16::MAX).collect();
            self.write(next, &rows)?;
        }
        Ok(differences)
    }

    /// Writes the difference to `next`: prefilter bits of both, tries and hosts, then the bits of `next` only.
    pub(super) fn write(
        &mut self,
        next: Compiled,
        rows: &BTreeSet<u16>,
    ) -> Result<(), FirewallError> {
        let (before, after) = (self.compiled.short6(), next.short6());
        self.set_short((before.0 || after.0, before.1 || after.1))?;
        for row in rows {
            let (old, mut new) = (self.compiled.row4(*row), next.row4(*row));
            for i in 0..4 {
                new.block[i] |= old.block[i];
                new.allow[i] |= old.allow[i];
            }
            self.maps.set_row4(*row, &new)?;
        }
        let six = self.compiled.v6 != next.v6 || rows.len() > usize::from(u16::MAX);
        let (old6, new6) = (self.compiled.rows6(), next.rows6());
        if six {
            self.maps.set_rows6(&new6, |row, new| {
                let old = old6.get(&row).copied().unwrap_or_default();
                Filter6Row {
                    block: new.block | old.block,
                    allow: new.allow | old.allow,
                }
            })?;
        }
        self.maps.apply(&self.compiled, &next)?;
        for row in rows {
            self.maps.set_row4(*row, &next.row4(*row))?;
        }
        if six {
            self.maps.set_rows6(&new6, |_, new| new)?;
        }
        self.set_short(after)?;
        self.compiled = Arc::new(next);
        Ok(())
    }

    fn set_short(&mut self, (block, allow): (bool, bool)) -> Result<(), FirewallError> {
        let mut config = self.policies.config;
        (config.short_block, config.short_allow) = (u8::from(block), u8::from(allow));
        if config != self.policies.config {
            self.maps.set_config(&config)?;
            self.policies.config = config;
        }
        Ok(())
    }

    /// Sets a part of the policies, in the kernel first. What a former daemon left there is told if it differs.
    pub(super) fn set(
        &mut self,
        part: Part,
        edit: impl FnOnce(&mut Policies),
    ) -> Result<(), FirewallError> {
        let mut next = self.policies.clone();
        edit(&mut next);
        if self.inherited.remove(&part) {
            for difference in next.compare(&self.policies) {
                tracing::warn!(
                    map = difference.map,
                    key = difference.key,
                    detail = difference.detail,
                    "a kernel map differed from what is to be in force; it is rewritten"
                );
            }
        }
        self.maps.set_policies(&next)?;
        self.policies = next;
        Ok(())
    }
}

/// A stored rule that cannot be in force.
fn refused(rule: &Rule, error: &FirewallError) -> Difference {
    tracing::error!(
        rule = rule.id,
        cidr = %rule.cidr,
        error = mcdsl::cli::chain(error),
        "a stored rule is not in force; remove it and add it as it should be"
    );
    Difference {
        map: "RULES",
        key: format!("rule {} {} {}", rule.id, rule.kind.name(), rule.cidr),
        kind: DifferenceKind::Missing,
        detail: error.to_string(),
    }
}

/// The prefilter rows that a rule concerns.
fn touch(rows: &mut BTreeSet<u16>, rule: &Rule) {
    let prefix = compile::prefix(rule.cidr);
    let host = prefix.1 == 32 && rule.kind != RuleKind::Allow;
    if matches!(rule.cidr, IpNet::V4(_)) && !host {
        rows.extend(compile::rows_of(prefix));
    }
}

/// How far apart the kernel's end of a ban and the database's may be: what rounding and conversion between the clocks
/// make of it, in ns.
const SAME_END: u64 = 2_000_000_000;

/// Ends of bans that stand in the kernel hold if they are the database's but for the conversion.
fn keep_expiries<K: Ord>(next: &mut BTreeMap<K, HostEntry>, kernel: &BTreeMap<K, HostEntry>) {
    for (key, entry) in next {
        if let Some(old) = kernel.get(key)
            && old.ban_rule == entry.ban_rule
            && old.ban_expires.abs_diff(entry.ban_expires) <= SAME_END
        {
            entry.ban_expires = old.ban_expires;
        }
    }
}
