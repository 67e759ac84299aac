//! The RPCs.

use std::{sync::Arc, time::SystemTime};

use mc_proto::mcproxy::v1::{self as pb, admin_server::Admin};
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

use super::{
    convert::{
        address_in, countries_in, engine_out, listener_in, listener_out, missing, rate_out,
        rates_in, route_in, route_key_in, route_out, rule_in, rule_key_in, rule_kind_in, rule_out, unix_seconds,
    },
    explain,
};
use crate::{
    control::{Control, ControlError, CountedRule},
    firewall::Sample,
    spec::{Action, CountryPolicy, DifferenceKind},
    store::{Actor, StoreError},
};

/// Rules in one request.
const MAX_RULES_PER_REQUEST: usize = 32_768;
/// Audit rows of one answer, unless asked otherwise.
const DEFAULT_AUDIT: u32 = 100;
/// Audit rows of one answer at most.
const MAX_AUDIT: u32 = 10_000;

/// Answers the admin API from a [`Control`].
#[derive(Clone, Debug)]
pub struct AdminService {
    control: Arc<Control>,
}

impl AdminService {
    /// A service over a running daemon.
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// Runs what blocks off the runtime's threads.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Control) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let control = Arc::clone(&self.control);
        tokio::task::spawn_blocking(move || work(&control))
            .await
            .map_err(|_| Status::internal("the request's worker failed; see the daemon's log"))?
            .map(Response::new)
    }
}

/// The one place that maps errors to gRPC codes.
fn status(error: ControlError) -> Status {
    let message = mcdsl::cli::chain(&error);
    match &error {
        ControlError::Invalid { .. } => Status::invalid_argument(message),
        ControlError::Store(StoreError::NotFound(_)) => Status::not_found(message),
        ControlError::Store(StoreError::AlreadyExists(_)) => Status::already_exists(message),
        ControlError::Store(StoreError::Full { .. }) => Status::resource_exhausted(message),
        ControlError::Bind { .. } => Status::failed_precondition(message),
        _ => {
            tracing::error!(error = message, "admin request failed");
            Status::internal(message)
        }
    }
}

fn actor<T>(request: &Request<T>) -> Actor {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    Actor { uid: peer.map(|p| p.uid()), pid: peer.and_then(|p| p.pid()), source: "admin socket".into() }
}

fn rule_samples(samples: &[Sample], rule: u32) -> Vec<pb::Sample> {
    samples
        .iter()
        .filter(|s| s.rule == rule)
        .map(|s| pb::Sample {
            address: s.address.to_string(),
            packets: s.packets,
            age_ms: u64::try_from(s.age.as_millis()).unwrap_or(u64::MAX),
        })
        .collect()
}

fn rules_out(control: &Control, keep: impl Fn(&CountedRule) -> bool) -> Result<Vec<pb::Rule>, Status> {
    let now = SystemTime::now();
    let samples = control.firewall.samples().map_err(|e| status(e.into()))?;
    Ok(control
        .rules_with_counters()
        .iter()
        .filter(|r| keep(r))
        .map(|r| pb::Rule { samples: rule_samples(&samples, r.rule.id), ..rule_out(r, now) })
        .collect())
}

fn country_policy_out(control: &Control, policy: &CountryPolicy) -> pb::CountryPolicy {
    let counters = control.country_counters();
    let rules = policy
        .listed
        .iter()
        .map(|(code, action)| {
            let counted = counters.iter().find(|c| c.country == *code);
            pb::CountryRule {
                country: code.to_string(),
                action: super::convert::action_out(*action).into(),
                passed: counted.map_or(0, |c| c.passed),
                denied: counted.map_or(0, |c| c.denied),
            }
        })
        .collect();
    pb::CountryPolicy {
        rules,
        only: policy.others.is_some(),
        default_action: policy.others.map_or(pb::Action::Unspecified, super::convert::action_out).into(),
        database_loaded: control.geoip.status().table.is_some(),
    }
}

