//! `mciasctl audit`.

use clap::Subcommand;
use mc_proto::mcias::v1 as pb;
use mcdsl::cli::{
    Output,
    audit::{self, Entry, Page, Verified},
};

use crate::{
    Result,
    client::{Client, call},
    view,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows who did what, the newest first
    #[command(visible_alias = "ls")]
    List(audit::List),
    /// Whether the log is as it was written; fails if it is not
    Verify {
        /// An entry that was noted elsewhere: shows that nothing after it was cut off and written anew
        #[arg(long, value_name = "NUMBER:HASH", value_parser = audit::known)]
        known: Option<(u64, String)>,
    },
}

pub(crate) fn request(list: &audit::List, page: Page) -> pb::ListAuditRequest {
    pb::ListAuditRequest {
        account: list.account.clone(),
        action: list.action.clone(),
        since: list.since,
        until: list.until,
        before: page.before,
        limit: page.limit,
        outcome: list.outcome.clone().unwrap_or_default(),
    }
}

pub(crate) fn row(entry: &pb::AuditEntry) -> Vec<String> {
    let shown = Entry {
        number: entry.number,
        time: entry.time.as_ref(),
        account: &entry.account,
        source: &entry.source,
        action: &entry.action,
        resource: &entry.resource,
        outcome: &entry.outcome,
        detail: &entry.detail,
    };
    audit::row("metacircular.mcias.v1", shown)
}

impl Command {
    pub(crate) async fn run(&self, client: &mut Client, out: Output) -> Result {
        let mut administration = client.administration().await?;
        match self {
            Self::List(list) => {
                let ask = async |page| {
                    let answer = administration.list_audit(request(list, page));
                    Ok(call(answer).await?.entries)
                };
                let all = list.all(ask, |entry| entry.number).await?;
                let value = view::json_list("AuditEntry", &all)?;
                audit::show(all.iter().map(row).collect(), &value, out)
            }
            Self::Verify { known } => {
                let (known_number, known_hash) = known.clone().unwrap_or_default();
                let request = pb::VerifyAuditRequest {
                    known_number,
                    known_hash,
                };
                let answer = call(administration.verify_audit(request)).await?;
                let found = Verified {
                    problem: &answer.problem,
                    rows: answer.rows,
                    head_hash: &answer.head_hash,
                };
                audit::verified(found, &view::json("VerifyAuditResponse", &answer)?, out)
            }
        }
    }
}
