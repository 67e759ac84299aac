//! The audit log, as administrators read it.

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use mc_proto::METHODS;
use mcdsl::audit::{self, Filter, Head, Record};
use rusqlite::Connection;

use crate::{core::Mcias, error::Error};

/// What of the log is looked for; all that is said must hold.
#[derive(Default)]
pub(crate) struct Wanted {
    /// By id, or by name: then also of others that had it before; empty: all.
    pub(crate) account: String,
    /// The action begins so, [as people write it](actions); empty: all.
    pub(crate) action: String,
    /// One of these; none: whichever.
    pub(crate) outcomes: Vec<tonic::Code>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) until: Option<SystemTime>,
    /// Before this number; 0: from the newest.
    pub(crate) before: u64,
    /// Rows.
    pub(crate) limit: usize,
}

/// What of the log was found.
pub(crate) struct Checked {
    /// The first row that is not as it was, and what is wrong.
    pub(crate) problem: Option<String>,
    /// To be noted elsewhere: the last row that was looked at, if all are as they were.
    pub(crate) head: Option<Head>,
}

/// What all methods' paths begin with.
const METHOD: &str = "/metacircular.mcias.v1.";

/// An action as people read it: `Auth/Login` of a method, of what else there is the whole.
pub(crate) fn short(action: &str) -> &str {
    action.strip_prefix(METHOD).unwrap_or(action)
}

/// What actions begin with that somebody means by `Login`, `Auth`, `Auth/Login`, a path (of a method or a page) or another action's
/// beginning: a method without its service, in small letters too, and the page of that name.
fn actions(meant: &str) -> Vec<String> {
    if meant.is_empty() {
        return Vec::new();
    }
    if meant.starts_with('/') {
        return vec![meant.to_owned()];
    }
    let mut all = vec![meant.to_owned(), format!("{METHOD}{meant}")];
    if !meant.contains('/') {
        let small = meant.to_ascii_lowercase();
        let methods = METHODS.iter().map(|method| method.path);
        let named = methods.filter(|path| {
            let name = path
                .strip_prefix(METHOD)
                .and_then(|rest| rest.split_once('/'));
            name.is_some_and(|(_, name)| name.to_ascii_lowercase().starts_with(&small))
        });
        all.extend(named.map(str::to_owned));
        all.push(format!("/{small}"));
    }
    all
}

impl Mcias {
    /// Rows of the log, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn audit(self: &Arc<Self>, wanted: Wanted) -> Result<Vec<Record>, Error> {
        let read = move |db: &Connection| {
            let all = Filter {
                actions: actions(&wanted.action),
                outcomes: wanted.outcomes,
                since: wanted.since,
                until: wanted.until,
                before_seq: Some(wanted.before).filter(|before| *before > 0),
                limit: Some(wanted.limit),
                ..Filter::default()
            };
            if wanted.account.is_empty() {
                return Ok::<_, Error>(audit::query(db, &all)?);
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
                records.extend(audit::query(db, &filter)?);
            }
            records.sort_by_key(|record| Reverse(record.seq));
            records.dedup_by_key(|record| record.seq);
            records.truncate(wanted.limit);
            Ok(records)
        };
        self.store.read(read).await
    }

    /// Whether the log is as it was written; `known` is number and hash of a row that was noted elsewhere, 0 and nothing: none.
    ///
    /// # Errors
    /// If the hash is none, or the database fails.
    pub(crate) async fn verify_audit(
        self: &Arc<Self>,
        number: u64,
        hash: &str,
    ) -> Result<Checked, Error> {
        let known = match (number, hash) {
            (0, "") => None,
            (seq, hash) => Some(Head {
                seq,
                hash: unhex(hash).ok_or_else(|| {
                    Error::invalid(
                        "known_hash: it is not 64 hexadecimal digits beside a known_number",
                    )
                })?,
            }),
        };
        let read = move |db: &Connection| match audit::verify(db, known) {
            Ok(verified) => Ok(Checked {
                problem: None,
                head: verified.head,
            }),
            Err(audit::VerifyError::Tampered(tampering)) => Ok(Checked {
                problem: Some(tampering.to_string()),
                head: None,
            }),
            Err(other) => Err(Error::from(other)),
        };
        self.store.read(read).await
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
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
            ("the page of that name", "Login", "/login", true),
            ("a page", "/factors/totp", "/factors/totp/confirm", true),
            ("an event", "audit.", "audit.suppressed", true),
            ("another method", "Logout", login, false),
            ("another service's", "Accounts/Login", login, false),
            ("everything of a slash", "/login", login, false),
        ] {
            let begins = actions(meant)
                .iter()
                .any(|prefix| action.starts_with(prefix));
            assert_eq!(begins, found, "{description}");
        }
        assert!(actions("").is_empty(), "all");
        assert_eq!((short(login), short("/login")), ("Auth/Login", "/login"));
    }
}
