//! How things are shown: times, names of enums, lines of one thing; JSON as REST has it.

use std::time::{SystemTime, UNIX_EPOCH};

use mc_proto::mcias::v1 as pb;
use mcdsl::{cli::message_json, human};
use prost_types::Timestamp;
use serde_json::Value;

use crate::Result;

/// A message of MCIAS's definition, by its short name.
pub(crate) fn json(name: &str, message: &impl prost::Message) -> Result<Value> {
    message_json(&format!("metacircular.mcias.v1.{name}"), message)
}

/// Many of them.
pub(crate) fn json_list<M: prost::Message>(name: &str, messages: &[M]) -> Result<Value> {
    messages.iter().map(|message| json(name, message)).collect()
}

/// RFC 3339 to the second, and how far from now; "-" is never.
pub(crate) fn time(at: Option<&Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| seconds(at.seconds))
}

pub(crate) fn system_time(at: SystemTime) -> String {
    seconds(unix(at))
}

/// RFC 3339 alone.
pub(crate) fn utc(at: SystemTime) -> String {
    human::utc(unix(at).saturating_mul(1000))
}

fn unix(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn seconds(unix_s: i64) -> String {
    let utc = human::utc(unix_s.saturating_mul(1000));
    format!("{utc} ({})", human::when(unix_s))
}

/// Names in one cell.
pub(crate) fn names(names: &[String]) -> String {
    text(&names.join(" "))
}

/// "-" for an empty one.
pub(crate) fn text(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

pub(crate) fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

pub(crate) fn account_type(account_type: pb::AccountType) -> &'static str {
    match account_type {
        pb::AccountType::Human => "human",
        pb::AccountType::System => "system",
        pb::AccountType::Unspecified => "unknown",
    }
}

pub(crate) fn status(status: pb::AccountStatus) -> &'static str {
    match status {
        pb::AccountStatus::Active => "active",
        pb::AccountStatus::Disabled => "disabled",
        pb::AccountStatus::Locked => "locked",
        pb::AccountStatus::Unspecified => "unknown",
    }
}

/// How many logins ended by what was done, after the sentence that says so.
pub(crate) fn ended(logins: u64) -> String {
    match logins {
        0 => String::new(),
        some => format!("; it ended {}", human::count(some, "login")),
    }
}

/// One thing, a line for each of its parts.
pub(crate) fn lines(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(name, text)| format!("{name:<width$}  {text}\n"));
    lines.collect()
}