fn rate_limits_out(control: &Control) -> Result<pb::RateLimits, Status> {
    let limits = control.rates().map_err(status)?;
    let exceeded = control.firewall.rate_counters().map_err(|e| status(e.into()))?;
    Ok(pb::RateLimits {
        connections: Some(rate_out(limits.connections, exceeded.connections)),
        packets: Some(rate_out(limits.packets, exceeded.packets)),
    })
}

fn stats(control: &Control) -> Result<pb::Stats, Status> {
    use std::sync::atomic::Ordering::Relaxed;
    let routes = control
        .context
        .router
        .all()
        .iter()
        .map(|r| {
            let engine = r.route.engine.unwrap_or(control.config.engine);
            pb::RouteStats {
                port: r.route.key.port.into(),
                hostname: r.route.key.hostname.to_string(),
                connections: r.stats.connections.load(Relaxed),
                active: r.stats.active.load(Relaxed),
                bytes_from_client: r.stats.traffic.from_client.load(Relaxed),
                bytes_to_client: r.stats.traffic.to_client.load(Relaxed),
                errors: r.stats.errors.snapshot().values().sum(),
                engine: engine.name().to_owned(),
            }
        })
        .collect();
    let verdicts = control
        .verdict_counters()
        .into_iter()
        .map(|v| pb::VerdictStats {
            verdict: v.verdict.to_owned(),
            reason: v.reason.to_owned(),
            packets: v.packets,
            bytes: v.bytes,
        })
        .collect();
    let countries = control
        .country_counters()
        .into_iter()
        .map(|c| pb::CountryRule {
            country: c.country.to_string(),
            passed: c.passed,
            denied: c.denied,
            ..Default::default()
        })
        .collect();
    let denied = control
        .context
        .denied
        .snapshot()
        .into_iter()
        .map(|(reason, connections)| pb::ReasonStats { reason: reason.to_owned(), connections })
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(pb::Stats {
        routes,
        rules: rules_out(control, |r| r.packets > 0 || r.rule.action == Action::Observe)?,
        verdicts,
        countries,
        denied,
        unix_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
    })
}

