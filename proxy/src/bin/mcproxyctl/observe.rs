//! `explain`, `maps`, `audit`, `upgrade` and `detach`.

use std::net::IpAddr;

use clap::Subcommand;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::{
    cli::{Exit, Failure, Output, write_out},
    human,
};
use serde_json::json;

use crate::{
    Result,
    client::{Client, call},
    parse, route, view,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The client's address
    #[arg(value_parser = parse::address)]
    address: IpAddr,
    /// The name that the client asks for
    #[arg(long, value_name = "NAME", value_parser = parse::hostname)]
    sni: Option<String>,
    /// The port that it connects to
    #[arg(long, default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The proxy that names the client in its PROXY header [default: the client connects itself]
    #[arg(long, value_name = "PROXY", value_parser = parse::address)]
    via: Option<IpAddr>,
}

impl Explain {
    pub(crate) fn request(&self) -> pb::ExplainRequest {
        pb::ExplainRequest {
            address: self.address.to_string(),
            sni: self.sni.clone().unwrap_or_default(),
            port: self.port.into(),
            via: self.via.map(|v| v.to_string()).unwrap_or_default(),
        }
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let answer = call(client.admin().await?.explain(self.request())).await?;
        if out.json {
            return Ok(out.json(&view::explanation(&answer))?);
        }
        let rows = answer.steps.iter().map(|s| {
            let outcome = view::text(&s.outcome).unwrap_or("-");
            let rule = match (s.rule_id, s.rule.as_str()) {
                (0, _) => "-".to_owned(),
                (id, "") => id.to_string(),
                (_, built_in) => built_in.to_owned(),
            };
            vec![s.stage.clone(), outcome.to_owned(), rule, s.detail.clone()]
        });
        let none = "the daemon gave no steps";
        out.table(
            &["STAGE", "OUTCOME", "RULE", "DETAIL"],
            rows.collect(),
            none,
            &(),
        )?;
        write_out(&verdict(&answer))?;
        write_out(&unjudged(&answer.unfiltered))?;
        answer
            .route
            .as_ref()
            .map_or(Ok(()), |r| route::show(r, out))
    }
}

fn verdict(e: &pb::ExplainResponse) -> String {
    let reason = view::text(&e.reason).map(|r| format!(" ({r})"));
    let country = match e.country.as_str() {
        "" => String::new(),
        "??" => ", country unknown".to_owned(),
        country => format!(", country {country}"),
    };
    let mut text = format!(
        "\nverdict: {}{}{country}\n",
        e.verdict,
        reason.unwrap_or_default(),
    );
    if e.http_status != 0 {
        let to = view::text(&e.location).map(|to| format!(" to {to}"));
        text += &format!("answer: {}{}\n", e.http_status, to.unwrap_or_default());
    }
    if !e.rules_verdict.is_empty() {
        text += &format!(
            "the rules, which are not in force, would say: {} ({})\n",
            e.rules_verdict, e.rules_reason
        );
    }
    text
}

/// An explanation is of the rules; where the firewall is not attached, only listeners and routes hold.
pub(crate) fn unjudged(unfiltered: &[String]) -> String {
    match unfiltered {
        [] => String::new(),
        names => format!(
            "the firewall is not attached to {}: what comes in there goes on to the listener at once\n",
            names.join(", ")
        ),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    /// Also if the certificate of a route that is served is no longer in its file, or not good any more: the route is then not served
    #[arg(long)]
    force: bool,
}

impl Upgrade {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let request = pb::UpgradeRequest { force: self.force };
        let new = call(client.admin().await?.upgrade(request)).await?;
        let json = json!({
            "version": new.version,
            "pid": new.pid,
            "old_version": new.old_version,
            "old_pid": new.old_pid,
            "draining": new.draining,
            "predecessors": view::list(&new.predecessors, view::predecessor),
        });
        out.done(&upgraded(&new), &json)?;
        Ok(())
    }
}

/// That a daemon has taken over, and what those before it still hold.
pub(crate) fn upgraded(new: &pb::UpgradeResponse) -> String {
    let mut sentence = format!(
        "mc-proxy {}, pid {}, serves; {}, pid {}, drains",
        new.version, new.pid, new.old_version, new.old_pid
    );
    for (i, daemon) in new.predecessors.iter().rev().enumerate() {
        let of = match i {
            0 => String::new(),
            _ => format!("; pid {} still drains", daemon.pid),
        };
        let what = daemon
            .connections
            .map(|n| format!(" {}", human::count(n, "connection")));
        sentence += &(of + what.unwrap_or_default().as_str());
    }
    sentence
}

