//! Names of wire enums, and the JSON form of wire messages. The JSON is an interface of its own: names instead of numbers,
//! absent instead of 0 where 0 means "the default".

use mc_proto::mcproxy::v1 as pb;
use serde_json::{Value, json};

pub(crate) fn kind(kind: i32) -> &'static str {
    match pb::RuleKind::try_from(kind) {
        Ok(pb::RuleKind::Allow) => "allow",
        Ok(pb::RuleKind::Block) => "block",
        Ok(pb::RuleKind::Ban) => "ban",
        _ => "unknown",
    }
}

pub(crate) fn action(action: i32) -> &'static str {
    match pb::Action::try_from(action) {
        Ok(pb::Action::Drop) => "drop",
        Ok(pb::Action::Reset) => "reset",
        Ok(pb::Action::Observe) => "observe",
        Ok(pb::Action::Unspecified) => "-",
        Err(_) => "unknown",
    }
}

/// What a rule does; an allow has no action.
pub(crate) fn rule_action(rule: &pb::Rule) -> &'static str {
    match rule.kind() {
        pb::RuleKind::Allow => "-",
        _ => action(rule.action),
    }
}

pub(crate) fn engine(engine: i32) -> &'static str {
    match pb::Engine::try_from(engine) {
        Ok(pb::Engine::Default) => "default",
        Ok(pb::Engine::Copy) => "copy",
        Ok(pb::Engine::Sockmap) => "sockmap",
        Err(_) => "unknown",
    }
}

/// 0 is the daemon's default.
fn set(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}

/// An empty text is none.
pub(crate) fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

pub(crate) fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

pub(crate) fn listener(l: &pb::Listener) -> Value {
    json!({
        "id": l.id,
        "address": l.address,
        "proxy_from": l.trusted_sources,
        "guarded": l.guarded,
        "redirect_port": set(l.redirect_port),
        "listening": l.listening,
        "active_connections": l.active_connections,
        "error": text(&l.error),
        "draining": l.draining,
    })
}

pub(crate) fn route(r: &pb::Route) -> Value {
    json!({
        "id": r.id,
        "port": r.port,
        "hostname": r.hostname,
        "enabled": r.enabled,
        "engine": engine(r.engine),
        "send_proxy": r.send_proxy,
        "connect_timeout_ms": set(r.connect_timeout_ms),
        "idle_timeout_s": set(r.idle_timeout_s),
        "max_age_s": set(r.max_age_s),
        "max_connections": set(r.max_connections),
        "l7": r.l7.as_ref().map(l7),
        "backends": list(&r.backends, backend),
    })
}

pub(crate) fn backend(b: &pb::Backend) -> Value {
    let health = b.health.clone().unwrap_or_default();
    let in_state = |state: pb::HealthState| health.state() == state;
    json!({
        "address": b.address,
        "active_connections": b.active_connections,
        "connections": b.connections,
        "connect_failures": b.connect_failures,
        "health": health_state(&health),
        "ejected_ms": in_state(pb::HealthState::Ejected).then_some(health.ejected_ms),
        "share_percent": in_state(pb::HealthState::SlowStart).then_some(health.share_percent),
        "reason": text(&health.reason),
        "since_ms": health.since_ms,
        "checks_passed": health.checks_passed,
        "checks_failed": health.checks_failed,
        "ejections": health.ejections,
    })
}

pub(crate) fn health_state(health: &pb::BackendHealth) -> &'static str {
    match health.state() {
        pb::HealthState::Unchecked => "unchecked",
        pb::HealthState::Up => "up",
        pb::HealthState::Down => "down",
        pb::HealthState::Ejected => "ejected",
        pb::HealthState::SlowStart => "slow_start",
    }
}

