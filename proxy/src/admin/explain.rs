//! `explain`: what would happen to a new connection, asked of the same code and kernel maps that decide it.
//!
//! The connection's source passes XDP; then its listener takes it, and where that asks for a PROXY header, the client that
//! this names is judged in turn; then its source's share of the connections; then the route, or the redirect to https.

mod onward;

use std::net::IpAddr;

use mc_edge_common::{
    decide::Decision,
    firewall::{Reason, Verdict, rule},
};
use mc_proto::mcproxy::v1 as pb;
use tonic::Status;

use super::convert::invalid;
use crate::{
    control::{Control, ControlError},
    firewall::{Trace, rule_name},
    geoip::countries,
    hostname::Hostname,
    kernel::LinkMode,
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
        // It has the name of the reason.
        (id, _) if rule::name(id).is_some() => ", a built-in rule".to_owned(),
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
    let (unfiltered, filtered): (Vec<_>, Vec<_>) = control
        .interfaces()?
        .into_iter()
        .partition(|link| link.mode == LinkMode::Detached);
    answer.0.unfiltered = unfiltered.into_iter().map(|link| link.interface).collect();
    let passes = match filtered.is_empty() {
        true => answer.judge_in_vain(trace),
        false => answer.judge(trace),
    };
    if passes
        && let Some(listener) = answer.listener(control, question)
        && answer.proxy(control, question, &listener)?
        && answer.share(control, question.address)
    {
        match listener.listener.redirect {
            Some(to) => answer.redirect(control, question, to),
            None => answer.route(control, question),
        }
    }
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

    /// What the firewall found.
    fn found(&mut self, trace: &Trace) {
        for s in &trace.steps {
            self.0.steps.push(pb::ExplainStep {
                rule_id: s.rule,
                ..step(s.stage, &s.detail, "")
            });
        }
        self.0.country = countries::code(trace.country).to_string();
    }

    /// The firewall's stages where it is on no interface: its rules hold for nobody.
    fn judge_in_vain(&mut self, trace: Trace) -> bool {
        self.found(&trace);
        let decision = &trace.decision;
        let would = verdict(decision);
        let detail = format!(
            "the firewall is on no interface; its rules would say {}: {}",
            would.outcome, would.detail
        );
        let pass = Verdict::Pass.name();
        self.0.steps.push(pb::ExplainStep {
            detail,
            outcome: pass.to_owned(),
            ..would
        });
        decision
            .verdict
            .name()
            .clone_into(&mut self.0.rules_verdict);
        decision.reason.name().clone_into(&mut self.0.rules_reason);
        pass.clone_into(&mut self.0.verdict);
        "unfiltered".clone_into(&mut self.0.reason);
        true
    }

    /// The firewall's stages.
    fn judge(&mut self, trace: Trace) -> bool {
        self.found(&trace);
        let decision = &trace.decision;
        self.0.steps.push(verdict(decision));
        decision.verdict.name().clone_into(&mut self.0.verdict);
        decision.reason.name().clone_into(&mut self.0.reason);
        decision.verdict == Verdict::Pass
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
                "country, a built-in rule",
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
