//! The log as people ask for it, in the API of every service and without it.

use std::{cmp::Reverse, time::SystemTime};

use mc_proto::METHODS;
use rusqlite::Connection;
use tonic::Code;

use super::{Filter, Hash, Head, Record, VerifyError, WORDS, meant, query, verify};

/// What of a log is looked for; all that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// By id, or by name: then also of others that had it before; empty: all.
    pub account: String,
    /// The action begins so, as people write it ([`search`]); empty: all.
    pub action: String,
    /// One of these; none: whichever.
    pub outcomes: Vec<Code>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
    /// Before this number; 0: from the newest.
    pub before: u64,
    /// Rows.
    pub limit: usize,
}

/// What was found of a log.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The first row that is not as it was, and what is wrong.
    pub problem: Option<String>,
    /// Only what was noted elsewhere says so ([`super::Tampering::is_by_what_was_noted`]).
    pub by_what_was_noted: bool,
    /// To be noted elsewhere: the last row that was looked at, if all are as they were.
    pub head: Option<Head>,
}

/// An action of a service whose methods are of `package`, as people read it: `Auth/Login` of a method, of what else there is the whole.
#[must_use]
pub fn short<'a>(package: &str, action: &'a str) -> &'a str {
    let method = |action: &'a str| {
        let rest = action.strip_prefix('/')?.strip_prefix(package)?;
        rest.strip_prefix('.')
    };
    method(action).unwrap_or(action)
}

/// What actions begin with that somebody means by `Login`, `Auth`, `Auth/Login`, a path (of a method or a page) or another action's
/// beginning: a method with its service or without, and the page of that name, in whichever case.
fn actions(package: &str, meant: &str) -> Vec<String> {
    if meant.is_empty() {
        return Vec::new();
    }
    let small = meant.to_ascii_lowercase();
    if meant.starts_with('/') {
        return vec![meant.to_owned(), small];
    }
    let ours = format!("/{package}.");
    // Also methods that this version has no more.
    let mut all = vec![meant.to_owned(), format!("{ours}{meant}"), small.clone()];
    let begins = |text: &str| text.to_ascii_lowercase().starts_with(&small);
    let methods = METHODS.iter().map(|method| method.path);
    let named = methods.filter(|path| {
        path.strip_prefix(&*ours).is_some_and(|rest| {
            let alone = rest.split_once('/').map(|(_, name)| name);
            begins(rest) || alone.is_some_and(begins)
        })
    });
    all.extend(named.map(str::to_owned));
    if !meant.contains('/') {
        all.push(format!("/{small}"));
    }
    all
}

/// Rows of the log of a service whose methods are of `package`, the newest first. An action is written as `Login`, `Auth`, `Auth/Login`, the path of
/// a method or a page, or another action's beginning.
///
/// # Errors
/// SQLite's.
pub fn search(db: &Connection, package: &str, wanted: Wanted) -> rusqlite::Result<Vec<Record>> {
    let all = Filter {
        actions: actions(package, &wanted.action),
        outcomes: wanted.outcomes,
        since: wanted.since,
        until: wanted.until,
        before_seq: Some(wanted.before).filter(|before| *before > 0),
        limit: Some(wanted.limit),
        ..Filter::default()
    };
    if wanted.account.is_empty() {
        return query(db, &all);
    }
    let whose = Some(wanted.account);
    let mut records = Vec::new();
    for filter in [
        Filter {
            account: whose.clone(),
            ..all.clone()
        },
        // Accounts keep their names, and one may have that of one that is gone.
        Filter {
            name: whose.clone(),
            ..all.clone()
        },
        // Whose login failed is nobody; it was at that account.
        Filter {
            anonymous_on: whose,
            ..all
        },
    ] {
        records.extend(query(db, &filter)?);
    }
    records.sort_by_key(|record| Reverse(record.seq));
    records.dedup_by_key(|record| record.seq);
    records.truncate(wanted.limit);
    Ok(records)
}

/// Outcomes by a word or as the log writes them, in whichever case; nothing: all.
///
/// # Errors
/// What could be written instead.
pub fn outcomes_of(text: &str) -> Result<Vec<Code>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    meant(text).ok_or_else(|| {
        let words = WORDS.map(|word| word.word).join(", ");
        format!("it is none; write {words}, or a code of gRPC, like NOT_FOUND")
    })
}

/// A row that was noted elsewhere, by its number and its hash; 0 and nothing: none.
///
/// # Errors
/// What a hash is.
pub fn known(number: u64, hash: &str) -> Result<Option<Head>, &'static str> {
    if (number, hash) == (0, "") {
        return Ok(None);
    }
    let hash = unhex(hash).ok_or("it is not 64 hexadecimal digits beside a known_number")?;
    Ok(Some(Head { seq: number, hash }))
}

/// Whether the log is as it was written.
///
/// # Errors
/// If it cannot be read.
pub fn examine(db: &Connection, known: Option<Head>) -> Result<Checked, VerifyError> {
    match verify(db, known) {
        Ok(verified) => Ok(Checked {
            problem: None,
            by_what_was_noted: false,
            head: verified.head,
        }),
        Err(VerifyError::Tampered(tampering)) => Ok(Checked {
            problem: Some(tampering.to_string()),
            by_what_was_noted: tampering.is_by_what_was_noted(),
            head: None,
        }),
        Err(error) => Err(error),
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MCIAS: &str = "metacircular.mcias.v1";

    #[test]
    fn an_action_is_named_as_people_read_it() {
        let login = "/metacircular.mcias.v1.Auth/Login";
        let create = "/metacircular.mcias.v1.Accounts/CreateAccount";
        for (description, meant, action, found) in [
            ("a method", "Login", login, true),
            ("with its service", "Auth/Login", login, true),
            ("whole", login, login, true),
            ("a service", "Auth", login, true),
            ("a beginning", "Create", create, true),
            ("in small letters", "login", login, true),
            ("a service in small letters", "auth", login, true),
            ("and with a slash", "auth/", login, true),
            ("both in small letters", "auth/login", login, true),
            ("both in capitals", "AUTH/LOGIN", login, true),
            ("a page in capitals", "/LOGIN", "/login", true),
            ("an event in capitals", "Audit.", "audit.suppressed", true),
            ("the page of that name", "Login", "/login", true),
            ("a page", "/factors/totp", "/factors/totp/confirm", true),
            ("an event", "audit.", "audit.suppressed", true),
            ("another method", "Logout", login, false),
            ("another service's", "Accounts/Login", login, false),
            ("that in small letters", "accounts/login", login, false),
            ("everything of a slash", "/login", login, false),
        ] {
            let begins = actions(MCIAS, meant)
                .iter()
                .any(|prefix| action.starts_with(prefix));
            assert_eq!(begins, found, "{description}");
        }
        assert!(actions(MCIAS, "").is_empty(), "all");
        for (action, read) in [
            (login, "Auth/Login"),
            ("/login", "/login"),
            ("audit.suppressed", "audit.suppressed"),
        ] {
            assert_eq!(short(MCIAS, action), read);
        }
    }
}
