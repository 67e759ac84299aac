//! Listeners, routes and rules: what of them cannot be.

use std::{path::Path, time::SystemTime};

use mc_edge_common::route::MAX_BACKENDS;

use super::{
    ABOVE_ZERO, Problem, Raw, Seed, WHOLE, broken,
    raw::{RawAction, RawListener, RawRoute, RawRule, RawRuleKind},
};
use crate::spec::{Action, Listener, Route, RouteId, Rule, RuleKind};

/// What an empty database starts with, without what cannot be: that is added to `problems`.
pub(super) fn check(raw: &Raw, root: &Path, problems: &mut Vec<Problem>) -> Seed {
    let mut seed = Seed::default();
    for (i, raw) in raw.listeners.iter().enumerate() {
        let listener = listener(raw);
        let mut found = listener_problems(&listener);
        if (seed.listeners.iter()).any(|other| other.address == listener.address) {
            found.push(twice("address", &listener.address));
        }
        problems.extend(below(&format!("listeners[{i}]"), found));
        seed.listeners.push(listener);
    }
    for (i, raw) in raw.routes.iter().enumerate() {
        let at = format!("routes[{i}]");
        let route = match route(raw, root) {
            Ok(route) => route,
            Err(found) => {
                problems.extend(below(&at, vec![found]));
                continue;
            }
        };
        let mut found = route_problems(&route);
        if seed.routes.iter().any(|other| other.key == route.key) {
            let key = format_args!("{} port {}", raw.hostname, raw.port);
            found.push(twice("hostname", &key));
        }
        problems.extend(below(&at, found));
        seed.routes.push(route);
    }
    for (i, raw) in raw.rules.iter().enumerate() {
        let rule = rule(raw);
        let mut found = Vec::new();
        if let Err(error) = crate::firewall::check_prefix(rule.kind, rule.cidr) {
            found.push(("cidr".to_owned(), error.to_string()));
        }
        let same = |other: &Rule| (other.kind, other.cidr) == (rule.kind, rule.cidr);
        if seed.rules.iter().any(same) {
            found.push(twice("cidr", &rule.cidr));
        }
        problems.extend(below(&format!("rules[{i}]"), found));
        seed.rules.push(rule);
    }
    seed
}

fn twice(key: &str, what: &dyn std::fmt::Display) -> Problem {
    (key.to_owned(), format!("{what} is there twice"))
}

fn below(section: &str, problems: Vec<Problem>) -> impl Iterator<Item = Problem> {
    let each = problems.into_iter();
    each.map(move |(key, reason)| (format!("{section}.{key}"), reason))
}

fn listener(raw: &RawListener) -> Listener {
    Listener {
        id: 0,
        address: raw.address,
        trusted_proxies: raw.trusted_proxies.clone(),
        redirect: raw.redirect,
        guarded: raw.guarded.unwrap_or(true),
    }
}

fn rule(raw: &RawRule) -> Rule {
    Rule {
        id: 0,
        kind: match raw.kind {
            RawRuleKind::Allow => RuleKind::Allow,
            RawRuleKind::Block => RuleKind::Block,
        },
        cidr: raw.cidr,
        action: match raw.action {
            RawAction::Drop => Action::Drop,
            RawAction::Reset => Action::Reset,
            RawAction::Observe => Action::Observe,
        },
        expires: None,
        comment: raw.comment.clone(),
        created: SystemTime::now(),
    }
}

fn route(raw: &RawRoute, root: &Path) -> Result<Route, Problem> {
    let hostname = (raw.hostname.parse())
        .map_err(|e| ("hostname".to_owned(), format!("{}: {e}", raw.hostname)))?;
    Ok(Route {
        id: 0,
        key: RouteId {
            port: raw.port,
            hostname,
        },
        backends: raw.backends.clone(),
        engine: raw.engine.map(Into::into),
        enabled: raw.enabled.unwrap_or(true),
        send_proxy: raw.send_proxy,
        connect_timeout: raw.connect_timeout,
        idle_timeout: raw.idle_timeout,
        max_age: raw.max_age,
        max_connections: raw.max_connections.filter(|n| *n > 0),
        l7: raw.l7.clone().map(|mut l7| {
            l7.resolve(root);
            l7
        }),
    })
}

/// The rules that hold for a listener wherever it comes from (config, admin API).
///
/// # Errors
/// The first field that is wrong, and why.
pub fn validate_listener(listener: &Listener) -> Result<(), Problem> {
    first(listener_problems(listener))
}

/// The rules that hold for a route wherever it comes from (config, admin API).
///
/// # Errors
/// The first field that is wrong, and why.
pub fn validate_route(route: &Route) -> Result<(), Problem> {
    first(route_problems(route))
}

fn first(problems: Vec<Problem>) -> Result<(), Problem> {
    problems.into_iter().next().map_or(Ok(()), Err)
}

fn listener_problems(listener: &Listener) -> Vec<Problem> {
    let mut problems = Vec::new();
    if listener.address.port() == 0 {
        problems.push(("address".into(), "needs a port other than 0".into()));
    }
    problems
}

fn route_problems(route: &Route) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut invalid = |key: &str, reason: String| problems.push((key.to_owned(), reason));
    if route.key.port == 0 {
        invalid("port", "must be a listener's port, not 0".to_owned());
    }
    let count = route.backends.len();
    if count == 0 || count > MAX_BACKENDS {
        let reason = format!("a route has 1 to {MAX_BACKENDS} backends, this one {count}");
        invalid("backends", reason);
    }
    for (i, backend) in route.backends.iter().take(MAX_BACKENDS).enumerate() {
        if backend.port() == 0 || backend.ip().is_unspecified() || backend.ip().is_multicast() {
            invalid("backends", format!("{backend} cannot be connected to"));
        }
        if route.backends[..i].contains(backend) {
            invalid("backends", format!("{backend} is there twice"));
        }
    }
    for (key, duration) in [
        ("connect_timeout", route.connect_timeout),
        ("idle_timeout", route.idle_timeout),
        ("max_age", route.max_age),
    ] {
        if duration.is_some_and(|d| d.is_zero()) {
            invalid(key, ABOVE_ZERO.to_owned());
        }
    }
    for (key, duration) in [
        ("idle_timeout", route.idle_timeout),
        ("max_age", route.max_age),
    ] {
        if duration.is_some_and(broken) {
            invalid(key, WHOLE.to_owned());
        }
    }
    if let Some(l7) = &route.l7 {
        problems.extend(l7.problems(route));
    }
    problems
}
