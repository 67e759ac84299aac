//! How things are shown: times, names in one cell, lines of one thing.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::{human, shown};

/// RFC 3339 to the second, and how far from now; "-" is never.
#[must_use]
pub fn time(at: Option<&Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| seconds(at.seconds))
}

/// The same of a time of this machine.
#[must_use]
pub fn system_time(at: SystemTime) -> String {
    seconds(unix(at))
}

/// RFC 3339 alone.
#[must_use]
pub fn utc(at: SystemTime) -> String {
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
#[must_use]
pub fn names(names: &[String]) -> String {
    text(&names.join(" "))
}

/// "-" for an empty one.
#[must_use]
pub fn text(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

/// "yes" or "no".
#[must_use]
pub fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// One thing, a line for each of its parts.
#[must_use]
pub fn lines(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(name, text)| format!("{name:<width$}  {}\n", shown::line(text)));
    lines.collect()
}
