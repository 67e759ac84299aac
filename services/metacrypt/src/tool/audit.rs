//! `metacrypt audit`: the log, as the service answers it, or of a database that no service has.

use std::{
    cmp::Reverse,
    io::{self, IsTerminal as _},
    path::Path,
};

use clap::Subcommand;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    audit as log,
    cli::{
        Exit, Failure, Output,
        audit::{self, Entry, Page, Verified},
        call, chain, prompt,
    },
    db,
};
use rusqlite::Connection;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Client, Result, input::stdin, json, json_list};
use crate::{
    api::audit::{entry, verify, wanted},
    barrier::few,
    start::SERVICE,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows who did what, the newest first; of the HMACs of a batch a few, with --json all
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        list: audit::List,
        /// Reads the database of the configuration instead of asking the service, which may be sealed or not run
        #[arg(long)]
        offline: bool,
    },
    /// Whether the log is as it was written; fails if it is not
    Verify {
        /// An entry that was noted elsewhere: shows that nothing after it was cut off and written anew
        #[arg(long, value_name = "NUMBER:HASH", value_parser = audit::known)]
        known: Option<(u64, String)>,
        /// Reads the database of the configuration instead of asking the service, which may be sealed or not run
        #[arg(long)]
        offline: bool,
    },
    /// Shows the entries of all requests and answers that had a secret, which is asked for or read from stdin, with the newlines at its end and without
    Hash,
}

fn request(list: &audit::List, page: Page) -> pb::ListAuditRequest {
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

fn row(entry: &pb::AuditEntry) -> Vec<String> {
    let shown = Entry {
        number: entry.number,
        time: entry.time.as_ref(),
        account: &entry.account,
        source: &entry.source,
        action: &entry.action,
        resource: &entry.resource,
        outcome: &entry.outcome,
        detail: &few(&entry.detail),
    };
    audit::row(SERVICE.package, shown)
}

fn show(entries: &[pb::AuditEntry], out: Output) -> Result {
    let value = json_list("AuditEntry", entries)?;
    audit::show(entries.iter().map(row).collect(), &value, out)
}

fn known(known: Option<&(u64, String)>) -> pb::VerifyAuditRequest {
    let (known_number, known_hash) = known.cloned().unwrap_or_default();
    pb::VerifyAuditRequest {
        known_number,
        known_hash,
    }
}

fn verified(answer: &pb::VerifyAuditResponse, out: Output) -> Result {
    let found = Verified {
        problem: &answer.problem,
        rows: answer.rows,
        head_hash: &answer.head_hash,
    };
    audit::verified(found, &json("VerifyAuditResponse", answer)?, out)
}

/// What is asked about: what is typed or, from elsewhere, all that there is, as it was given to `transit encrypt`, and without the newlines at its
/// end, as a password was given.
fn secrets() -> Result<Vec<Zeroizing<Vec<u8>>>> {
    if io::stdin().is_terminal() {
        let typed = prompt::secret("Secret")?;
        return Ok(vec![typed.expose_secret().as_bytes().to_vec().into()]);
    }
    let whole = Zeroizing::new(stdin()?);
    let end = whole.iter().rposition(|byte| !b"\r\n".contains(byte));
    let line = Zeroizing::new(whole[..end.map_or(0, |end| end + 1)].to_vec());
    let mut both = vec![whole, line];
    both.dedup();
    both.retain(|input| !input.is_empty());
    match both.is_empty() {
        true => Err(Failure::usage("Secret: nothing was given")
            .hint("it is asked for on a terminal, and read from stdin if that is none")),
        false => Ok(both),
    }
}

impl Command {
    /// Whether no service is asked.
    pub(super) fn is_offline(&self) -> bool {
        match self {
            Self::List { offline, .. } | Self::Verify { offline, .. } => *offline,
            Self::Hash => false,
        }
    }

    /// Does it with a database.
    ///
    /// # Errors
    /// If it cannot be read, or is not as it was written.
    pub(crate) async fn run_offline(&self, database: &Path, out: Output) -> Result {
        let unread = |why: &str| {
            let text = format!("cannot read the audit log in {}: {why}", database.display());
            Failure::usage(text)
        };
        let db: Connection = db::open_as_it_is(database).map_err(|error| unread(&chain(&error)))?;
        match self {
            Self::List { list, .. } => {
                let ask = async |page| {
                    let wanted = wanted(request(list, page));
                    let wanted = wanted.map_err(|error| Failure::usage(error.to_string()))?;
                    let found = log::search(&db, SERVICE.package, wanted);
                    let found = found.map_err(|error| unread(&chain(&error)))?;
                    Ok(found.into_iter().map(entry).collect())
                };
                show(
                    &list.all(ask, |entry: &pb::AuditEntry| entry.number).await?,
                    out,
                )
            }
            Self::Verify { known: noted, .. } => {
                // A trigger may keep rows from being written, which no chain shows.
                let made = db::check(&db, database, SERVICE.migrations);
                made.map_err(|error| Failure::new(Exit::Failure, chain(&error)))?;
                let found = verify(&db, &known(noted.as_ref()));
                verified(&found.map_err(|error| unread(&chain(&error)))?.0, out)
            }
            Self::Hash => Ok(()),
        }
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::List { list, .. } => {
                let mut service = client.audit_log().await?;
                let ask = async |page| {
                    let answer = service.list_audit(request(list, page));
                    Ok(call(answer).await?.entries)
                };
                show(&list.all(ask, |entry| entry.number).await?, out)
            }
            Self::Verify { known: noted, .. } => {
                let mut service = client.audit_log().await?;
                let answer = service.verify_audit(known(noted.as_ref()));
                verified(&call(answer).await?, out)
            }
            Self::Hash => {
                let mut system = client.system().await?;
                let mut entries = Vec::new();
                for input in secrets()? {
                    let mut before = 0;
                    loop {
                        let input = input.to_vec();
                        let request = pb::AuditHashRequest { input, before };
                        let answer = call(system.audit_hash(request)).await?;
                        entries.extend(answer.entries);
                        // One that did not become less would be asked for ever.
                        let further = answer.before != 0 && (before == 0 || answer.before < before);
                        before = answer.before;
                        if !further {
                            break;
                        }
                    }
                }
                entries.sort_by_key(|entry| Reverse(entry.number));
                entries.dedup_by_key(|entry| entry.number);
                show(&entries, out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_row_that_can_be_read_and_whole_in_json() {
        let hmacs = "01234567".repeat(1000);
        let entry = pb::AuditEntry {
            number: 1,
            detail: format!(r#"{{"by":"rule a","hmac":"plaintext={hmacs}","hmac_salt":"00"}}"#),
            ..pb::AuditEntry::default()
        };
        let shown = row(&entry).join(" ");
        let wanted = "plaintext=012345670123456701234567 and 997 more\"";
        assert!(shown.contains(wanted) && shown.len() < 200, "{shown}");
        let whole = json_list("AuditEntry", &[entry]).unwrap().to_string();
        assert!(whole.contains(&hmacs), "{whole}");
    }
}
