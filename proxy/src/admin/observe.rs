//! What is only looked at: counters, policies with their counters, status.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::SystemTime};

use mc_edge_common::firewall::rule;
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::{
    convert::{action_out, engine_out, rate_out, rule_out, unix_seconds},
    errors::refused,
    l7::certificate_status,
};
use crate::{
    control::{Control, ControlError, CountedRule},
    firewall::{CountryCount, ObservedSample, ktime},
    geoip::countries,
    metrics::http::CLASSES,
    router::LiveRoute,
    spec::{Action, CountryPolicy},
    store::MAX_RULES,
    upgrade::Drains,
};

fn failed(error: impl Into<ControlError>) -> Status {
    refused(error.into())
}

fn samples_of(samples: &[ObservedSample], rule: u32) -> Vec<pb::Sample> {
    let now = ktime();
    samples
        .iter()
        .filter(|s| s.rule == rule)
        .map(|s| pb::Sample {
            address: s.address.to_string(),
            packets: s.packets,
            age_ms: now.saturating_sub(s.last_seen) / 1_000_000,
        })
        .collect()
}

/// The rules that `keep` wants, with counters and samples.
pub(super) fn rules(
    control: &Control,
    keep: impl Fn(&CountedRule) -> bool,
) -> Result<Vec<pb::Rule>, Status> {
    let now = SystemTime::now();
    let samples = control.firewall.samples().map_err(failed)?;
    Ok(control
        .rules()
        .map_err(refused)?
        .iter()
        .filter(|r| keep(r))
        .map(|r| pb::Rule {
            samples: samples_of(&samples, r.rule.id),
            ..rule_out(r, now)
        })
        .collect())
}

fn country_counts(control: &Control) -> Result<Vec<CountryCount>, Status> {
    control.firewall.country_counters().map_err(failed)
}

pub(super) fn country_policy(
    control: &Control,
    policy: &CountryPolicy,
) -> Result<pb::CountryPolicy, Status> {
    let counts = country_counts(control)?;
    let rule = |(code, action): (&crate::spec::CountryCode, &Action)| {
        let index = countries::index(*code);
        let count = counts.iter().find(|c| Some(c.country) == index);
        pb::CountryRule {
            country: code.to_string(),
            action: action_out(*action).into(),
            passed: count.map_or(0, |c| c.passed),
            denied: count.map_or(0, |c| c.denied),
        }
    };
    let others = policy.others.map_or(pb::Action::Unspecified, action_out);
    let rules: Vec<_> = policy.listed.iter().map(rule).collect();
    let mut came: Vec<_> = counts
        .iter()
        .filter(|c| policy.others.is_some() && c.denied > 0)
        .map(|c| pb::CountryRule {
            country: countries::code(c.country).to_string(),
            action: others.into(),
            passed: c.passed,
            denied: c.denied,
        })
        .filter(|c| !rules.iter().any(|r| r.country == c.country))
        .collect();
    came.sort_by_key(|c| std::cmp::Reverse(c.denied));
    Ok(pb::CountryPolicy {
        rules,
        others: came,
        only: policy.others.is_some(),
        default_action: others.into(),
        database_loaded: control.geoip.status().table.is_some(),
    })
}

pub(super) fn rate_limits(control: &Control) -> Result<pb::RateLimits, Status> {
    let limits = control.rates().map_err(refused)?;
    let counters = control.firewall.rule_counters().map_err(failed)?;
    let exceeded = |id| {
        let found = counters.iter().find(|(rule, _)| *rule == id);
        found.map_or(0, |(_, count)| count.packets)
    };
    Ok(pb::RateLimits {
        connections: Some(rate_out(
            limits.connections,
            exceeded(rule::RATE_CONNECTIONS),
        )),
        packets: Some(rate_out(limits.packets, exceeded(rule::RATE_PACKETS))),
    })
}

fn reasons(counts: BTreeMap<&'static str, u64>) -> Vec<pb::ReasonStats> {
    let one = |(reason, connections): (&str, u64)| pb::ReasonStats {
        reason: reason.to_owned(),
        connections,
    };
    counts.into_iter().map(one).collect()
}

fn route_stats(control: &Control, live: &LiveRoute) -> pb::RouteStats {
    let stats = &live.stats;
    let errors = stats.errors.snapshot();
    let classes = CLASSES.iter().zip(&stats.http.classes);
    let classes = classes.filter(|_| live.route.l7.is_some());
    pb::RouteStats {
        port: live.route.key.port.into(),
        hostname: live.route.key.hostname.to_string(),
        connections: stats.connections.load(Relaxed),
        active: stats.active.load(Relaxed),
        bytes_from_client: stats.traffic.from_client.load(Relaxed),
        bytes_to_client: stats.traffic.to_client.load(Relaxed),
        errors: errors.values().sum(),
        reasons: reasons(errors),
        requests: classes
            .map(|(class, count)| pb::ClassStats {
                class: (*class).to_owned(),
                requests: count.load(Relaxed),
            })
            .collect(),
        engine: match live.route.l7 {
            Some(_) => "http",
            None => live.route.engine.unwrap_or(control.config.engine).name(),
        }
        .to_owned(),
    }
}

