//! `explain`: what would happen to a new connection, asked of the same code and kernel maps that decide it.
//!
//! The connection's source passes XDP; then its listener takes it, and where that asks for a PROXY header, the client that
//! this names is judged in turn; then its source's share of the connections; then the route.

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use mc_edge_common::{
    decide::Decision,
    firewall::{Reason, Verdict, rule},
};
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::convert::{invalid, route_out};
use crate::{
    control::{Control, ControlError},
    firewall::{Trace, rule_name},
    geoip::countries,
    hostname::Hostname,
    kernel::LinkMode,
    listener::ListenerState,
    router::{LiveRoute, Miss},
};

const DEFAULT_PORT: u16 = 443;

/// A checked request.
#[derive(Debug)]
pub(super) struct Question {
    address: IpAddr,
    /// Who connects, if it is not `address`.
    via: Option<IpAddr>,
    port: u16,
    sni: Option<Hostname>,
}

fn address(field: &str, text: &str) -> Result<IpAddr, Status> {
    let address: Result<IpAddr, _> = text.parse();
    address
        .map(|a| a.to_canonical())
        .map_err(|_| invalid(field, format!("{text:?} is not an IP address")))
}

impl Question {
    pub(super) fn parse(message: &pb::ExplainRequest) -> Result<Self, Status> {
        let port = match message.port {
            0 => DEFAULT_PORT,
            port => u16::try_from(port)
                .map_err(|_| invalid("port", format!("{port} is above 65535")))?,
        };
        let sni = match message.sni.as_str() {
            "" => None,
            name => Some(
                name.parse()
                    .map_err(|e| invalid("sni", format!("{name:?}: {e}")))?,
            ),
        };
        Ok(Self {
            address: address("address", &message.address)?,
            via: match message.via.as_str() {
                "" => None,
                via => Some(address("via", via)?),
            },
            port,
            sni,
        })
    }

    /// The other end of the TCP connection.
    fn peer(&self) -> IpAddr {
        self.via.unwrap_or(self.address)
    }
}

fn step(stage: &str, detail: impl Into<String>, outcome: &str) -> pb::ExplainStep {
    pb::ExplainStep {
        stage: stage.into(),
        detail: detail.into(),
        outcome: outcome.into(),
        rule_id: 0,
        rule: String::new(),
    }
}

/// The row that names what decided. A row of its own, since the allow-list is looked up only after the stage that
/// would deny, and an absent entry can decide as well.
fn verdict(decision: &Decision) -> pb::ExplainStep {
    let by = match (decision.rule, decision.reason) {
        (_, Reason::NoMatch | Reason::Unguarded) => ": no rule denies it".to_owned(),
        (rule::NONE, _) => String::new(),
        (id, _) => format!(" by {}", rule_name(id)),
    };
    let built_in = rule::name(decision.rule).unwrap_or_default();
    pb::ExplainStep {
        rule_id: decision.rule,
        rule: built_in.to_owned(),
        ..step(
            "verdict",
            format!("{}{by}", decision.reason.name()),
            decision.verdict.name(),
        )
    }
}

pub(super) fn answer(
    control: &Control,
    question: &Question,
) -> Result<pb::ExplainResponse, ControlError> {
    let mut answer = Answer::default();
    let trace = control.firewall.explain(question.peer(), question.port)?;
    if answer.judge(trace)
        && let Some(listener) = answer.listener(control, question)
        && answer.proxy(control, question, &listener)?
        && answer.share(control, question.address)
    {
        answer.route(control, question);
    }
    let unfiltered = control.interfaces()?.into_iter();
    answer.0.unfiltered = unfiltered
        .filter(|link| link.mode == LinkMode::Detached)
        .map(|link| link.interface)
        .collect();
    Ok(answer.0)
}

/// An answer in the making. Each stage says whether the connection goes on.
#[derive(Default)]
struct Answer(pb::ExplainResponse);

impl Answer {
    fn say(&mut self, stage: &str, detail: impl Into<String>, outcome: &str) {
        self.0.steps.push(step(stage, detail, outcome));
    }

    fn reset(&mut self, stage: &str, detail: impl Into<String>, reason: &str) -> bool {
        self.say(stage, detail, Verdict::Reset.name());
        self.0.verdict = Verdict::Reset.name().to_owned();
        reason.clone_into(&mut self.0.reason);
        false
    }

    /// The firewall's stages.
    fn judge(&mut self, trace: Trace) -> bool {
        let decision = &trace.decision;
        for s in trace.steps {
            self.say(s.stage, s.detail, "");
        }
        self.0.steps.push(verdict(decision));
        decision.verdict.name().clone_into(&mut self.0.verdict);
        decision.reason.name().clone_into(&mut self.0.reason);
        self.0.country = countries::code(trace.country).to_string();
        decision.verdict == Verdict::Pass
    }

    /// The listener that takes the connection. Where several share the port, one that takes a PROXY header if the question
    /// has a proxy, else one that does not.
    fn listener(&mut self, control: &Control, question: &Question) -> Option<ListenerState> {
        let port = question.port;
        let mut here: Vec<_> = control.listeners.list();
        here.retain(|l| l.listener.address.port() == port);
        let mut up = here.clone();
        up.retain(|l| {
            l.error.is_none() && l.listener.address.is_ipv4() == question.peer().is_ipv4()
        });
        up.sort_by_key(|l| l.listener.trusted_proxies.is_empty() == question.via.is_some());
        let Some(listener) = up.into_iter().next() else {
            self.reset("listener", no_listener(&here, port), "connection_refused");
            return None;
        };
        self.say("listener", listener.listener.address.to_string(), "");
        if control.listeners.full() {
            let most = control.config.max_connections;
            let detail = format!("all {most} connections are open: it waits until one ends");
            self.say("max-connections", detail, "waits");
        }
        Some(listener)
    }

