//! The RPCs.

use std::{sync::Arc, time::SystemTime};

use mc_proto::mcproxy::v1::{self as pb, admin_server::Admin};
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

use super::{
    convert::{
        address_in, countries_in, listener_in, listener_out, missing, rates_in, route_in,
        route_key_in, route_out, rule_in, rule_key_in, rule_kind_in, rule_out,
    },
    errors::refused,
    explain, maintain, observe,
};
use crate::{
    control::{Control, CountedRule},
    firewall::Count,
    store::Actor,
};

/// Rules in one request.
const MAX_RULES_PER_REQUEST: usize = 32_768;
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

fn actor<T>(request: &Request<T>) -> Actor {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    Actor {
        uid: peer.map(|p| p.uid()),
        pid: peer.and_then(|p| p.pid()),
        source: "admin socket".into(),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_listeners(
        &self,
        _: Request<pb::ListListenersRequest>,
    ) -> Result<Response<pb::ListListenersResponse>, Status> {
        let listeners = self
            .control
            .listeners
            .list()
            .iter()
            .map(listener_out)
            .collect();
        Ok(Response::new(pb::ListListenersResponse { listeners }))
    }

    async fn add_listener(
        &self,
        request: Request<pb::AddListenerRequest>,
    ) -> Result<Response<pb::Listener>, Status> {
        let actor = actor(&request);
        let message = request
            .into_inner()
            .listener
            .ok_or_else(|| missing("listener"))?;
        let listener = listener_in(message)?;
        self.run(move |c| {
            c.add_listener(&actor, &listener)
                .map(|l| listener_out(&l))
                .map_err(refused)
        })
        .await
    }

    async fn remove_listener(
        &self,
        request: Request<pb::RemoveListenerRequest>,
    ) -> Result<Response<pb::RemoveListenerResponse>, Status> {
        let actor = actor(&request);
        let address = address_in("address", &request.into_inner().address)?;
        self.run(move |c| {
            let routes = c.remove_listener(&actor, address).map_err(refused)?;
            let routes = u32::try_from(routes).unwrap_or(u32::MAX);
            Ok(pb::RemoveListenerResponse { routes })
        })
        .await
    }

    async fn list_routes(
        &self,
        _: Request<pb::ListRoutesRequest>,
    ) -> Result<Response<pb::ListRoutesResponse>, Status> {
        let routes = self
            .control
            .context
            .router
            .all()
            .iter()
            .map(|r| route_out(r))
            .collect();
        Ok(Response::new(pb::ListRoutesResponse { routes }))
    }

    async fn get_route(
        &self,
        request: Request<pb::GetRouteRequest>,
    ) -> Result<Response<pb::Route>, Status> {
        let id = route_key_in(request.into_inner().key)?;
        let route = self.control.context.router.get(&id).ok_or_else(|| {
            Status::not_found(format!(
                "no route {} on port {}; see `mcproxyctl route list`",
                id.hostname, id.port
            ))
        })?;
        Ok(Response::new(route_out(&route)))
    }

    async fn add_route(
        &self,
        request: Request<pb::AddRouteRequest>,
    ) -> Result<Response<pb::Route>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        let route = route_in(message.route.as_ref().ok_or_else(|| missing("route"))?)?;
        self.run(move |c| {
            c.add_route(&actor, &route, message.replace)
                .map(|r| route_out(&r))
                .map_err(refused)
        })
        .await
    }

    async fn remove_route(
        &self,
        request: Request<pb::RemoveRouteRequest>,
    ) -> Result<Response<pb::RemoveRouteResponse>, Status> {
        let actor = actor(&request);
        let id = route_key_in(request.into_inner().key)?;
        self.run(move |c| c.remove_route(&actor, &id).map_err(refused))
            .await?;
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
            c.set_route_enabled(&actor, &id, message.enabled)
                .map(|r| route_out(&r))
                .map_err(refused)
        })
        .await
    }

    async fn list_rules(
        &self,
        request: Request<pb::ListRulesRequest>,
    ) -> Result<Response<pb::ListRulesResponse>, Status> {
        let kind = rule_kind_in(request.into_inner().kind());
        self.run(move |c| {
            let rules = observe::rules(c, |r| kind.is_none_or(|k| r.rule.kind == k))?;
            Ok(pb::ListRulesResponse { rules })
        })
        .await
    }

    async fn add_rules(
        &self,
        request: Request<pb::AddRulesRequest>,
    ) -> Result<Response<pb::AddRulesResponse>, Status> {
        let actor = actor(&request);
        let message = request.into_inner();
        bounded(message.rules.len())?;
        let now = SystemTime::now();
        let rules = message
            .rules
            .iter()
            .map(|r| rule_in(r, now))
            .collect::<Result<Vec<_>, _>>()?;
        self.run(move |c| {
            let added = c
                .add_rules(&actor, &rules, message.replace)
                .map_err(refused)?;
            let out = added.rules.into_iter().map(|rule| {
                rule_out(
                    &CountedRule {
                        rule,
                        count: Count::default(),
                    },
                    now,
                )
            });
            Ok(pb::AddRulesResponse {
                rules: out.collect(),
                replaced: u32::try_from(added.replaced).unwrap_or(u32::MAX),
                unchanged: u32::try_from(added.unchanged).unwrap_or(u32::MAX),
            })
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
        let keys = message
            .rules
            .iter()
            .map(rule_key_in)
            .collect::<Result<Vec<_>, _>>()?;
        self.run(move |c| {
            let removed = c.remove_rules(&actor, &keys).map_err(refused)?;
            Ok(pb::RemoveRulesResponse {
                removed: u32::try_from(removed).unwrap_or(u32::MAX),
            })
        })
        .await
    }

    async fn get_country_policy(
        &self,
        _: Request<pb::GetCountryPolicyRequest>,
    ) -> Result<Response<pb::CountryPolicy>, Status> {
        self.run(|c| observe::country_policy(c, &c.countries().map_err(refused)?))
            .await
    }

    async fn set_country_policy(
        &self,
        request: Request<pb::SetCountryPolicyRequest>,
    ) -> Result<Response<pb::CountryPolicy>, Status> {
        let actor = actor(&request);
        let message = request
            .into_inner()
            .policy
            .ok_or_else(|| missing("policy"))?;
        let policy = countries_in(&message)?;
        self.run(move |c| {
            c.set_countries(&actor, &policy).map_err(refused)?;
            observe::country_policy(c, &policy)
        })
        .await
    }

    async fn get_rate_limits(
        &self,
        _: Request<pb::GetRateLimitsRequest>,
    ) -> Result<Response<pb::RateLimits>, Status> {
        self.run(observe::rate_limits).await
    }

    async fn set_rate_limits(
        &self,
        request: Request<pb::SetRateLimitsRequest>,
    ) -> Result<Response<pb::RateLimits>, Status> {
        let actor = actor(&request);
        let limits = rates_in(
            &request
                .into_inner()
                .limits
                .ok_or_else(|| missing("limits"))?,
        )?;
        self.run(move |c| {
            c.set_rates(&actor, &limits).map_err(refused)?;
            observe::rate_limits(c)
        })
        .await
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let question = explain::Question::parse(&request.into_inner())?;
        self.run(move |c| explain::answer(c, &question).map_err(refused))
            .await
    }

    async fn get_stats(
        &self,
        _: Request<pb::GetStatsRequest>,
    ) -> Result<Response<pb::Stats>, Status> {
        self.run(observe::stats).await
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::Status>, Status> {
        self.run(observe::status).await
    }

    async fn dump_map(
        &self,
        request: Request<pb::DumpMapRequest>,
    ) -> Result<Response<pb::DumpMapResponse>, Status> {
        let map = request.into_inner().map;
        self.run(move |c| maintain::dump(c, &map)).await
    }

    async fn verify_maps(
        &self,
        request: Request<pb::VerifyMapsRequest>,
    ) -> Result<Response<pb::VerifyMapsResponse>, Status> {
        let repair = request.into_inner().repair;
        self.run(move |c| maintain::verify(c, repair)).await
    }

    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let limit = request.into_inner().limit;
        self.run(move |c| maintain::audit(c, limit)).await
    }

    async fn upgrade(
        &self,
        request: Request<pb::UpgradeRequest>,
    ) -> Result<Response<pb::UpgradeResponse>, Status> {
        let (actor, force) = (actor(&request), request.get_ref().force);
        self.run(move |c| maintain::upgrade(c, &actor, force)).await
    }

    async fn detach(
        &self,
        request: Request<pb::DetachRequest>,
    ) -> Result<Response<pb::DetachResponse>, Status> {
        let actor = actor(&request);
        self.run(move |c| maintain::detach(c, &actor)).await
    }
}

fn bounded(rules: usize) -> Result<(), Status> {
    if rules > MAX_RULES_PER_REQUEST {
        return Err(super::convert::invalid(
            "rules",
            format!("{rules} in one request, at most {MAX_RULES_PER_REQUEST}"),
        ));
    }
    Ok(())
}
