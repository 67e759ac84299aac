//! What stands in the maps, for people: `explain` and `maps dump`.

use std::time::Duration;

use mc_edge_common::firewall::{HostEntry, PrefixEntry, Rate, action, rule};
use mcdsl::human;

use super::clock::{ktime, tick};

/// A rule as operators know it: a built-in one has a name, theirs have numbers.
#[must_use]
pub fn rule_name(id: u32) -> String {
    match rule::name(id) {
        Some(name) => format!("the built-in rule {name}"),
        None => format!("rule {id}"),
    }
}

pub(super) fn action_name(code: u8) -> &'static str {
    match code {
        action::PASS => "pass",
        action::RESET => "reset",
        action::OBSERVE => "observe",
        _ => "drop",
    }
}

pub(super) fn prefix(entry: &PrefixEntry) -> String {
    format!(
        "{}, a /{}: {}",
        rule_name(entry.rule),
        entry.length,
        action_name(entry.action)
    )
}

pub(super) fn host(entry: &HostEntry) -> String {
    let mut text = Vec::new();
    if entry.block_action != action::PASS {
        text.push(format!(
            "block by {}: {}",
            rule_name(entry.block_rule),
            action_name(entry.block_action)
        ));
    }
    if entry.ban_action != action::PASS {
        let left = Duration::from_nanos(entry.ban_expires.saturating_sub(ktime()));
        text.push(format!(
            "ban by {}: {}, {} left",
            rule_name(entry.ban_rule),
            action_name(entry.ban_action),
            human::duration(Duration::from_secs(left.as_secs()))
        ));
    }
    if entry.longer != 0 {
        text.push("longer blocked networks within it come first".to_owned());
    }
    text.join("; ")
}

/// The rule that [`host`] names first.
pub(super) fn host_rule(entry: &HostEntry) -> u32 {
    match (entry.block_action, entry.ban_action) {
        (action::PASS, action::PASS) => rule::NONE,
        (action::PASS, _) => entry.ban_rule,
        _ => entry.block_rule,
    }
}

/// "50/s, burst 100": what the limit was made of.
pub(super) fn limit(rate: &Rate) -> String {
    let ahead = rate.tolerance.saturating_sub(tick());
    let burst = ahead / rate.interval.max(1) + 1;
    let per_second = 1e9 / rate.interval.max(1) as f64;
    format!("{}, burst {burst}", human::rate(per_second))
}

pub(super) fn rate(rate: &Rate) -> String {
    match rate.interval {
        0 => "off".to_owned(),
        _ => format!("{}: {}", limit(rate), action_name(rate.action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_in_words() {
        let minutes = |n: u64| ktime() + n * 60_000_000_000 + 500_000_000;
        let entry = HostEntry {
            ban_expires: minutes(10),
            ban_rule: 18,
            block_rule: 17,
            ban_action: action::RESET,
            block_action: action::DROP,
            longer: 0,
            reserved: [0; 5],
        };
        assert_eq!(
            host(&entry),
            "block by rule 17: drop; ban by rule 18: reset, 10m left"
        );
        let trie = PrefixEntry {
            rule: 20,
            action: action::OBSERVE,
            length: 24,
            reserved: 0,
        };
        assert_eq!(prefix(&trie), "rule 20, a /24: observe");
        assert_eq!(rule_name(rule::COUNTRY), "the built-in rule country");
    }

    #[test]
    fn a_limit_is_told_as_it_was_set() {
        for (per_second, burst, wanted) in [
            (50.0, 100, "50/s, burst 100: drop"),
            (1000.0, 1, "1000/s, burst 1: drop"),
            (10.0 / 60.0, 5, "10/m, burst 5: drop"),
        ] {
            let set = crate::spec::RateLimit {
                per_second,
                burst,
                action: crate::spec::Action::Drop,
            };
            assert_eq!(rate(&super::super::rate(Some(set))), wanted);
        }
        assert_eq!(rate(&Rate::default()), "off");
    }
}
