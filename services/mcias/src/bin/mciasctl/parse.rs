//! Arguments that are more than text. Errors say what would be right.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use mcdsl::{
    audit::{self, Word},
    human::parse_duration,
};
use mcias::name::{AccountName, Role, Tag};
use prost_types::Timestamp;

type Parsed<T> = Result<T, String>;

/// The longest time that a token of a system account is asked for, days: ten years.
const MAX_DAYS: u32 = 3650;

pub(crate) fn account(text: &str) -> Parsed<String> {
    let name: Result<AccountName, _> = text.parse();
    name.map(|n| n.to_string()).map_err(|e| e.to_string())
}

pub(crate) fn role(text: &str) -> Parsed<String> {
    let role: Result<Role, _> = text.parse();
    role.map(|r| r.as_str().to_owned())
        .map_err(|e| e.to_string())
}

pub(crate) fn tag(text: &str) -> Parsed<String> {
    let tag: Result<Tag, _> = text.parse();
    tag.map(|t| t.as_str().to_owned())
        .map_err(|e| e.to_string())
}

pub(crate) fn days(text: &str) -> Parsed<u32> {
    match text.parse() {
        Ok(days) if (1..=MAX_DAYS).contains(&days) => Ok(days),
        _ => Err(format!("write a number of days, 1 to {MAX_DAYS}")),
    }
}

/// A time, or how long ago it is.
pub(crate) fn moment(text: &str) -> Parsed<Timestamp> {
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

/// A network, or an address in it.
pub(crate) fn source(text: &str) -> Parsed<String> {
    mcdsl::cidr::parse(text).map(|_| text.to_owned())
}

/// A file for a secret.
pub(crate) fn secret_file(text: &str) -> Parsed<PathBuf> {
    match text {
        "" => Err("write a file's name".to_owned()),
        "-" => Err("`-` is no file: leave --to out to have it on stdout".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// How an entry of the audit log ended: a word, or a code as the log writes it.
pub(crate) fn outcome(text: &str) -> Parsed<String> {
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
pub(crate) fn outcomes_help() -> String {
    let words = audit::WORDS.map(|Word { word, means }| format!("{word} ({means})"));
    format!(
        "Ended so: {}; or a code of gRPC, like not_found, as --json has them",
        words.join(", ")
    )
}

/// `NUMBER:HASH` of an entry of the audit log.
pub(crate) fn known(text: &str) -> Parsed<(u64, String)> {
    let syntax = "write the number and the hash that `audit verify` showed, like 1234:9f86d0…";
    let (number, hash) = text.split_once(':').ok_or(syntax)?;
    let number = number.parse().map_err(|_| syntax)?;
    let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    match hex {
        true => Ok((number, hash.to_ascii_lowercase())),
        false => Err(syntax.to_owned()),
    }
}

/// Where browsers are sent back to; compared byte for byte (but for a port of this machine), so that it is taken as it is.
pub(crate) fn redirect_uri(text: &str) -> Parsed<String> {
    let uri: Result<tonic::transport::Uri, _> = text.parse();
    let is_uri = uri.is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
    match is_uri && !text.contains('#') {
        true => Ok(text.to_owned()),
        false => Err(
            "write a whole URI without a fragment, like https://app.example/callback".to_owned(),
        ),
    }
}
