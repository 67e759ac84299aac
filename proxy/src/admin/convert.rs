//! Between the admin API's messages and [`crate::spec`]. A request that cannot be becomes `INVALID_ARGUMENT` naming
//! the field.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::{IpNet, Ipv6Net};
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use crate::{
    control::CountedRule,
    listener::ListenerState,
    router::LiveRoute,
    spec::{
        Action, CountryCode, CountryPolicy, EngineKind, Listener, RateLimit, RateLimits, Route,
        RouteId, Rule, RuleKind, canonical,
    },
    store::AuditEntry,
};

pub(super) fn invalid(field: &str, reason: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {reason}"))
}

pub(super) fn missing(field: &str) -> Status {
    invalid(field, "is required")
}

// ---- listeners

pub(super) fn listener_in(message: pb::Listener) -> Result<Listener, Status> {
    let address = address_in("address", &message.address)?;
    let required = message.proxy_protocol() == pb::ProxyProtocolIn::Required;
    if required && message.trusted_sources.is_empty() {
        return Err(missing("trusted_sources"));
    }
    if !required && !message.trusted_sources.is_empty() {
        return Err(invalid(
            "trusted_sources",
            "is only for proxy_protocol = REQUIRED",
        ));
    }
    let trusted_proxies = message
        .trusted_sources
        .iter()
        .map(|s| cidr_in("trusted_sources", s))
        .collect::<Result<_, _>>()?;
    Ok(Listener {
        id: 0,
        address,
        trusted_proxies,
        guarded: message.guarded,
    })
}

pub(super) fn listener_out(state: &ListenerState) -> pb::Listener {
    let listener = &state.listener;
    pb::Listener {
        id: listener.id,
        address: listener.address.to_string(),
        proxy_protocol: if listener.trusted_proxies.is_empty() {
            pb::ProxyProtocolIn::Off.into()
        } else {
            pb::ProxyProtocolIn::Required.into()
        },
        trusted_sources: listener
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect(),
        guarded: listener.guarded,
        active_connections: state.active,
        listening: state.error.is_none(),
        error: state.error.clone().unwrap_or_default(),
    }
}

pub(super) fn address_in(field: &str, text: &str) -> Result<SocketAddr, Status> {
    text.parse()
        .map_err(|_| invalid(field, format!("{text:?} is not ip:port or [ip]:port")))
}

// ---- routes

pub(super) fn route_key_in(key: Option<pb::RouteKey>) -> Result<RouteId, Status> {
    let key = key.ok_or_else(|| missing("key"))?;
    Ok(RouteId {
        port: port_in(key.port)?,
        hostname: hostname_in(&key.hostname)?,
    })
}

fn port_in(port: u32) -> Result<u16, Status> {
    u16::try_from(port)
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| invalid("port", format!("{port} is not 1 to 65535")))
}

fn hostname_in(text: &str) -> Result<crate::hostname::HostPattern, Status> {
    text.parse()
        .map_err(|e| invalid("hostname", format!("{text:?}: {e}")))
}

pub(super) fn route_in(message: &pb::Route) -> Result<Route, Status> {
    if message.mode() != pb::RouteMode::L4 {
        return Err(invalid("mode", "must be L4"));
    }
    Ok(Route {
        id: 0,
        key: RouteId {
            port: port_in(message.port)?,
            hostname: hostname_in(&message.hostname)?,
        },
        backends: message
            .backends
            .iter()
            .map(|b| address_in("backends", &b.address))
            .collect::<Result<_, _>>()?,
        engine: match message.engine() {
            pb::Engine::Default => None,
            pb::Engine::Copy => Some(EngineKind::Copy),
            pb::Engine::Sockmap => Some(EngineKind::Sockmap),
        },
        enabled: message.enabled,
        send_proxy: message.send_proxy,
        connect_timeout: nonzero(message.connect_timeout_ms)
            .map(|ms| Duration::from_millis(ms.into())),
        idle_timeout: nonzero(message.idle_timeout_s).map(|s| Duration::from_secs(s.into())),
        max_age: nonzero(message.max_age_s).map(|s| Duration::from_secs(s.into())),
        max_connections: nonzero(message.max_connections),
    })
}

fn nonzero(n: u32) -> Option<u32> {
    (n > 0).then_some(n)
}

fn seconds(duration: Option<Duration>) -> u32 {
    duration.map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX).max(1))
}

pub(super) fn engine_out(engine: Option<EngineKind>) -> pb::Engine {
    match engine {
        None => pb::Engine::Default,
        Some(EngineKind::Copy) => pb::Engine::Copy,
        Some(EngineKind::Sockmap) => pb::Engine::Sockmap,
    }
}