fn l7(l7: &pb::L7) -> Value {
    let status = l7.certificate_status.clone().unwrap_or_default();
    json!({
        "certificate": l7.certificate,
        "key": l7.key,
        "protocol": protocol(l7),
        "backend_ca": text(&l7.backend_ca),
        "backend_name": text(&l7.backend_name),
        "client_ca": text(&l7.client_ca),
        "max_body_bytes": l7.max_body_bytes,
        "response_timeout_ms": set(l7.response_timeout_ms),
        "max_streams": set(l7.max_streams),
        "max_requests": set(l7.max_requests),
        "retries": l7.retries,
        "slow_start_ms": l7.slow_start_ms,
        "access_log": l7.access_log,
        "health": l7.health.as_ref().map(|h| json!({
            "check": check(h),
            "path": text(&h.path),
            "service": text(&h.service),
            "interval_ms": set(h.interval_ms),
            "timeout_ms": set(h.timeout_ms),
        })),
        "certificate_not_after_unix_s": status.not_after_unix_s,
        "certificate_loaded_unix_s": status.loaded_unix_s,
        "certificate_tried_unix_s": status.tried_unix_s,
        "certificate_error": text(&status.error),
    })
}

/// What the backends of an L7 route speak.
pub(crate) fn protocol(l7: &pb::L7) -> &'static str {
    match l7.protocol() {
        pb::BackendProtocol::Http1 => "http1",
        pb::BackendProtocol::H2c => "h2c",
        pb::BackendProtocol::H2 => "h2",
    }
}

fn check(health: &pb::HealthCheck) -> &'static str {
    match health.check() {
        pb::Check::Http => "http",
        pb::Check::Grpc => "grpc",
        pb::Check::Tcp | pb::Check::Unspecified => "tcp",
    }
}

pub(crate) fn rule(r: &pb::Rule) -> Value {
    json!({
        "id": r.id,
        "kind": kind(r.kind),
        "cidr": r.cidr,
        "action": (rule_action(r) != "-").then(|| rule_action(r)),
        "ttl_s": (r.ttl_s != 0).then_some(r.ttl_s),
        "comment": r.comment,
        "created_unix_s": r.created_unix_s,
        "packets": r.packets,
        "bytes": r.bytes,
        "samples": list(&r.samples, |s| json!({
            "address": s.address, "packets": s.packets, "age_ms": s.age_ms,
        })),
    })
}

pub(crate) fn country_rule(c: &pb::CountryRule) -> Value {
    json!({
        "country": c.country,
        "action": action(c.action),
        "passed": c.passed,
        "denied": c.denied,
    })
}

pub(crate) fn country_policy(p: &pb::CountryPolicy) -> Value {
    json!({
        "only": p.only,
        "default_action": p.only.then(|| action(p.default_action)),
        "database_loaded": p.database_loaded,
        "others": p.only.then(|| list(&p.others, country_rule)),
        "countries": list(&p.rules, |rule| {
            let mut rule = country_rule(rule);
            // Those that are listed are the ones that may come.
            if p.only {
                rule["action"] = "pass".into();
            }
            rule
        }),
    })
}

pub(crate) fn rate_limits(limits: &pb::RateLimits) -> Value {
    let one = |limit: &Option<pb::RateLimit>| {
        limit.as_ref().filter(|l| l.per_second > 0.0).map(|l| {
            json!({
                "per_second": l.per_second,
                "burst": l.burst,
                "action": action(l.action),
                "exceeded": l.exceeded,
            })
        })
    };
    json!({ "connections": one(&limits.connections), "packets": one(&limits.packets) })
}

pub(crate) fn explanation(e: &pb::ExplainResponse) -> Value {
    json!({
        "verdict": e.verdict,
        "reason": e.reason,
        "country": text(&e.country),
        "route": e.route.as_ref().map(route),
        "steps": list(&e.steps, |s| json!({
            "stage": s.stage,
            "detail": s.detail,
            "outcome": text(&s.outcome),
            "rule_id": set(s.rule_id),
            "rule": text(&s.rule),
        })),
        "http_status": set(e.http_status),
        "location": text(&e.location),
        "rules_not_in_force": text(&e.rules_verdict).map(|verdict| json!({
            "verdict": verdict, "reason": e.rules_reason,
        })),
        "unfiltered_interfaces": e.unfiltered,
    })
}

