//! `mciasctl audit`.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, write_out};
use prost_types::Timestamp;

use crate::{
    Result,
    client::{Client, call},
    parse, view,
};

/// Entries asked for at once.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows who did what, the newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Whether the log is as it was written; fails if it is not
    Verify {
        /// An entry that was noted elsewhere: shows that nothing after it was cut off and written anew
        #[arg(long, value_name = "NUMBER:HASH", value_parser = parse::known)]
        known: Option<(u64, String)>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Of this account, also one that was deleted
    #[arg(long, value_name = "NAME", default_value = "")]
    account: String,
    /// Whose action begins so: a method (Login, Auth/Login) or a page (/login)
    #[arg(long, default_value = "")]
    action: String,
    #[arg(long, value_parser = parse::outcome, help = parse::outcomes_help())]
    outcome: Option<String>,
    /// From then on: a time, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    since: Option<Timestamp>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    until: Option<Timestamp>,
    /// Older than this entry
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    before: u64,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl List {
    pub(crate) fn request(&self, have: u32, before: u64) -> pb::ListAuditRequest {
        pb::ListAuditRequest {
            account: self.account.clone(),
            action: self.action.clone(),
            since: self.since,
            until: self.until,
            before,
            limit: PAGE.min(self.limit - have),
            outcome: self.outcome.clone().unwrap_or_default(),
        }
    }

    async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut administration = client.administration().await?;
        let (mut all, mut before) = (Vec::new(), self.before);
        loop {
            let have = u32::try_from(all.len()).unwrap_or(u32::MAX);
            if have >= self.limit {
                break;
            }
            let page = call(administration.list_audit(self.request(have, before))).await?;
            let Some(last) = page.entries.last() else {
                break;
            };
            // Number 1 is the first there is. One that does not become less would be asked for ever.
            let done = last.number <= 1 || (before != 0 && last.number >= before);
            before = last.number;
            all.extend(page.entries);
            if done {
                break;
            }
        }
        out.table(
            &[
                "NUMBER", "TIME", "ACCOUNT", "FROM", "ACTION", "ON", "OUTCOME", "DETAIL",
            ],
            all.iter().map(row).collect(),
            "no entries",
            &view::json_list("AuditEntry", &all)?,
        )?;
        Ok(())
    }
}

pub(crate) fn row(entry: &pb::AuditEntry) -> Vec<String> {
    let detail = match entry.detail.as_str() {
        "{}" => "-".to_owned(),
        detail => view::text(detail),
    };
    let method = entry.action.strip_prefix("/metacircular.mcias.v1.");
    vec![
        entry.number.to_string(),
        entry.time.as_ref().map_or_else(
            || "-".to_owned(),
            |at| mcdsl::human::utc(at.seconds.saturating_mul(1000)),
        ),
        view::text(&entry.account),
        view::text(&entry.source),
        method.unwrap_or(&entry.action).to_owned(),
        view::text(&entry.resource),
        mcdsl::audit::in_a_word(&entry.outcome).to_owned(),
        detail,
    ]
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        match self {
            Self::List(list) => list.run(client, out).await,
            Self::Verify { known } => {
                let (known_number, known_hash) = known.clone().unwrap_or_default();
                let request = pb::VerifyAuditRequest {
                    known_number,
                    known_hash,
                };
                let answer = call(client.administration().await?.verify_audit(request)).await?;
                verified(&answer, out)
            }
        }
    }
}

/// A log that is not as it was is a failure, also to scripts that look at nothing else.
fn verified(answer: &pb::VerifyAuditResponse, out: Output) -> Result {
    if !answer.intact {
        if out.json {
            out.json(&view::json("VerifyAuditResponse", answer)?)?;
        }
        let what = format!("the audit log is not as it was written: {}", answer.problem);
        return Err(Failure::new(Exit::Failure, what)
            .hint("keep the database as it is, and compare it with a snapshot"));
    }
    if out.json {
        return Ok(out.json(&view::json("VerifyAuditResponse", answer)?)?);
    }
    let rows = mcdsl::human::count(answer.rows, "row");
    let head = format!("{}:{}", answer.head_number, answer.head_hash);
    Ok(write_out(&format!(
        "{rows}, all as they were written\nto be noted elsewhere, for --known: {head}\n"
    ))?)
}
