//! `audit list` and `audit verify`, of every service's tool.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use serde_json::Value;

use super::{Exit, Failure, Output, view, write_out};
use crate::{
    audit::{self, Word},
    human::{self, parse_duration},
    shown,
};

type Parsed<T> = Result<T, String>;

/// Entries asked for at once.
const PAGE: u32 = 500;
/// What entries are shown by.
const HEADS: [&str; 8] = [
    "NUMBER", "TIME", "ACCOUNT", "FROM", "ACTION", "ON", "OUTCOME", "DETAIL",
];

/// Which entries.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct List {
    /// Of this account, also one that was deleted
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub account: String,
    /// Whose action begins so: a service, a method with its service or without, or a page (/login); in small letters too
    #[arg(long, default_value = "", hide_default_value = true)]
    pub action: String,
    #[allow(missing_docs, reason = "clap would take it for the help")]
    #[arg(long, value_parser = outcome, help = outcomes_help())]
    pub outcome: Option<String>,
    /// From then on: a time, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Older than this entry
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub before: u64,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// A page of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Older than this entry; 0: from the newest.
    pub before: u64,
    /// So many.
    pub limit: u32,
}

impl List {
    /// That is asked for next, where there are so many already.
    #[must_use]
    pub fn page(&self, have: u32, before: u64) -> Page {
        Page {
            before,
            limit: PAGE.min(self.limit.saturating_sub(have)),
        }
    }

    /// All entries, page by page; `number` is that of one.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn all<T>(
        &self,
        mut ask: impl AsyncFnMut(Page) -> Result<Vec<T>, Failure>,
        number: impl Fn(&T) -> u64,
    ) -> Result<Vec<T>, Failure> {
        let (mut all, mut before) = (Vec::new(), self.before);
        loop {
            let have = u32::try_from(all.len()).unwrap_or(u32::MAX);
            if have >= self.limit {
                if before > 1 {
                    eprintln!(
                        "the newest {have} of these are shown; --limit {}, or --before {before} for those before",
                        have.saturating_mul(2)
                    );
                }
                return Ok(all);
            }
            let entries = ask(self.page(have, before)).await?;
            let Some(last) = entries.last().map(&number) else {
                return Ok(all);
            };
            // Number 1 is the first there is. One that does not become less would be asked for ever.
            let done = last <= 1 || (before != 0 && last >= before);
            before = last;
            all.extend(entries);
            if done {
                return Ok(all);
            }
        }
    }
}

/// An entry as it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u64,
    /// When.
    pub time: Option<&'a Timestamp>,
    /// Who, by the name of then.
    pub account: &'a str,
    /// From where.
    pub source: &'a str,
    /// What.
    pub action: &'a str,
    /// On what.
    pub resource: &'a str,
    /// `OK` or gRPC's code.
    pub outcome: &'a str,
    /// A JSON object.
    pub detail: &'a str,
}

/// A row of the table; methods of `package` are without it.
#[must_use]
pub fn row(package: &str, entry: Entry<'_>) -> Vec<String> {
    let detail = match entry.detail {
        "{}" => "-".to_owned(),
        detail => view::text(detail),
    };
    let said = |text: &str| view::text(&shown::escaped(text));
    vec![
        entry.number.to_string(),
        entry.time.map_or_else(
            || "-".to_owned(),
            |at| human::utc(at.seconds.saturating_mul(1000)),
        ),
        said(entry.account),
        said(entry.source),
        audit::short(package, entry.action).to_owned(),
        said(entry.resource),
        audit::in_a_word(entry.outcome).to_owned(),
        detail,
    ]
}

/// Shows rows; `value` is what they are in JSON.
///
/// # Errors
/// If they cannot be written.
pub fn show(rows: Vec<Vec<String>>, value: &Value, out: Output) -> Result<(), Failure> {
    Ok(out.table(&HEADS, rows, "no entries", value)?)
}

/// What came of verifying a log.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    /// What is wrong; empty: nothing.
    pub problem: &'a str,
    /// How many rows there are.
    pub rows: u64,
    /// Of the last one.
    pub head_hash: &'a str,
}

/// Shows it. A log that is not as it was is a failure, also to scripts that look at nothing else.
///
/// # Errors
/// That.
pub fn verified(answer: Verified<'_>, value: &Value, out: Output) -> Result<(), Failure> {
    if out.json {
        out.json(value)?;
    }
    if !answer.problem.is_empty() {
        let what = format!("the audit log is not as it was written: {}", answer.problem);
        return Err(Failure::new(Exit::Failure, what)
            .hint("keep the database as it is, and compare it with a snapshot"));
    }
    if out.json {
        return Ok(());
    }
    let rows = human::count(answer.rows, "row");
    let head = format!("{}:{}", answer.rows, answer.head_hash);
    Ok(write_out(&format!(
        "{rows}, all as they were written\nto be noted elsewhere, for --known: {head}\n"
    ))?)
}

/// A time, or how long ago it is.
///
/// # Errors
/// What could be written.
pub fn moment(text: &str) -> Parsed<Timestamp> {
    if let Ok(ago) = parse_duration(text) {
        return ago_from(SystemTime::now(), ago);
    }
    text.parse().map_err(|_| {
        "write a time like 2026-01-31T12:00:00Z, or how long ago it is, like 2h or 7d".to_owned()
    })
}

fn ago_from(now: SystemTime, ago: Duration) -> Parsed<Timestamp> {
    let at = now
        .checked_sub(ago)
        .filter(|at| *at >= SystemTime::UNIX_EPOCH);
    at.map(Timestamp::from)
        .ok_or_else(|| "is too long ago".to_owned())
}

/// How an entry ended: a word, or a code as the log writes it.
///
/// # Errors
/// What could be written.
pub fn outcome(text: &str) -> Parsed<String> {
    match audit::meant(text) {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => {
            let words = audit::WORDS.map(|word| word.word).join(", ");
            Err(format!(
                "write {words}, or a code of gRPC like failed_precondition"
            ))
        }
    }
}

/// The words of [`outcome`], for `--help`.
#[must_use]
pub fn outcomes_help() -> String {
    let words = audit::WORDS.map(|Word { word, means }| format!("{word} ({means})"));
    format!(
        "Ended so: {}; or a code of gRPC, like not_found, as --json has them",
        words.join(", ")
    )
}

/// `NUMBER:HASH` of an entry.
///
/// # Errors
/// What it is.
pub fn known(text: &str) -> Parsed<(u64, String)> {
    let syntax = "write the number and the hash that `audit verify` showed, like 1234:9f86d0…";
    let (number, hash) = text.split_once(':').ok_or(syntax)?;
    let number = number.parse().map_err(|_| syntax)?;
    let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    match hex {
        true => Ok((number, hash.to_ascii_lowercase())),
        false => Err(syntax.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_into_the_terminal_of_who_reads_the_log() {
        let cells = row(
            "x.v1",
            Entry {
                number: 1,
                time: None,
                account: "a\u{202e}b",
                source: "",
                action: "/x.v1.System/CanI",
                resource: "x\n2 root System/DeleteMount\u{1b}[2J",
                outcome: "OK",
                detail: "{\"by\":\"a\u{9b}2J\"}",
            },
        );
        let text = crate::cli::render_unwrapped(&HEADS, vec![cells]).replace('\n', " ");
        assert!(text.chars().all(shown::is_seen), "{text:?}");
        assert!(
            text.contains(r"x\u{a}2 root System/DeleteMount\u{1b}[2J"),
            "{text}"
        );
    }
}
