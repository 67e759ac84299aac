//! The audit log, as administrators read it.

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use mcdsl::audit::{self, Filter, Head, Record};
use rusqlite::Connection;

use crate::{account, core::Mcias, error::Error};

/// What of the log is looked for; all that is said must hold.
#[derive(Default)]
pub(crate) struct Wanted {
    /// By name, or by the id of one that is gone; empty: all.
    pub(crate) account: String,
    /// The action begins so.
    pub(crate) action: String,
    pub(crate) outcome: Option<tonic::Code>,
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

impl Mcias {
    /// Rows of the log, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn audit(self: &Arc<Self>, wanted: Wanted) -> Result<Vec<Record>, Error> {
        let read = move |db: &Connection| {
            let id = match wanted.account.as_str() {
                "" => None,
                name => Some(
                    account::by_name(db, name)?
                        .map_or_else(|| name.to_owned(), |account| account.id),
                ),
            };
            let of_somebody = id.is_some();
            let mut filter = Filter {
                account: id,
                anonymous_on: None,
                action: Some(wanted.action).filter(|action| !action.is_empty()),
                outcome: wanted.outcome,
                since: wanted.since,
                until: wanted.until,
                before_seq: Some(wanted.before).filter(|before| *before > 0),
                limit: Some(wanted.limit),
            };
            let mut records = audit::query(db, &filter)?;
            if of_somebody {
                // Whose login failed is nobody; it was at that account.
                filter.account = None;
                filter.anonymous_on = Some(wanted.account);
                records.extend(audit::query(db, &filter)?);
                records.sort_by_key(|record| Reverse(record.seq));
                records.truncate(wanted.limit);
            }
            Ok::<_, Error>(records)
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
                    Error::invalid("known_hash: 64 hexadecimal digits, with known_number")
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