    /// The PROXY header, and the client that it names.
    fn proxy(
        &mut self,
        control: &Control,
        question: &Question,
        listener: &ListenerState,
    ) -> Result<bool, ControlError> {
        let (peer, client) = (question.peer(), question.address);
        let trusted = &listener.listener.trusted_proxies;
        if trusted.is_empty() {
            return Ok(match question.via {
                None => true,
                Some(_) => self.reset(
                    "proxy",
                    "the listener takes no PROXY header, and reads one as broken TLS",
                    "not_tls",
                ),
            });
        }
        let Some(by) = trusted.iter().find(|net| net.contains(&peer)) else {
            let from: Vec<_> = trusted.iter().map(ToString::to_string).collect();
            let detail = format!(
                "the listener takes connections from its proxies only ({}); for a client of one, give it with --via",
                from.join(", ")
            );
            return Ok(self.reset("proxy", detail, "proxy_untrusted"));
        };
        let named = match question.via {
            Some(_) => format!("its PROXY header names {client}"),
            None => "judged as a client that its PROXY header names (--via for another)".to_owned(),
        };
        self.say("proxy", format!("{peer} is trusted ({by}); {named}"), "");
        Ok(self.judge(control.firewall.explain_proxied(client, question.port)?))
    }

    /// Whether the client's source may have another connection.
    fn share(&mut self, control: &Control, client: IpAddr) -> bool {
        let stage = "max-connections-per-source";
        let (open, most) = control.context.sources.open(client);
        let detail = format!("its source holds {open} of {most} connections");
        if open >= most {
            return self.reset(stage, detail, "max_connections_per_source");
        }
        self.say(stage, detail, "");
        true
    }

    fn route(&mut self, control: &Control, question: &Question) {
        let Some(sni) = &question.sni else {
            let detail = "which one depends on the name asked for (--sni); without a name: reset";
            return self.say("route", detail, "");
        };
        match control.context.router.find(question.port, sni) {
            Err(miss) => {
                self.reset("route", missed(&miss, sni, question.port), miss.reason());
            }
            Ok(live) => {
                let detail = format!(
                    "{sni} is routed by {} on port {} (route {})",
                    live.route.key.hostname, live.route.key.port, live.route.id,
                );
                self.say("route", detail, "route");
                if self.room(&live) {
                    self.backend(&live);
                }
                self.0.route = Some(route_out(&live));
            }
        }
    }

    /// The backend of the next connection. An L7 route is asked for each request, and answers 503 instead of resetting.
    fn backend(&mut self, live: &LiveRoute) {
        match live.pick(&[], u64::MAX) {
            Ok(backend) => self.say("backend", backend.address.to_string(), "route"),
            Err(none) if live.tls.is_some() => {
                let detail = "all are down (`mcproxyctl backend list`): requests are answered 503";
                self.say("backend", format!("{}: {detail}", none.reason()), "route");
            }
            Err(none) => {
                let detail = "all are down; see `mcproxyctl backend list`";
                self.reset("backend", detail, none.reason());
            }
        }
    }

    /// Whether the route takes another connection.
    fn room(&mut self, live: &LiveRoute) -> bool {
        let Some(most) = live.route.max_connections else {
            return true;
        };
        let active = live.stats.active.load(Relaxed);
        if active >= u64::from(most) {
            let detail = format!("the route is full: {active} of {most} connections are open");
            return self.reset("max-connections", detail, "max_connections");
        }
        self.say(
            "max-connections",
            format!("{active} of {most} are open"),
            "",
        );
        true
    }
}

/// Why no listener takes it, of those `here` on the port.
fn no_listener(here: &[ListenerState], port: u16) -> String {
    let each: Vec<_> = here
        .iter()
        .map(|l| match &l.error {
            Some(error) => format!("{} is not listening: {error}", l.listener.address),
            None => format!("{} is of the other family", l.listener.address),
        })
        .collect();
    if each.is_empty() {
        return format!("there is none on port {port}; unless another program listens: refused");
    }
    format!("{}; refused", each.join(", "))
}

fn missed(miss: &Miss, sni: &Hostname, port: u16) -> String {
    match miss {
        Miss::Unknown => format!("{sni} has no route on port {port}, exact or wildcard"),
        Miss::Disabled => format!("the route of {sni} on port {port} is disabled"),
        Miss::Diverged(id) => format!(
            "the kernel has route {id}, the daemon does not; `mcproxyctl maps verify --repair`"
        ),
        Miss::Table(error) => mcdsl::cli::chain(error),
    }
}

#[cfg(test)]
mod tests {
    use mc_edge_common::firewall::{Reason, Verdict};

    use super::*;

    #[test]
    fn the_verdict_row_names_what_decided() {
        for (description, verdict_is, reason, rule, detail) in [
            ("a rule", Verdict::Drop, Reason::Ban, 18, "ban by rule 18"),
            (
                "a built-in rule",
                Verdict::Drop,
                Reason::Country,
                rule::COUNTRY,
                "country by the built-in rule country",
            ),
            (
                "no rule",
                Verdict::Pass,
                Reason::Unguarded,
                rule::NONE,
                "unguarded: no rule denies it",
            ),
        ] {
            let row = verdict(&Decision {
                verdict: verdict_is,
                reason,
                rule,
            });
            assert_eq!(
                (row.stage.as_str(), row.detail.as_str(), row.rule_id),
                ("verdict", detail, rule),
                "{description}"
            );
            assert_eq!(row.outcome, verdict_is.name(), "{description}");
        }
    }
}
