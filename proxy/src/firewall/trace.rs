//! `explain`: the decision over the kernel's maps, with what each stage found.

use std::{cell::RefCell, net::IpAddr};

use mc_edge_common::{
    decide::{Class, Decision, Limit, Packet, Source, Tables, decide},
    firewall::{Config, HostEntry, PrefixEntry, Reason, action, rule},
};

use super::{
    CountryOf, FirewallError, ktime,
    maps::Maps,
    prefix::{judged, source},
    words,
};

/// A stage and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// host, block, allow, guarded, country, country-policy, rate-connections, rate-packets, observe.
    pub stage: &'static str,
    /// What was found.
    pub detail: String,
    /// The rule that was found; 0 = none.
    pub rule: u32,
}

/// How a decision came about.
#[derive(Clone, Debug)]
pub struct Trace {
    /// In order of evaluation. Stages that could not matter were not evaluated.
    pub steps: Vec<Step>,
    /// The decision.
    pub decision: Decision,
    /// The source's country index; 0 = unknown.
    pub country: u8,
}

struct Explain<'a> {
    maps: &'a Maps,
    config: Config,
    country: u8,
    /// Of a client behind a proxy: whether its port is guarded. The kernel's map does not have those ports.
    behind_proxy: Option<bool>,
    steps: RefCell<Vec<Step>>,
    error: RefCell<Option<FirewallError>>,
}

impl Explain<'_> {
    /// Records a lookup; the first error ends up in the answer.
    fn step<T>(
        &self,
        stage: &'static str,
        result: Result<Option<T>, FirewallError>,
        absent: &str,
        show: impl Fn(&T) -> String,
        rule: impl Fn(&T) -> u32,
    ) -> Option<T> {
        let value = result.unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            None
        });
        self.say(
            stage,
            value.as_ref().map_or_else(|| absent.to_owned(), show),
            value.as_ref().map_or(rule::NONE, rule),
        );
        value
    }

    fn say(&self, stage: &'static str, detail: String, rule: u32) {
        let step = Step {
            stage,
            detail,
            rule,
        };
        self.steps.borrow_mut().push(step);
    }
}

impl Tables for Explain<'_> {
    fn config(&self) -> &Config {
        &self.config
    }
    fn host(&self, source: Source) -> HostEntry {
        let absent = match source {
            Source::V4(_) => "this very address is neither banned nor blocked",
            Source::V6(..) => "its /64 is neither banned nor blocked",
        };
        let host = self.maps.host(source);
        self.step("host", host, absent, words::host, words::host_rule)
            .unwrap_or_default()
    }
    fn blocked(&self, source: Source) -> Option<PrefixEntry> {
        self.step(
            "block",
            self.maps.longest(source, false, &self.config),
            "no blocked network holds it",
            words::prefix,
            |entry| entry.rule,
        )
    }
    fn allowed(&self, source: Source) -> Option<PrefixEntry> {
        self.step(
            "allow",
            self.maps.longest(source, true, &self.config),
            "no allowed network holds it",
            words::prefix,
            |entry| entry.rule,
        )
    }
    fn now(&self) -> u64 {
        ktime()
    }
    fn guarded(&self, port: u32) -> bool {
        let guarded = match self.behind_proxy {
            Some(guarded) => Ok(guarded),
            None => self.maps.guarded(port),
        };
        let show = |guarded: &bool| {
            let judged = if *guarded { "" } else { "do not " };
            format!("country and rate rules {judged}judge port {port} here")
        };
        self.step("guarded", guarded.map(Some), "", show, none)
            .unwrap_or(false)
    }
    fn country(&self, _source: Source) -> u8 {
        self.country
    }
    fn country_action(&self, country: u8) -> u8 {
        let action = self
            .maps
            .countries()
            .map(|policy| Some(policy.actions[usize::from(country)]));
        let show = |a: &u8| {
            format!(
                "{}: {}",
                crate::geoip::countries::code(country),
                words::action_name(*a)
            )
        };
        self.step("country-policy", action, "", show, none)
            .unwrap_or(action::DROP)
    }
    fn conforms(&self, limit: Limit, source: Source) -> bool {
        let connections = limit == Limit::Connections;
        let (stage, rate) = if connections {
            ("rate-connections", self.config.connections)
        } else {
            ("rate-packets", self.config.packets)
        };
        let limit = format!("{} per source", words::limit(&rate));
        if self.behind_proxy.is_some() {
            self.say(
                stage,
                format!(
                    "counted in the daemon for clients behind a proxy; taken as below the limit of {limit}"
                ),
                rule::NONE,
            );
            return true;
        }
        let conforms = |arrival: &u64| rate.conforms(*arrival, ktime()).is_some();
        let arrival = self.step(
            stage,
            self.maps.arrival(connections, source.rate_key()),
            &format!("below the limit of {limit}: nothing from it of late"),
            |a| {
                let side = if conforms(a) { "below" } else { "above" };
                format!("{side} the limit of {limit}")
            },
            none,
        );
        arrival.is_none_or(|a| conforms(&a))
    }
    fn observed(&self, _packet: &Packet, rule: u32, reason: Reason) {
        self.say(
            "observe",
            format!(
                "{} ({}) would have denied it; evaluation goes on",
                words::rule_name(rule),
                reason.name()
            ),
            rule,
        );
    }
    fn judged_country(&self, _country: u8, _denied: bool) {}
}

fn none<T>(_: &T) -> u32 {
    rule::NONE
}

pub(super) fn explain(
    maps: &Maps,
    country: &CountryOf,
    address: IpAddr,
    port: u16,
    behind_proxy: Option<bool>,
) -> Result<Trace, FirewallError> {
    let country = country(judged(address));
    let tables = Explain {
        maps,
        config: maps.config()?,
        country,
        behind_proxy,
        steps: RefCell::default(),
        error: RefCell::default(),
    };
    let packet = Packet {
        source: source(address),
        class: Class::Syn,
        port: u32::from(port),
        length: 0,
    };
    let decision = decide(&tables, &packet);
    match tables.error.into_inner() {
        Some(error) => Err(error),
        None => Ok(Trace {
            steps: tables.steps.into_inner(),
            decision,
            country,
        }),
    }
}
