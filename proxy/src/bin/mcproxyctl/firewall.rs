//! `mcproxyctl firewall`: address rules.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Subcommand, ValueEnum};
use ipnet::IpNet;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Output, write_out},
    human,
};

use crate::{
    Result,
    client::{Client, call, call_add},
    confirm::{Confirmed, caller},
    country, export,
    parse::{self, Action},
    rate, view,
};

/// Sources shown per rule; `--json` has all.
const SHOWN_SAMPLES: usize = 3;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Denies new connections from addresses or networks
    Block(Block),
    /// Removes blocks
    Unblock(Networks),
    /// Lets addresses or networks through, whatever blocks, bans, countries and rates say
    Allow(Allow),
    /// Removes allows
    Disallow(Networks),
    /// Denies every packet of an address for a while, established connections included, unless it is allowed
    Ban(Ban),
    /// Ends bans
    Unban(Banned),
    /// Shows the rules
    #[command(visible_alias = "ls")]
    List {
        /// Only these
        #[arg(long)]
        kind: Option<Kind>,
    },
    /// Writes the address rules to stdout (without country policy and rate limits)
    Export {
        /// [default: toml, or json with --json]
        #[arg(long)]
        format: Option<export::Format>,
        /// Only these
        #[arg(long)]
        kind: Option<Kind>,
    },
    /// Adds the rules of an exported file: all or none. A ban begins anew, with what was left of it at the export
    Import {
        /// TOML or JSON; - is stdin
        file: PathBuf,
        /// Replaces rules that exist, action, time and comment included
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        confirmed: Confirmed,
    },
    /// Which countries may open connections to the listeners
    #[command(subcommand)]
    Country(country::Command),
    /// Limits per source: an IPv4 address or an IPv6 /64
    #[command(subcommand)]
    Rate(rate::Command),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Allow,
    Block,
    Ban,
}

