//! What is in force, and the order in which it is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::IpNet;
use mc_edge_common::firewall::{Filter6Row, HostEntry, rule};

use super::{
    Change, Difference, DifferenceKind, FirewallError,
    clock::{self, WallClock},
    compile::{self, Compiled},
    maps::{self, Maps},
    policy::{Part, Policies},
    twin::Snapshot,
};
use crate::spec::Rule;

/// A rule in force.
pub(super) struct InForce {
    rule: Rule,
    /// A ban's end on the program's clock, converted once: a later jump of the wall clock neither shortens nor extends it.
    /// The next daemon converts again, by the wall clock of then.
    end: u64,
}

/// The maps, and what is to stand in them.
pub(super) struct State {
    pub(super) maps: Maps,
    pub(super) rules: BTreeMap<u32, InForce>,
    /// Shared with the twin's snapshot.
    pub(super) compiled: Arc<Compiled>,
    /// What was set last; until then, what a former daemon left.
    pub(super) policies: Policies,
    /// Parts of them that a former daemon left.
    pub(super) inherited: BTreeSet<Part>,
    /// What the twin judges by country and rate.
    pub(super) guarded: BTreeSet<u16>,
    pub(super) wall: WallClock,
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

    /// A ban's end on the program's clock: as this daemon set it, if the database still says the same.
    fn end(&self, rule: &Rule) -> u64 {
        let same = |known: &&InForce| {
            let known = &known.rule;
            (known.kind, known.cidr, known.expires) == (rule.kind, rule.cidr, rule.expires)
        };
        let known = self.rules.get(&rule.id).filter(same);
        known.map_or_else(|| clock::end_of(rule, (self.wall)()), |known| known.end)
    }

    /// Applies changes that were checked.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let mut next = Compiled::clone(&self.compiled);
        let mut rows = BTreeSet::new();
        let mut gone = BTreeSet::new();
        let mut before = Vec::with_capacity(changes.len());
        for change in changes {
            let id = match change {
                Change::Set(rule) => rule.id,
                Change::Remove(id) => *id,
            };
            let old = self.rules.remove(&id);
            if let Some(InForce { rule, .. }) = &old {
                next.apply(rule, false, 0);
                touch(&mut rows, rule);
                if matches!(change, Change::Remove(_)) {
                    gone.insert(id);
                }
            }
            before.push((id, old));
            if let Change::Set(rule) = change {
                let (end, rule) = (clock::end_of(rule, (self.wall)()), rule.clone());
                next.apply(&rule, true, end);
                touch(&mut rows, &rule);
                self.rules.insert(id, InForce { rule, end });
            }
        }
        if let Err(error) = self.write(next, &rows, false) {
            // As `compiled`, or nobody could take out again what still stands in the maps.
            for (id, old) in before.into_iter().rev() {
                self.rules.remove(&id);
                self.rules.extend(old.map(|old| (id, old)));
            }
            return Err(error);
        }
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
            let (end, rule) = (self.end(rule), rule.clone());
            next.apply(&rule, true, end);
            wanted.insert(rule.id, InForce { rule, end });
        }
        let kernel = self.maps.read()?;
        keep_expiries(&mut next.hosts4, &kernel.hosts4);
        keep_expiries(&mut next.hosts6, &kernel.hosts6);
        differences.extend(maps::compare(&next, &kernel));
        let (wrong4, wrong6) = (self.maps.wrong_rows4(&next)?, self.maps.wrong_rows6(&next)?);
        let row4 = |row| format!("{}/16", Ipv4Addr::from_bits(u32::from(row) << 16));
        differences.extend(maps::show_rows("FILTER4", &wrong4, row4));
        let row6 = |row| format!("row {row}");
        differences.extend(maps::show_rows("FILTER6", &wrong6, row6));
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
            let mut rows = kernel.rows4_of();
            rows.extend(next.rows4_of());
            rows.extend(wrong4.iter().map(|(row, ..)| row));
            let same = wanted.iter().filter(|(_, w)| kernel.holds(&w.rule));
            let kept: BTreeSet<u32> = same.map(|(id, _)| *id).collect();
            self.compiled = Arc::new(kernel);
            self.rules = wanted;
            self.write(next, &rows, !wrong6.is_empty())?;
            self.forget_all_but(&kept)?;
        }
        Ok(differences)
    }

    /// Resets what the ids of all other rules counted: of rules that a daemon took out of the database and, killed, not
    /// out of the kernel, so that another has the id now, or will.
    fn forget_all_but(&mut self, kept: &BTreeSet<u32>) -> Result<(), FirewallError> {
        self.maps
            .forget_samples(|id| id >= rule::FIRST && !kept.contains(&id))?;
        self.maps.reset_rules_but(kept)
    }

    /// Writes the difference to `next`: prefilter bits of both, tries and hosts, then the bits of `next` only. `rows` of the
    /// IPv4 prefilter; of the IPv6 one all, if the tries differ or the prefilter does (`six`).
    fn write(
        &mut self,
        next: Compiled,
        rows: &BTreeSet<u16>,
        six: bool,
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
        let six = six || self.compiled.v6 != next.v6;
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
    if matches!(rule.cidr, IpNet::V4(_)) && !compile::is_host(rule) {
        rows.extend(compile::rows_of(compile::prefix(rule.cidr)));
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