#[derive(Debug, Subcommand)]
pub(crate) enum Maps {
    /// Prints what the kernel holds, as the kernel holds it
    Dump {
        /// One map [default: all that hold rules and routes]
        map: Option<String>,
    },
    /// Compares the kernel's maps with the database; exits with 1 if they differ
    Verify {
        /// Rewrites the maps from the database
        #[arg(long)]
        repair: bool,
    },
}

impl Maps {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let admin = client.admin().await?;
        match self {
            Self::Dump { map } => {
                let map = map.clone().unwrap_or_default();
                let entries = call(admin.dump_map(pb::DumpMapRequest { map }))
                    .await?
                    .entries;
                let rows = entries.iter();
                let rows = rows.map(|e| vec![e.map.clone(), e.key.clone(), e.value.clone()]);
                let json = view::list(
                    &entries,
                    |e| json!({ "map": e.map, "key": e.key, "value": e.value }),
                );
                out.table(
                    &["MAP", "KEY", "VALUE"],
                    rows.collect(),
                    "no entries",
                    &json,
                )?;
                Ok(())
            }
            Self::Verify { repair } => {
                let request = pb::VerifyMapsRequest { repair: *repair };
                let answer = call(admin.verify_maps(request)).await?;
                verified(&answer, out)
            }
        }
    }
}

fn verified(answer: &pb::VerifyMapsResponse, out: Output) -> Result {
    let differences = &answer.differences;
    let rows = differences.iter().map(|d| {
        vec![
            d.map.clone(),
            d.key.clone(),
            d.kind.clone(),
            d.detail.clone(),
        ]
    });
    let json = json!({
        "checked": answer.checked,
        "repaired": answer.repaired,
        "differences": view::list(differences, |d| json!({
            "map": d.map, "key": d.key, "kind": d.kind, "detail": d.detail,
        })),
    });
    let same = format!("{} entries checked, no difference", answer.checked);
    out.table(
        &["MAP", "KEY", "DIFFERENCE", "DETAIL"],
        rows.collect(),
        &same,
        &json,
    )?;
    let count = human::count(differences.len() as u64, "difference");
    if answer.repaired && !differences.is_empty() && !out.json {
        return Ok(write_out(&format!(
            "{count} repaired: the maps hold what the database does\n"
        ))?);
    }
    if differences.is_empty() || answer.repaired {
        return Ok(());
    }
    let what = format!("{count} between the kernel and the database");
    Err(Failure::new(Exit::Failure, what)
        .hint("`mcproxyctl maps verify --repair` rewrites the maps"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// How many, the newest first
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
}

impl Audit {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let request = pb::ListAuditRequest { limit: self.last };
        let entries = call(client.admin().await?.list_audit(request))
            .await?
            .entries;
        let rows = entries.iter().map(audit_row).collect();
        let json = view::list(&entries, view::audit);
        out.table(
            &["WHEN", "WHO", "ACTION", "RESULT", "DETAIL"],
            rows,
            "nothing yet",
            &json,
        )?;
        Ok(())
    }
}

pub(crate) fn audit_row(e: &pb::AuditEntry) -> Vec<String> {
    let who = match (e.uid, e.pid) {
        (Some(uid), Some(pid)) => format!("uid {uid} pid {pid}, {}", e.source),
        (Some(uid), None) => format!("uid {uid}, {}", e.source),
        (None, _) => e.source.clone(),
    };
    vec![
        human::utc(e.at_unix_ms),
        who,
        e.action.clone(),
        e.result.clone(),
        e.detail.clone(),
    ]
}

#[derive(Debug, clap::Args)]
pub(crate) struct Detach {
    /// Confirms that the node shall be unfiltered
    #[arg(long)]
    yes: bool,
}

impl Detach {
    pub(crate) fn confirmed(&self) -> Result {
        if self.yes {
            return Ok(());
        }
        Err(Failure::usage(
            "this leaves the node unfiltered: no block, ban, country or rate rule holds",
        )
        .hint(
            "to do it: `mcproxyctl detach --yes`; a reload (SIGHUP) or a restart attaches again, an upgrade does not",
        ))
    }

    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        self.confirmed()?;
        let answer = call(client.admin().await?.detach(pb::DetachRequest {})).await?;
        let sentence = match answer.interfaces.as_slice() {
            [] => "the firewall was not attached".to_owned(),
            names => format!(
                "detached from {}; the node is unfiltered until a reload (SIGHUP) or a restart of the daemon",
                names.join(", ")
            ),
        };
        out.done(&sentence, &json!({ "interfaces": answer.interfaces }))?;
        Ok(())
    }
}
