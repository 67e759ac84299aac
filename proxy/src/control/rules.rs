//! The firewall's rules, country policy and rate limits.

use std::collections::HashMap;

use ipnet::IpNet;

use super::{Control, ControlError};
use crate::{
    config::UnparsedPolicy,
    firewall::{Change, Count, action_code, check_prefix},
    geoip::countries,
    spec::{Action, CountryPolicy, RateLimits, Rule, RuleKind},
    store::{Actor, State, Store, Undo},
};

/// A rule and its counters.
#[derive(Clone, Debug)]
pub struct CountedRule {
    /// The rule.
    pub rule: Rule,
    /// What it decided or observed.
    pub count: Count,
}

/// What an addition of rules has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The rules as they are stored.
    pub rules: Vec<Rule>,
    /// Those of them that were there and are another now.
    pub replaced: usize,
    /// Those that were there as they are.
    pub unchanged: usize,
}

impl Added {
    fn new(rules: Vec<Rule>, before: &[Rule]) -> Self {
        let now: HashMap<u32, &Rule> = rules.iter().map(|r| (r.id, r)).collect();
        let same = |old: &&Rule| {
            now.get(&old.id).is_some_and(|new| {
                (new.action, new.expires, &new.comment) == (old.action, old.expires, &old.comment)
            })
        };
        let unchanged = before.iter().filter(same).count();
        Self {
            replaced: before.len() - unchanged,
            unchanged,
            rules,
        }
    }
}

impl Control {
    /// Adds rules, all or none.
    ///
    /// # Errors
    /// If one cannot be, exists already (without `replace`), or the kernel refuses it.
    pub fn add_rules(
        &self,
        by: &Actor,
        rules: &[Rule],
        replace: bool,
    ) -> Result<Added, ControlError> {
        for rule in rules {
            check_prefix(rule.kind, rule.cidr)
                .map_err(|e| ControlError::invalid(("cidr".into(), e.to_string())))?;
            // It is printed to terminals.
            if rule.comment.contains(char::is_control) {
                return Err(ControlError::invalid((
                    "comment".into(),
                    "has a control character; write it on one line".into(),
                )));
            }
        }
        let mut store = self.store()?;
        let done = store.add_rules(by, rules, replace)?;
        let changes: Vec<_> = done.value.iter().cloned().map(Change::Set).collect();
        if let Err(e) = self.firewall.apply(&changes) {
            let error = Self::undo(&mut store, by, &done.undo, e);
            self.restore_maps(&mut store);
            return Err(error);
        }
        let before = match done.undo {
            Undo::Rules { restore, .. } => restore,
            _ => Vec::new(),
        };
        Ok(Added::new(done.value, &before))
    }

    /// Removes rules, all or none; says how many.
    ///
    /// # Errors
    /// If one is not there.
    pub fn remove_rules(
        &self,
        by: &Actor,
        keys: &[(RuleKind, IpNet)],
    ) -> Result<usize, ControlError> {
        let mut store = self.store()?;
        let done = store.remove_rules(by, keys)?;
        if let Err(e) = self.firewall.apply(&removals(&done.value)) {
            let error = Self::undo(&mut store, by, &done.undo, e);
            self.restore_maps(&mut store);
            return Err(error);
        }
        Ok(done.value.len())
    }

    /// After a batch that the kernel took half of.
    fn restore_maps(&self, store: &mut Store) {
        let restored = store
            .load()
            .map_err(ControlError::from)
            .and_then(|state| Ok(self.firewall.reconcile(&state.rules, true)?));
        if let Err(error) = restored {
            tracing::error!(
                error = mcdsl::cli::chain(&error),
                "the firewall maps could not be restored"
            );
        }
    }

    /// All rules with their counters.
    ///
    /// # Errors
    /// If database or kernel cannot be read.
    pub fn rules(&self) -> Result<Vec<CountedRule>, ControlError> {
        let rules = self.store()?.load()?.rules;
        let counts: HashMap<u32, Count> = self.firewall.rule_counters()?.into_iter().collect();
        let count = |rule: &Rule| counts.get(&rule.id).copied().unwrap_or_default();
        Ok(rules
            .into_iter()
            .map(|rule| CountedRule {
                count: count(&rule),
                rule,
            })
            .collect())
    }

