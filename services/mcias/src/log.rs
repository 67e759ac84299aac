//! The audit log, as administrators read it.

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use mcdsl::audit::{self, Filter, Head, Record};
use rusqlite::Connection;

use crate::{core::Mcias, error::Error};

/// What of the log is looked for; all that is said must hold.
#[derive(Default)]
pub(crate) struct Wanted {
    /// By id, or by name: then also of others that had it before; empty: all.
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
            let all = Filter {
                action: Some(wanted.action).filter(|action| !action.is_empty()),
                outcome: wanted.outcome,
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