fn daemon_status(control: &Control) -> pb::Status {
    let geoip = control.geoip.status();
    let table = geoip.table.as_ref();
    let geoip = pb::GeoipStatus {
        path: geoip.path.map(|p| p.display().to_string()).unwrap_or_default(),
        loaded: table.is_some(),
        database_type: table.map(|t| t.database_type.clone()).unwrap_or_default(),
        build_unix_s: table.map_or(0, |t| unix_seconds(t.built)),
        ipv4_networks: table.map_or(0, |t| t.networks_v4),
        ipv6_networks: table.map_or(0, |t| t.networks_v6),
        loaded_unix_s: table.map_or(0, |t| unix_seconds(t.loaded)),
        error: geoip.error.unwrap_or_default(),
    };
    let config = &control.config;
    pb::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: control.started.elapsed().as_secs(),
        interfaces: control
            .interfaces()
            .into_iter()
            .map(|i| pb::InterfaceStatus { name: i.name, mode: i.mode.to_owned(), detail: i.detail })
            .collect(),
        geoip: Some(geoip),
        maps: control
            .map_fills()
            .into_iter()
            .map(|f| pb::MapFill { name: f.map, used: f.used, capacity: f.capacity })
            .collect(),
        warnings: control.warnings(),
        active_connections: control.context.active.0.load(std::sync::atomic::Ordering::Relaxed),
        default_engine: engine_out(Some(config.engine)).into(),
        database: config.database.display().to_string(),
        config: config.file.display().to_string(),
        pin_path: config.pin_path.display().to_string(),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_listeners(
        &self,
        _: Request<pb::ListListenersRequest>,
    ) -> Result<Response<pb::ListListenersResponse>, Status> {
        let listeners = self.control.listeners.list().iter().map(listener_out).collect();
        Ok(Response::new(pb::ListListenersResponse { listeners }))
    }

    async fn add_listener(&self, request: Request<pb::AddListenerRequest>) -> Result<Response<pb::Listener>, Status> {
        let actor = actor(&request);
        let message = request.into_inner().listener.ok_or_else(|| missing("listener"))?;
        let listener = listener_in(message)?;
        self.run(move |c| c.add_listener(&actor, &listener).map(|l| listener_out(&l)).map_err(status)).await
    }

    async fn remove_listener(
        &self,
        request: Request<pb::RemoveListenerRequest>,
    ) -> Result<Response<pb::RemoveListenerResponse>, Status> {
        let actor = actor(&request);
        let address = address_in("address", &request.into_inner().address)?;
        self.run(move |c| c.remove_listener(&actor, address).map_err(status)).await?;
        Ok(Response::new(pb::RemoveListenerResponse {}))
    }

    async fn list_routes(
        &self,
        _: Request<pb::ListRoutesRequest>,
    ) -> Result<Response<pb::ListRoutesResponse>, Status> {
        let routes = self.control.context.router.all().iter().map(|r| route_out(r)).collect();
        Ok(Response::new(pb::ListRoutesResponse { routes }))
    }

    async fn get_route(&self, request: Request<pb::GetRouteRequest>) -> Result<Response<pb::Route>, Status> {
        let id = route_key_in(request.into_inner().key)?;
        let route = self.control.context.router.get(&id).ok_or_else(|| {
            Status::not_found(format!("no route {} on port {}; see `mcproxyctl route list`", id.hostname, id.port))
        })?;
        Ok(Response::new(route_out(&route)))
    }

    async fn add_route(&self, request: Request<pb::AddRouteRequest>) -> Result<Response<pb::Route>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        let route = route_in(message.route.as_ref().ok_or_else(|| missing("route"))?)?;
        self.run(move |c| c.add_route(&actor, &route, message.replace).map(|r| route_out(&r)).map_err(status)).await
    }

    async fn remove_route(
        &self,
        request: Request<pb::RemoveRouteRequest>,
    ) -> Result<Response<pb::RemoveRouteResponse>, Status> {
        let actor = actor(&request);
        let id = route_key_in(request.into_inner().key)?;
        self.run(move |c| c.remove_route(&actor, &id).map_err(status)).await?;
        Ok(Response::new(pb::RemoveRouteResponse {}))
    }

    async fn set_route_enabled(
        &self,
        request: Request<pb::SetRouteEnabledRequest>,
    ) -> Result<Response<pb::Route>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        let id = route_key_in(message.key)?;
        self.run(move |c| {
            c.set_route_enabled(&actor, &id, message.enabled).map(|r| route_out(&r)).map_err(status)
        })
        .await
    }

    async fn list_rules(&self, request: Request<pb::ListRulesRequest>) -> Result<Response<pb::ListRulesResponse>, Status> {
        let kind = rule_kind_in(request.into_inner().kind());
        self.run(move |c| {
            let rules = rules_out(c, |r| kind.is_none_or(|k| r.rule.kind == k))?;
            Ok(pb::ListRulesResponse { rules })
        })
        .await
    }

    async fn add_rules(&self, request: Request<pb::AddRulesRequest>) -> Result<Response<pb::AddRulesResponse>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        bounded(message.rules.len())?;
        let now = SystemTime::now();
        let rules = message.rules.iter().map(|r| rule_in(r, now)).collect::<Result<Vec<_>, _>>()?;
        self.run(move |c| {
            let stored = c.add_rules(&actor, &rules, message.replace).map_err(status)?;
            let out = stored.into_iter().map(|rule| rule_out(&CountedRule { rule, packets: 0, bytes: 0 }, now));
            Ok(pb::AddRulesResponse { rules: out.collect() })
        })
        .await
    }

    async fn remove_rules(
        &self,
        request: Request<pb::RemoveRulesRequest>,
    ) -> Result<Response<pb::RemoveRulesResponse>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        bounded(message.rules.len())?;
        let keys = message.rules.iter().map(rule_key_in).collect::<Result<Vec<_>, _>>()?;
        self.run(move |c| {
            let removed = c.remove_rules(&actor, &keys).map_err(status)?;
            Ok(pb::RemoveRulesResponse { removed: u32::try_from(removed).unwrap_or(u32::MAX) })
        })
        .await
    }

    async fn get_country_policy(
        &self,
        _: Request<pb::GetCountryPolicyRequest>,
    ) -> Result<Response<pb::CountryPolicy>, Status> {
        self.run(|c| Ok(country_policy_out(c, &c.countries().map_err(status)?))).await
    }

    async fn set_country_policy(
        &self,
        request: Request<pb::SetCountryPolicyRequest>,
    ) -> Result<Response<pb::CountryPolicy>, Status> {
        let actor = actor(&request);
        let message = request.into_inner().policy.ok_or_else(|| missing("policy"))?;
        let policy = countries_in(&message)?;
        self.run(move |c| {
            c.set_countries(&actor, &policy).map_err(status)?;
            Ok(country_policy_out(c, &policy))
        })
        .await
    }

    async fn get_rate_limits(&self, _: Request<pb::GetRateLimitsRequest>) -> Result<Response<pb::RateLimits>, Status> {
        self.run(rate_limits_out).await
    }

    async fn set_rate_limits(
        &self,
        request: Request<pb::SetRateLimitsRequest>,
    ) -> Result<Response<pb::RateLimits>, Status> {
        let actor = actor(&request);
        let limits = rates_in(&request.into_inner().limits.ok_or_else(|| missing("limits"))?)?;
        self.run(move |c| {
            c.set_rates(&actor, &limits).map_err(status)?;
            rate_limits_out(c)
        })
        .await
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainResponse>, Status> {
        let question = explain::Question::parse(&request.into_inner())?;
        self.run(move |c| explain::answer(c, &question).map_err(status)).await
    }

    async fn get_stats(&self, _: Request<pb::GetStatsRequest>) -> Result<Response<pb::Stats>, Status> {
        self.run(stats).await
    }

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::Status>, Status> {
        self.run(|c| Ok(daemon_status(c))).await
    }

    async fn dump_map(&self, request: Request<pb::DumpMapRequest>) -> Result<Response<pb::DumpMapResponse>, Status> {
        let map = request.into_inner().map;
        self.run(move |c| {
            let entries = c.dump(&map).map_err(status)?;
            let entries = entries.into_iter().map(|e| pb::MapEntry { map: e.map, key: e.key, value: e.value });
            Ok(pb::DumpMapResponse { entries: entries.collect() })
        })
        .await
    }

    async fn verify_maps(
        &self,
        request: Request<pb::VerifyMapsRequest>,
    ) -> Result<Response<pb::VerifyMapsResponse>, Status> {
        let repair = request.into_inner().repair;
        self.run(move |c| {
            let (differences, checked) = c.verify(repair).map_err(status)?;
            let differences = differences
                .into_iter()
                .map(|d| pb::MapDifference {
                    map: d.map,
                    key: d.key,
                    kind: match d.kind {
                        DifferenceKind::Missing => "missing",
                        DifferenceKind::Unexpected => "unexpected",
                        DifferenceKind::Different => "different",
                    }
                    .to_owned(),
                    detail: d.detail,
                })
                .collect();
            Ok(pb::VerifyMapsResponse { differences, repaired: repair, checked })
        })
        .await
    }

    async fn list_audit(&self, request: Request<pb::ListAuditRequest>) -> Result<Response<pb::ListAuditResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => DEFAULT_AUDIT,
            limit => limit.min(MAX_AUDIT),
        };
        self.run(move |c| {
            let entries = c.audit_log(limit).map_err(status)?.into_iter().map(super::convert::audit_out).collect();
            Ok(pb::ListAuditResponse { entries })
        })
        .await
    }

    async fn detach(&self, request: Request<pb::DetachRequest>) -> Result<Response<pb::DetachResponse>, Status> {
        let actor = actor(&request);
        self.run(move |c| Ok(pb::DetachResponse { interfaces: c.detach(&actor).map_err(status)? })).await
    }
}

fn bounded(rules: usize) -> Result<(), Status> {
    if rules > MAX_RULES_PER_REQUEST {
        return Err(super::convert::invalid("rules", format!("{rules} in one request, at most {MAX_RULES_PER_REQUEST}")));
    }
    Ok(())
}
