//! `explain`: what would happen to a new connection, asked of the same code and kernel maps that decide it.

use std::net::IpAddr;

use mc_edge_common::{decide::Decision, firewall::rule};
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::convert::{invalid, route_out};
use crate::{
    control::{Control, ControlError},
    geoip::countries,
    hostname::Hostname,
};

const DEFAULT_PORT: u16 = 443;

/// A checked request.
#[derive(Debug)]
pub(super) struct Question {
    address: IpAddr,
    port: u16,
    sni: Option<Hostname>,
}

impl Question {
    pub(super) fn parse(message: &pb::ExplainRequest) -> Result<Self, Status> {
        let address: IpAddr = message.address.parse().map_err(|_| {
            invalid(
                "address",
                format!("{:?} is not an IP address", message.address),
            )
        })?;
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
            address: address.to_canonical(),
            port,
            sni,
        })
    }
}

fn step(stage: &str, detail: impl Into<String>, outcome: &str) -> pb::ExplainStep {
    pb::ExplainStep {
        stage: stage.into(),
        detail: detail.into(),
        outcome: outcome.into(),
        rule_id: 0,
    }
}

/// The row that names what decided. A row of its own, since the allow-list is looked up only after the stage that
/// would deny, and an absent entry can decide as well.
fn verdict(decision: &Decision) -> pb::ExplainStep {
    let by = match decision.rule {
        rule::NONE => String::new(),
        id => format!(" by rule {id}"),
    };
    pb::ExplainStep {
        rule_id: decision.rule,
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
    let trace = control.firewall.explain(question.address, question.port)?;
    let decision = &trace.decision;
    let mut steps: Vec<_> = trace
        .steps
        .into_iter()
        .map(|s| step(s.stage, s.detail, ""))
        .collect();
    steps.push(verdict(decision));
    let mut response = pb::ExplainResponse {
        verdict: decision.verdict.name().to_owned(),
        reason: decision.reason.name().to_owned(),
        country: countries::code(trace.country).to_string(),
        steps,
        route: None,
    };
    if response.verdict == "pass" {
        route(control, question, &mut response);
    }
    Ok(response)
}

/// What happens after the firewall let it pass.
fn route(control: &Control, question: &Question, response: &mut pb::ExplainResponse) {
    let refused = |response: &mut pb::ExplainResponse, reason: String| {
        response.verdict = "reset".into();
        response.reason = reason;
    };
    let listening = control.listeners.list().iter().any(|l| {
        l.error.is_none()
            && l.listener.address.port() == question.port
            && l.listener.address.is_ipv4() == question.address.is_ipv4()
    });
    if !listening {
        let detail = format!(
            "nothing listens on port {} for this address family",
            question.port
        );
        response
            .steps
            .push(step("listener", detail.clone(), "reset"));
        return refused(response, detail);
    }
    response
        .steps
        .push(step("listener", format!("port {}", question.port), ""));
    let Some(sni) = &question.sni else {
        response.steps.push(step(
            "route",
            "no --sni given: a ClientHello without a name is refused",
            "",
        ));
        return;
    };
    match control.context.router.find(question.port, sni) {
        Ok(live) => {
            let via = format!(
                "{} -> route {} ({})",
                sni.as_str(),
                live.route.id,
                live.route.key.hostname
            );
            response.steps.push(step("route", via, "route"));
            match live.pick(&[]) {
                Some(backend) => {
                    response
                        .steps
                        .push(step("backend", backend.address.to_string(), "route"))
                }
                None => refused(response, "the route has no backend".into()),
            }
            response.route = Some(route_out(&live));
        }
        Err(miss) => {
            response.steps.push(step(
                "route",
                format!("{}: {}", sni.as_str(), miss.reason()),
                "reset",
            ));
            refused(response, miss.reason().to_owned());
        }
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
                "no rule",
                Verdict::Pass,
                Reason::Unguarded,
                rule::NONE,
                Reason::Unguarded.name(),
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