impl Kind {
    fn wire(kind: Option<Self>) -> pb::RuleKind {
        match kind {
            None => pb::RuleKind::Unspecified,
            Some(Self::Allow) => pb::RuleKind::Allow,
            Some(Self::Block) => pb::RuleKind::Block,
            Some(Self::Ban) => pb::RuleKind::Ban,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Networks {
    /// Addresses or networks. No IPv6 network covers IPv4 addresses within IPv6 (NAT64's 64:ff9b::/96, ::ffff:0:0/96): they
    /// go by their IPv4 address
    #[arg(required = true, value_name = "CIDR", value_parser = parse::network)]
    cidrs: Vec<IpNet>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Banned {
    /// IPv4 addresses, or IPv6 addresses (their /64)
    #[arg(required = true, value_name = "ADDRESS", value_parser = parse::banned)]
    addresses: Vec<IpNet>,
}

#[derive(Debug, clap::Args)]
struct Notes {
    /// A note for whoever reads the list
    #[arg(long, default_value = "", hide_default_value = true)]
    comment: String,
    /// Replaces rules that exist, action, time and comment included
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Block {
    #[command(flatten)]
    networks: Networks,
    /// What happens to packets
    #[arg(long, default_value = "drop")]
    action: Action,
    #[command(flatten)]
    notes: Notes,
    #[command(flatten)]
    confirmed: Confirmed,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Allow {
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    notes: Notes,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ban {
    #[command(flatten)]
    banned: Banned,
    /// How long, e.g. 10m or 1h30m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = ttl)]
    ttl: u64,
    /// What happens to packets
    #[arg(long, default_value = "drop")]
    action: Action,
    #[command(flatten)]
    notes: Notes,
    #[command(flatten)]
    confirmed: Confirmed,
}

fn ttl(text: &str) -> std::result::Result<u64, String> {
    parse::seconds(text).map(u64::from)
}

impl Notes {
    fn request(&self, cidrs: &[IpNet], rule: &pb::Rule) -> pb::AddRulesRequest {
        let rules = cidrs.iter().map(|cidr| pb::Rule {
            cidr: cidr.to_string(),
            comment: self.comment.clone(),
            ..rule.clone()
        });
        pb::AddRulesRequest {
            rules: rules.collect(),
            replace: self.replace,
        }
    }
}

impl Command {
    /// The request of a command that adds rules from its arguments.
    pub(crate) fn additions(&self) -> Option<pb::AddRulesRequest> {
        let rule = |kind: pb::RuleKind, action: pb::Action, ttl_s| pb::Rule {
            kind: kind.into(),
            action: action.into(),
            ttl_s,
            ..pb::Rule::default()
        };
        match self {
            Self::Block(b) => {
                let rule = rule(pb::RuleKind::Block, b.action.wire(), 0);
                Some(b.notes.request(&b.networks.cidrs, &rule))
            }
            Self::Allow(a) => {
                let rule = rule(pb::RuleKind::Allow, pb::Action::Unspecified, 0);
                Some(a.notes.request(&a.networks.cidrs, &rule))
            }
            Self::Ban(b) => {
                let rule = rule(pb::RuleKind::Ban, b.action.wire(), b.ttl);
                Some(b.notes.request(&b.banned.addresses, &rule))
            }
            _ => None,
        }
    }

    /// The request of a command that removes rules.
    pub(crate) fn removals(&self) -> Option<pb::RemoveRulesRequest> {
        let (kind, cidrs) = match self {
            Self::Unblock(n) => (pb::RuleKind::Block, &n.cidrs),
            Self::Disallow(n) => (pb::RuleKind::Allow, &n.cidrs),
            Self::Unban(b) => (pb::RuleKind::Ban, &b.addresses),
            _ => return None,
        };
        let rules = cidrs.iter().map(|cidr| pb::Rule {
            kind: kind.into(),
            cidr: cidr.to_string(),
            ..pb::Rule::default()
        });
        Some(pb::RemoveRulesRequest {
            rules: rules.collect(),
        })
    }

    /// Refuses additions that lock out who makes them, unless they are confirmed.
    pub(crate) fn check(&self, rules: &[pb::Rule], caller: Option<IpAddr>) -> Result {
        let confirmed = match self {
            Self::Block(Block { confirmed, .. })
            | Self::Ban(Ban { confirmed, .. })
            | Self::Import { confirmed, .. } => *confirmed,
            _ => Confirmed::default(),
        };
        confirmed.check(rules, caller)
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        if let Some(request) = self.additions() {
            self.check(&request.rules, caller())?;
            return add(client, out, request).await;
        }
        if let Some(request) = self.removals() {
            let answer = call(client.admin().await?.remove_rules(request)).await?;
            let json = serde_json::json!({ "removed": answer.removed });
            return Ok(out.done(&format!("{} removed", rules(answer.removed)), &json)?);
        }
        match self {
            Self::List { kind } => {
                let rules = list(client, *kind).await?;
                let rows = rules.iter().map(row).collect();
                let empty = "no rules";
                out.table(&HEADER, rows, empty, &view::list(&rules, view::rule))?;
            }
            Self::Export { format, kind } => {
                let default = match out.json {
                    true => export::Format::Json,
                    false => export::Format::Toml,
                };
                let rules = list(client, *kind).await?;
                write_out(&export::write(&rules, format.unwrap_or(default))?)?;
            }
            Self::Import { file, replace, .. } => {
                let rules = export::read(file)?;
                self.check(&rules, caller())?;
                let replace = *replace;
                add(client, out, pb::AddRulesRequest { rules, replace }).await?;
            }
            Self::Country(command) => command.run(client, out).await?,
            Self::Rate(command) => command.run(client, out).await?,
            // `additions` or `removals` has taken them.
            _ => {}
        }
        Ok(())
    }
}

fn rules(count: u32) -> String {
    human::count(count.into(), "rule")
}

async fn add(client: &mut Client, out: Output, request: pb::AddRulesRequest) -> Result {
    // What was asked for; the answer's is what is left of it already.
    let ttl = request.rules.first().map_or(0, |r| r.ttl_s);
    let answer = call_add(client.admin().await?.add_rules(request)).await?;
    Ok(out.done(&added(&answer, ttl), &view::list(&answer.rules, view::rule))?)
}

/// What an addition has done; `ttl` is what was asked for.
pub(crate) fn added(answer: &pb::AddRulesResponse, ttl: u64) -> String {
    match answer.rules.as_slice() {
        [rule] => {
            let mut sentence = format!("{} {}", view::kind(rule.kind), rule.cidr);
            if ttl != 0 {
                let ttl = human::duration(Duration::from_secs(ttl));
                sentence.push_str(&format!(" for {ttl}"));
            }
            // What is not the default.
            if let action @ ("reset" | "observe") = view::rule_action(rule) {
                sentence.push_str(&format!(": {action}"));
            }
            sentence.push_str(match (answer.replaced, answer.unchanged) {
                (0, 0) => "",
                (0, _) => " (unchanged)",
                _ => " (replaced what it was)",
            });
            sentence
        }
        all => {
            let all = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let (replaced, unchanged) = (answer.replaced, answer.unchanged);
            let new = all.saturating_sub(replaced + unchanged);
            format!(
                "{} in force: {new} added, {replaced} replaced, {unchanged} unchanged",
                rules(all)
            )
        }
    }
}

async fn list(client: &mut Client, kind: Option<Kind>) -> Result<Vec<pb::Rule>> {
    let kind = Kind::wire(kind).into();
    let request = pb::ListRulesRequest { kind };
    Ok(call(client.admin().await?.list_rules(request)).await?.rules)
}

const HEADER: [&str; 9] = [
    "RULE", "KIND", "ADDRESS", "ACTION", "LEFT", "PACKETS", "BYTES", "SOURCES", "COMMENT",
];

pub(crate) fn row(r: &pb::Rule) -> Vec<String> {
    let left = match r.ttl_s {
        0 => "-".to_owned(),
        s => human::duration_short(Duration::from_secs(s)),
    };
    let mut sources: Vec<&str> = r.samples.iter().map(|s| s.address.as_str()).collect();
    let more = sources.len().saturating_sub(SHOWN_SAMPLES);
    sources.truncate(SHOWN_SAMPLES);
    let sources = match (sources.len(), more) {
        (0, _) => "-".to_owned(),
        (_, 0) => sources.join(" "),
        (_, more) => format!("{} +{more}", sources.join(" ")),
    };
    vec![
        r.id.to_string(),
        view::kind(r.kind).to_owned(),
        r.cidr.clone(),
        view::rule_action(r).to_owned(),
        left,
        r.packets.to_string(),
        human::bytes(r.bytes),
        sources,
        r.comment.clone(),
    ]
}