pub(super) fn stats(control: &Control) -> Result<pb::Stats, Status> {
    let routes = control.context.router.all();
    let verdicts = control.firewall.verdict_counters().map_err(failed)?;
    let denied = control.context.denied.snapshot();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(pb::Stats {
        routes: routes.iter().map(|r| route_stats(control, r)).collect(),
        rules: rules(control, |r| {
            r.count.packets > 0 || r.rule.action == Action::Observe
        })?,
        verdicts: verdicts
            .into_iter()
            .filter(|v| v.count.packets > 0)
            .map(|v| pb::VerdictStats {
                verdict: v.verdict.name().to_owned(),
                reason: v.reason.name().to_owned(),
                packets: v.count.packets,
                bytes: v.count.bytes,
            })
            .collect(),
        countries: country_counts(control)?
            .into_iter()
            .filter(|c| c.passed + c.denied > 0)
            .map(|c| pb::CountryRule {
                country: countries::code(c.country).to_string(),
                passed: c.passed,
                denied: c.denied,
                ..Default::default()
            })
            .collect(),
        denied: reasons(denied),
        unix_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
    })
}

fn geoip(control: &Control) -> pb::GeoipStatus {
    let status = control.geoip.status();
    let table = status.table.as_ref();
    pb::GeoipStatus {
        path: status
            .path
            .map(|p| p.display().to_string())
            .unwrap_or_default(),
        loaded: table.is_some(),
        database_type: table.map(|t| t.database_type.clone()).unwrap_or_default(),
        build_unix_s: table.map_or(0, |t| unix_seconds(t.built)),
        ipv4_networks: table.map_or(0, |t| t.networks_v4),
        ipv6_networks: table.map_or(0, |t| t.networks_v6),
        loaded_unix_s: table.map_or(0, |t| unix_seconds(t.loaded)),
        error: status.error.unwrap_or_default(),
        tried_unix_s: status.tried.map_or(0, unix_seconds),
    }
}

/// `None`: none is configured.
fn mcias(control: &Control) -> Option<pb::MciasStatus> {
    let server = control.config.mcias.as_ref()?.server_url.clone();
    let state = control.bans_watched.state();
    let (failed, error) = state.failed.unzip();
    Some(pb::MciasStatus {
        server,
        connected_unix_s: state.since.map(unix_seconds),
        error: error.unwrap_or_default(),
        failed_unix_s: failed.map(unix_seconds),
        bans_taken: state.taken,
    })
}

pub(super) fn predecessor(daemon: Drains) -> pb::Predecessor {
    pb::Predecessor {
        pid: daemon.pid,
        connections: daemon.connections,
    }
}

/// The one that ends first, and what has none in force, first.
fn certificates(control: &Control) -> Vec<pb::Certificate> {
    let routes = control.context.router.all();
    let mut certificates: Vec<_> = routes
        .iter()
        .filter_map(|live| {
            let status = certificate_status(live.tls.as_deref()?);
            Some(pb::Certificate {
                port: live.route.key.port.into(),
                hostname: live.route.key.hostname.to_string(),
                status: Some(status),
            })
        })
        .collect();
    certificates.sort_by_key(|c| c.status.as_ref().and_then(|s| s.not_after_unix_s));
    certificates
}

pub(super) fn status(control: &Control) -> Result<pb::Status, Status> {
    let config = &control.config;
    // First, so that the rest is not from before it.
    let reload = control.last_reload().map(|r| pb::Reload {
        at_unix_s: unix_seconds(r.at),
        problems: r.problems,
    });
    let interfaces = control.interfaces().map_err(refused)?;
    let maps = control.map_fills().map_err(refused)?;
    Ok(pb::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: control.started.elapsed().as_secs(),
        interfaces: interfaces
            .into_iter()
            .map(|i| pb::InterfaceStatus {
                name: i.interface,
                mode: i.mode.name().to_owned(),
                detail: i.detail,
            })
            .collect(),
        geoip: Some(geoip(control)),
        mcias: mcias(control),
        maps: maps
            .into_iter()
            .map(|f| pb::MapFill {
                name: f.map,
                used: f.used,
                capacity: f.capacity,
            })
            .collect(),
        warnings: control.warnings(),
        active_connections: control.context.active.0.load(Relaxed),
        default_engine: engine_out(Some(config.engine)).into(),
        database: config.database.display().to_string(),
        config: config.file.display().to_string(),
        pin_path: config.pin_path.display().to_string(),
        configured_unix_s: unix_seconds(control.configured),
        reload,
        certificates: certificates(control),
        draining: control.listeners.draining().map(|d| pb::Draining {
            since_unix_s: unix_seconds(d.since),
            until_unix_s: unix_seconds(d.until),
        }),
        predecessors: control
            .predecessors()
            .into_iter()
            .map(predecessor)
            .collect(),
        rules: Some(pb::MapFill {
            name: "rules".to_owned(),
            used: control.firewall.rules() as u64,
            capacity: MAX_RULES as u64,
        }),
    })
}