pub(super) fn route_out(live: &LiveRoute) -> pb::Route {
    let route = &live.route;
    let connect_timeout = route
        .connect_timeout
        .map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX));
    pb::Route {
        id: route.id,
        port: route.key.port.into(),
        hostname: route.key.hostname.to_string(),
        mode: pb::RouteMode::L4.into(),
        backends: live
            .backends
            .iter()
            .map(|b| pb::Backend {
                address: b.address.to_string(),
                active_connections: b.active.load(Relaxed),
                connections: b.connections.load(Relaxed),
                connect_failures: b.failures.load(Relaxed),
            })
            .collect(),
        engine: engine_out(route.engine).into(),
        enabled: route.enabled,
        send_proxy: route.send_proxy,
        connect_timeout_ms: connect_timeout,
        idle_timeout_s: seconds(route.idle_timeout),
        max_age_s: seconds(route.max_age),
        max_connections: route.max_connections.unwrap_or(0),
    }
}

// ---- rules

/// A prefix, or a bare address as its host prefix. Host bits are cleared.
pub(super) fn cidr_in(field: &str, text: &str) -> Result<IpNet, Status> {
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(canonical).map_err(|_| {
        let reason = format!("{text:?} is neither an address nor a prefix such as 192.0.2.0/24");
        invalid(field, reason)
    })
}

pub(super) fn rule_kind_in(kind: pb::RuleKind) -> Option<RuleKind> {
    match kind {
        pb::RuleKind::Unspecified => None,
        pb::RuleKind::Allow => Some(RuleKind::Allow),
        pb::RuleKind::Block => Some(RuleKind::Block),
        pb::RuleKind::Ban => Some(RuleKind::Ban),
    }
}

pub(super) fn action_in(action: pb::Action) -> Action {
    match action {
        pb::Action::Unspecified | pb::Action::Drop => Action::Drop,
        pb::Action::Reset => Action::Reset,
        pb::Action::Observe => Action::Observe,
    }
}

pub(super) fn action_out(action: Action) -> pb::Action {
    match action {
        Action::Drop => pb::Action::Drop,
        Action::Reset => pb::Action::Reset,
        Action::Observe => pb::Action::Observe,
    }
}

/// (kind, cidr): what identifies a rule.
pub(super) fn rule_key_in(message: &pb::Rule) -> Result<(RuleKind, IpNet), Status> {
    let kind = rule_kind_in(message.kind()).ok_or_else(|| missing("kind"))?;
    let cidr = cidr_in("cidr", &message.cidr)?;
    if kind != RuleKind::Ban {
        return Ok((kind, cidr));
    }
    match cidr {
        IpNet::V4(v4) if v4.prefix_len() == 32 => Ok((kind, cidr)),
        // The other half of an IPv6 address is the client's to choose.
        IpNet::V6(v6) if v6.prefix_len() >= 64 => {
            let widened = Ipv6Net::new(v6.addr(), 64).map_err(|e| invalid("cidr", e))?;
            Ok((kind, IpNet::V6(widened.trunc())))
        }
        _ => Err(invalid(
            "cidr",
            format!("{cidr} is too wide for a ban (one IPv4 address, one IPv6 /64); block it"),
        )),
    }
}

/// Longest life of a ban: a year. Longer is a block.
const MAX_BAN: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest comment, bytes.
const MAX_COMMENT: usize = 512;

pub(super) fn rule_in(message: &pb::Rule, now: SystemTime) -> Result<Rule, Status> {
    let (kind, cidr) = rule_key_in(message)?;
    let ttl = Duration::from_secs(message.ttl_s);
    let expires = match kind {
        RuleKind::Ban if ttl.is_zero() => return Err(missing("ttl_s")),
        RuleKind::Ban if ttl > MAX_BAN => {
            return Err(invalid(
                "ttl_s",
                "is above a year; block the address instead",
            ));
        }
        RuleKind::Ban => Some(now + ttl),
        _ if !ttl.is_zero() => return Err(invalid("ttl_s", "is only for bans")),
        _ => None,
    };
    if message.comment.len() > MAX_COMMENT {
        return Err(invalid("comment", format!("is above {MAX_COMMENT} bytes")));
    }
    let comment = message.comment.clone();
    Ok(Rule {
        id: 0,
        kind,
        cidr,
        action: action_in(message.action()),
        expires,
        comment,
        created: now,
    })
}

pub(super) fn rule_out(counted: &CountedRule, now: SystemTime) -> pb::Rule {
    let rule = &counted.rule;
    let kind = match rule.kind {
        RuleKind::Allow => pb::RuleKind::Allow,
        RuleKind::Block => pb::RuleKind::Block,
        RuleKind::Ban => pb::RuleKind::Ban,
    };
    // After a jump of the wall clock a ban in force may have ended by it; 0 would be a rule without an end.
    let left = rule
        .expires
        .map(|e| e.duration_since(now).unwrap_or_default());
    let action = match rule.kind {
        RuleKind::Allow => pb::Action::Unspecified,
        _ => action_out(rule.action),
    };
    pb::Rule {
        id: rule.id,
        kind: kind.into(),
        cidr: rule.cidr.to_string(),
        action: action.into(),
        ttl_s: left.map_or(0, |d| d.as_secs().max(1)),
        comment: rule.comment.clone(),
        created_unix_s: unix_seconds(rule.created),
        packets: counted.count.packets,
        bytes: counted.count.bytes,
        samples: Vec::new(),
    }
}