    /// Takes out the bans that have run out on the kernel's clock, which no jump of the wall clock moves. What fails
    /// is tried again at the next call: an ended ban stays in [`Firewall::ended`](crate::firewall::Firewall::ended)
    /// until its entry is gone.
    pub fn expire_bans(&self) {
        let Ok(mut store) = self.store() else {
            return;
        };
        let ended = self.firewall.ended();
        if ended.is_empty() {
            return;
        }
        if let Err(error) = self.end_bans(&mut store, &ended) {
            tracing::error!(
                error = mcdsl::cli::chain(&error),
                "cannot end bans that have run out; trying again"
            );
        }
    }

    fn end_bans(&self, store: &mut Store, ended: &[u32]) -> Result<(), ControlError> {
        store.end_bans(ended)?;
        let removed: Vec<_> = ended.iter().map(|id| Change::Remove(*id)).collect();
        let applied = self.firewall.apply(&removed);
        // Also for an entry that an earlier, failed batch has left without a rule.
        let left = self.firewall.ended();
        if applied.is_err() || ended.iter().any(|id| left.contains(id)) {
            self.restore_maps(store);
        }
        Ok(applied?)
    }

    /// The country policy in force.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn countries(&self) -> Result<CountryPolicy, ControlError> {
        Ok(self.store()?.load()?.countries)
    }

    /// Replaces the country policy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_countries(&self, by: &Actor, policy: &CountryPolicy) -> Result<(), ControlError> {
        let mut store = self.store()?;
        let done = store.set_countries(by, policy)?;
        self.firewall
            .set_countries(country_actions(policy))
            .map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// The rate limits in force.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn rates(&self) -> Result<RateLimits, ControlError> {
        Ok(self.store()?.load()?.rates)
    }

    /// Replaces the rate limits.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_rates(&self, by: &Actor, rates: &RateLimits) -> Result<(), ControlError> {
        let mut store = self.store()?;
        let done = store.set_rates(by, rates)?;
        self.firewall
            .set_rates(rates)
            .map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// Puts in force what is not a rule: policy for the unparsed, countries, rates. For the start.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_policies(&self, state: &State) -> Result<(), ControlError> {
        let unparsed = match self.config.unparsed {
            UnparsedPolicy::Drop => action_code(Action::Drop),
            UnparsedPolicy::Pass => mc_edge_common::firewall::action::PASS,
        };
        self.firewall.set_config(unparsed, self.config.log_sample)?;
        self.firewall
            .set_countries(country_actions(&state.countries))?;
        Ok(self.firewall.set_rates(&state.rates)?)
    }
}

fn removals(rules: &[Rule]) -> Vec<Change> {
    rules.iter().map(|r| Change::Remove(r.id)).collect()
}

/// The action of each country index.
fn country_actions(policy: &CountryPolicy) -> [u8; 256] {
    let others = policy.others.map_or(0, action_code);
    let mut actions = [others; 256];
    for (country, action) in &policy.listed {
        if let Some(index) = countries::index(*country) {
            let listed = if policy.others.is_some() {
                mc_edge_common::firewall::action::PASS
            } else {
                action_code(*action)
            };
            actions[usize::from(index)] = listed;
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CountryCode;

    #[test]
    fn a_policy_becomes_an_action_per_country() {
        let (de, at) = (CountryCode(*b"DE"), CountryCode(*b"AT"));
        let at_index = |c| usize::from(countries::index(c).unwrap());
        let block = country_actions(&CountryPolicy {
            others: None,
            listed: [(de, Action::Reset)].into(),
        });
        assert_eq!(block[at_index(de)], action_code(Action::Reset));
        assert_eq!((block[at_index(at)], block[0]), (0, 0), "all others pass");
        let only = country_actions(&CountryPolicy {
            others: Some(Action::Drop),
            listed: [(at, Action::Drop)].into(),
        });
        assert_eq!(only[at_index(at)], 0, "the listed pass");
        let drop = action_code(Action::Drop);
        assert_eq!(
            (only[at_index(de)], only[0]),
            (drop, drop),
            "all others, and the unknown, do not"
        );
    }
}