pub(crate) fn stats(s: &pb::Stats) -> Value {
    json!({
        "unix_ms": s.unix_ms,
        "routes": list(&s.routes, |r| json!({
            "port": r.port,
            "hostname": r.hostname,
            "connections": r.connections,
            "active": r.active,
            "bytes_from_client": r.bytes_from_client,
            "bytes_to_client": r.bytes_to_client,
            "errors": r.errors,
            "reasons": r.reasons.iter().map(|e| (e.reason.clone(), e.connections.into()))
                .collect::<serde_json::Map<_, _>>(),
            "requests": (!r.requests.is_empty()).then(|| r.requests.iter()
                .map(|c| (c.class.clone(), c.requests.into()))
                .collect::<serde_json::Map<_, _>>()),
            "engine": r.engine,
        })),
        "rules": list(&s.rules, rule),
        "verdicts": list(&s.verdicts, |v| json!({
            "verdict": v.verdict, "reason": v.reason, "packets": v.packets, "bytes": v.bytes,
        })),
        "countries": list(&s.countries, country_rule),
        "denied": list(&s.denied, |d| json!({
            "reason": d.reason, "connections": d.connections,
        })),
    })
}

pub(crate) fn status(s: &pb::Status) -> Value {
    json!({
        "version": s.version,
        "pid": s.pid,
        "uptime_s": s.uptime_s,
        "active_connections": s.active_connections,
        "default_engine": engine(s.default_engine),
        "database": s.database,
        "config": s.config,
        "pin_path": s.pin_path,
        "warnings": s.warnings,
        "interfaces": list(&s.interfaces, |i| json!({
            "name": i.name, "mode": i.mode, "detail": text(&i.detail),
        })),
        "geoip": s.geoip.as_ref().map(|g| json!({
            "path": g.path,
            "loaded": g.loaded,
            "database_type": text(&g.database_type),
            "build_unix_s": g.build_unix_s,
            "ipv4_networks": g.ipv4_networks,
            "ipv6_networks": g.ipv6_networks,
            "loaded_unix_s": g.loaded_unix_s,
            "tried_unix_s": g.tried_unix_s,
            "error": text(&g.error),
        })),
        "mcias": s.mcias.as_ref().map(|m| json!({
            "server": m.server,
            "connected_unix_s": m.connected_unix_s,
            "error": text(&m.error),
            "failed_unix_s": m.failed_unix_s,
            "bans_taken": m.bans_taken,
        })),
        "configured_unix_s": s.configured_unix_s,
        "reload": s.reload.as_ref().map(|r| json!({
            "at_unix_s": r.at_unix_s, "problems": r.problems,
        })),
        "draining": s.draining.as_ref().map(|d| json!({
            "since_unix_s": d.since_unix_s, "until_unix_s": d.until_unix_s,
        })),
        "predecessors": list(&s.predecessors, predecessor),
        "certificates": list(&s.certificates, certificate),
        "rules": s.rules.as_ref().map(|r| json!({ "used": r.used, "capacity": r.capacity })),
        "maps": list(&s.maps, |m| json!({
            "name": m.name, "used": m.used, "capacity": m.capacity,
        })),
    })
}

/// A daemon that was replaced and drains.
pub(crate) fn predecessor(p: &pb::Predecessor) -> Value {
    json!({ "pid": p.pid, "connections": p.connections })
}

fn certificate(c: &pb::Certificate) -> Value {
    let status = c.status.clone().unwrap_or_default();
    json!({
        "hostname": c.hostname,
        "port": c.port,
        "not_after_unix_s": status.not_after_unix_s,
        "loaded_unix_s": status.loaded_unix_s,
        "tried_unix_s": status.tried_unix_s,
        "error": text(&status.error),
    })
}

pub(crate) fn audit(e: &pb::AuditEntry) -> Value {
    json!({
        "id": e.id,
        "at_unix_ms": e.at_unix_ms,
        "uid": e.uid,
        "pid": e.pid,
        "source": e.source,
        "action": e.action,
        "detail": e.detail,
        "result": e.result,
    })
}
