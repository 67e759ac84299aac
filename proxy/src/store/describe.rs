//! Changes in words, for the audit: what an operator would have typed, not how it is stored.

use ipnet::IpNet;
use serde_json::Value;

use super::{Undo, rows};
use crate::spec::{CountryPolicy, Listener, RateLimit, RateLimits, Route, RouteId, Rule, RuleKind};

/// Rules named in an audit row; the rest is counted.
pub(super) const NAMED_IN_AUDIT: usize = 8;
/// Characters of a rule's comment.
const COMMENT_IN_AUDIT: usize = 40;

pub(super) fn route_name(key: &RouteId) -> String {
    format!("{} on port {}", key.hostname, key.port)
}

/// The route with all that is not the daemon's default.
pub(super) fn route(route: &Route) -> String {
    let backends: Vec<String> = route.backends.iter().map(ToString::to_string).collect();
    let mut out = format!("{} -> {}", route_name(&route.key), backends.join(", "));
    if let Some(engine) = route.engine {
        out.push_str(&format!("; engine {}", rows::engine_text(engine)));
    }
    if route.send_proxy {
        out.push_str("; send-proxy");
    }
    if !route.enabled {
        out.push_str("; disabled");
    }
    let times = [
        ("connect timeout", route.connect_timeout),
        ("idle timeout", route.idle_timeout),
        ("max age", route.max_age),
    ];
    for (what, time) in times {
        if let Some(time) = time {
            out.push_str(&format!("; {what} {}", mcdsl::human::duration(time)));
        }
    }
    if let Some(max) = route.max_connections {
        out.push_str(&format!("; max connections {max}"));
    }
    if let Some(l7) = &route.l7 {
        // As it is stored: none of its options can be forgotten here.
        told(&mut out, "", &serde_json::to_value(l7).unwrap_or_default());
    }
    out
}

/// Each option of `value`, by its name.
fn told(out: &mut String, name: &str, value: &Value) {
    match value {
        Value::Object(options) => {
            for (option, value) in options {
                let name = format!("{name} {}", option.replace('_', " "));
                told(out, &name, value);
            }
        }
        Value::String(text) => out.push_str(&format!(";{name} {text}")),
        other => out.push_str(&format!(";{name} {other}")),
    }
}

/// A route that is added, and what it replaces if that was another.
pub(super) fn route_in_place_of(new: &Route, before: Option<&Route>) -> String {
    let text = route(new);
    match before.map(route) {
        Some(before) if before == text => format!("{text} (as before)"),
        Some(before) => format!("{text} (before: {before})"),
        None => text,
    }
}

pub(super) fn listener(listener: &Listener) -> String {
    let mut out = listener.address.to_string();
    if !listener.trusted_proxies.is_empty() {
        let from: Vec<String> = listener
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect();
        out.push_str(&format!("; PROXY header from {}", from.join(", ")));
    }
    if let Some(port) = listener.redirect {
        out.push_str(&format!("; redirects to https on port {port}"));
    }
    if !listener.guarded {
        out.push_str("; unguarded");
    }
    out
}

pub(super) fn rule_name(kind: RuleKind, cidr: &IpNet) -> String {
    format!("{} {cidr}", rows::kind_text(kind))
}

/// A rule with what it does, for how long, and why.
pub(super) fn rule(rule: &Rule) -> String {
    let mut out = rule_name(rule.kind, &rule.cidr);
    if rule.kind != RuleKind::Allow {
        out.push_str(&format!(" {}", rows::action_text(rule.action)));
    }
    if let Some(time) = rule
        .expires
        .and_then(|end| end.duration_since(rule.created).ok())
    {
        out.push_str(&format!(" for {}", mcdsl::human::duration(time)));
    }
    if !rule.comment.is_empty() {
        let shown: String = rule.comment.chars().take(COMMENT_IN_AUDIT).collect();
        let cut = if shown == rule.comment { "" } else { "…" };
        out.push_str(&format!(" \"{shown}{cut}\""));
    }
    out
}

pub(super) fn rules(all: &[Rule]) -> String {
    list(all.len(), all.iter().map(rule))
}

fn rule_names(names: &[(RuleKind, IpNet)]) -> String {
    let each = names.iter().map(|(kind, cidr)| rule_name(*kind, cidr));
    list(names.len(), each)
}

/// The first of `count`.
pub(super) fn list(count: usize, each: impl Iterator<Item = String>) -> String {
    let named: Vec<String> = each.take(NAMED_IN_AUDIT).collect();
    let rest = match count - named.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("{}{rest}", named.join(", "))
}

pub(super) fn countries(policy: &CountryPolicy) -> String {
    let listed = policy
        .listed
        .iter()
        .map(|(code, action)| match policy.others {
            Some(_) => rows::country_text(*code),
            None => format!(
                "{} {}",
                rows::country_text(*code),
                rows::action_text(*action)
            ),
        });
    let listed: Vec<String> = listed.collect();
    match policy.others {
        Some(others) => {
            let action = rows::action_text(others);
            format!("only {}; others {action}", listed.join(", "))
        }
        None if listed.is_empty() => "all let in".to_owned(),
        None => listed.join(", "),
    }
}

pub(super) fn rates(limits: &RateLimits) -> String {
    let one = |what: &str, limit: Option<RateLimit>| match limit {
        None => format!("{what} off"),
        Some(l) => {
            let action = rows::action_text(l.action);
            let rate = mcdsl::human::rate(l.per_second);
            format!("{what} {rate}, burst {}, {action}", l.burst)
        }
    };
    let packets = one("packets", limits.packets);
    format!("{}; {packets}", one("connections", limits.connections))
}

/// What is put back.
pub(super) fn undo(undo: &Undo, why: &str) -> String {
    let what = match undo {
        Undo::Route(key, None) => format!("route {} goes", route_name(key)),
        Undo::Route(_, Some(before)) => format!("route {} is back", route(before)),
        Undo::Listener(address, None) => format!("listener {address} goes"),
        Undo::Listener(_, Some(before)) => format!("listener {} is back", listener(before)),
        Undo::Rules { remove, restore } => {
            let (gone, back) = (rule_names(remove), rules(restore));
            format!("rules [{gone}] go, [{back}] are back")
        }
        Undo::Countries(before) => format!("countries: {}", countries(before)),
        Undo::Rates(before) => format!("rates: {}", rates(before)),
    };
    format!("{why}: {what}")
}
