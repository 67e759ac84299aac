//! Arguments that are more than text. Errors say what would be right.

use std::path::PathBuf;

pub(crate) use mcdsl::cli::audit::moment;
use mcias::name::{AccountName, Role, Tag};

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