pub(super) fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

// ---- countries and rates

fn country_in(text: &str) -> Result<CountryCode, Status> {
    let code = match text.as_bytes() {
        b"??" => Some(*b"??"),
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
            Some([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
        }
        _ => None,
    };
    code.map(CountryCode)
        .filter(|c| crate::geoip::countries::index(*c).is_some())
        .ok_or_else(|| {
            invalid(
                "country",
                format!("{text:?} is no ISO 3166-1 alpha-2 code (\"??\" = unknown)"),
            )
        })
}

pub(super) fn countries_in(message: &pb::CountryPolicy) -> Result<CountryPolicy, Status> {
    let others = message.only.then(|| action_in(message.default_action()));
    let listed = message
        .rules
        .iter()
        .map(|r| Ok((country_in(&r.country)?, action_in(r.action()))))
        .collect::<Result<_, Status>>()?;
    Ok(CountryPolicy { others, listed })
}

pub(super) fn rates_in(message: &pb::RateLimits) -> Result<RateLimits, Status> {
    let one = |field: &str, limit: &Option<pb::RateLimit>| match limit {
        Some(limit) if limit.per_second != 0.0 => rate_in(field, limit).map(Some),
        _ => Ok(None),
    };
    Ok(RateLimits {
        connections: one("connections", &message.connections)?,
        packets: one("packets", &message.packets)?,
    })
}

fn rate_in(field: &str, limit: &pb::RateLimit) -> Result<RateLimit, Status> {
    // A rate below one a day or above one a nanosecond is a mistake.
    if !limit.per_second.is_finite() || !(1.0 / 86_400.0..=1e9).contains(&limit.per_second) {
        return Err(invalid(
            field,
            format!("{} per second is out of range", limit.per_second),
        ));
    }
    let burst = match limit.burst {
        0 => limit.per_second.ceil() as u32,
        burst => burst,
    };
    Ok(RateLimit {
        per_second: limit.per_second,
        burst,
        action: action_in(limit.action()),
    })
}

pub(super) fn rate_out(limit: Option<RateLimit>, exceeded: u64) -> pb::RateLimit {
    limit.map_or(
        pb::RateLimit {
            exceeded,
            ..Default::default()
        },
        |l| pb::RateLimit {
            per_second: l.per_second,
            burst: l.burst,
            action: action_out(l.action).into(),
            exceeded,
        },
    )
}

// ---- audit

pub(super) fn audit_out(entry: AuditEntry) -> pb::AuditEntry {
    let at = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    pb::AuditEntry {
        id: entry.id,
        at_unix_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
        uid: entry.actor.uid,
        pid: entry.actor.pid,
        source: entry.actor.source,
        action: entry.action,
        detail: entry.detail,
        result: entry.result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_canonical() {
        for (description, text, wanted) in [
            ("an IPv4 address", "192.0.2.1", "192.0.2.1/32"),
            ("an IPv6 address", "2001:db8::1", "2001:db8::1/128"),
            ("host bits go", "192.0.2.1/24", "192.0.2.0/24"),
            (
                "a mapped address is IPv4",
                "::ffff:192.0.2.1",
                "192.0.2.1/32",
            ),
            (
                "a mapped prefix is IPv4",
                "::ffff:192.0.2.0/120",
                "192.0.2.0/24",
            ),
        ] {
            assert_eq!(
                cidr_in("cidr", text).unwrap().to_string(),
                wanted,
                "{description}"
            );
        }
        for text in ["", "example.org", "192.0.2.0/33", "1.2.3"] {
            assert!(cidr_in("cidr", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ban_is_a_host() {
        let ban = |cidr: &str| {
            let message = pb::Rule {
                kind: pb::RuleKind::Ban.into(),
                cidr: cidr.into(),
                ..Default::default()
            };
            rule_key_in(&message)
                .map(|(_, cidr)| cidr.to_string())
                .map_err(|s| s.message().to_owned())
        };
        assert_eq!(ban("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(
            ban("2001:db8:1:2:3::7").unwrap(),
            "2001:db8:1:2::/64",
            "an IPv6 ban is widened to its /64"
        );
        assert!(ban("192.0.2.0/24").unwrap_err().contains("too wide"));
        assert!(ban("2001:db8::/32").unwrap_err().contains("too wide"));
    }

    #[test]
    fn rates_have_a_range() {
        let rate = |per_second| {
            rate_in(
                "packets",
                &pb::RateLimit {
                    per_second,
                    ..Default::default()
                },
            )
        };
        assert_eq!(
            rate(2.5).unwrap().burst,
            3,
            "the burst defaults to a second's worth"
        );
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1e-9, 1e12] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
