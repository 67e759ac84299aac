//! Between the admin API's messages and [`crate::spec`]. A request that cannot be becomes `INVALID_ARGUMENT` naming
//! the field.

mod firewall;

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, UNIX_EPOCH},
};

use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::l7;
use crate::{
    health::{
        Health,
        state::{Condition, WHOLE},
    },
    listener::ListenerState,
    router::LiveRoute,
    spec::{EngineKind, Listener, Route, RouteId},
    store::AuditEntry,
};

pub(super) use firewall::{
    action_out, cidr_in, countries_in, rate_out, rates_in, rule_in, rule_key_in, rule_kind_in,
    rule_out, unix_seconds,
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
        redirect: (message.redirect_port > 0)
            .then(|| port_in(message.redirect_port))
            .transpose()?,
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
        redirect_port: listener.redirect.map_or(0, Into::into),
        active_connections: state.active,
        listening: state.error.is_none(),
        error: state.error.clone().unwrap_or_default(),
        draining: state.draining,
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
    match (message.mode(), &message.l7) {
        (pb::RouteMode::L4, None) | (pb::RouteMode::L7, Some(_)) => {}
        (pb::RouteMode::L4, Some(_)) => return Err(invalid("l7", "is for mode L7")),
        (pb::RouteMode::L7, None) => return Err(missing("l7")),
        (pb::RouteMode::Unspecified, _) => return Err(invalid("mode", "must be L4 or L7")),
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
        l7: message
            .l7
            .as_ref()
            .map(l7::parse)
            .transpose()?
            .map(Box::new),
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
        mode: match route.l7 {
            None => pb::RouteMode::L4.into(),
            Some(_) => pb::RouteMode::L7.into(),
        },
        backends: live
            .backends
            .iter()
            .map(|b| pb::Backend {
                address: b.address.to_string(),
                active_connections: b.active.load(Relaxed),
                connections: b.connections.load(Relaxed),
                connect_failures: b.failures.load(Relaxed),
                health: Some(health_out(&b.health, live.slow_start())),
            })
            .collect(),
        engine: engine_out(route.engine).into(),
        enabled: route.enabled,
        send_proxy: route.send_proxy,
        connect_timeout_ms: connect_timeout,
        idle_timeout_s: seconds(route.idle_timeout),
        max_age_s: seconds(route.max_age),
        max_connections: route.max_connections.unwrap_or(0),
        l7: route
            .l7
            .as_ref()
            .map(|l7| l7::message(l7, live.tls.as_deref())),
    }
}

fn health_out(health: &Health, slow_start: Duration) -> pb::BackendHealth {
    let milliseconds = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let report = health.report(slow_start);
    let (state, ejected_ms, share) = match report.condition {
        Condition::Unchecked => (pb::HealthState::Unchecked, 0, WHOLE),
        Condition::Up => (pb::HealthState::Up, 0, WHOLE),
        Condition::Down => (pb::HealthState::Down, 0, 0),
        Condition::Ejected(left) => (pb::HealthState::Ejected, milliseconds(left), 0),
        Condition::SlowStart(share) => (pb::HealthState::SlowStart, 0, share),
    };
    let (reason, since) = report.last.unzip();
    pb::BackendHealth {
        state: state.into(),
        ejected_ms,
        share_percent: u32::try_from(share * 100 / WHOLE).unwrap_or(100),
        reason: reason.unwrap_or_default().into_owned(),
        since_ms: since.map(milliseconds),
        checks_passed: health.passed.load(Relaxed),
        checks_failed: health.failed.load(Relaxed),
        ejections: health.ejections.load(Relaxed),
    }
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
