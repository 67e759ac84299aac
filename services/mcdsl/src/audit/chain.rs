//! The chain: every row's hash covers the row and the hash before it, so that none can be changed, removed or put in without
//! the rest showing it.
//!
//! The hash has no key: whoever can write the file could read a key beside it, and would make a new chain. Against that, and
//! against a tail cut off, helps only a [`Head`] that was noted elsewhere (a log of another machine, a backup).

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{
    Connection, OptionalExtension as _, Row, Rows,
    types::{Value, ValueRef},
};
use serde::Serialize;

use super::FIELDS;

/// Says what is hashed, and in which encoding.
const DOMAIN: &[u8] = b"metacircular audit 1\0";
/// How many rows may have been taken out, all others renumbered, for that still to be told from a change.
const MAX_SHIFT: i64 = 1 << 16;

/// SHA-256.
pub type Hash = [u8; 32];

/// The last row of a log: noted elsewhere, it shows later that nothing before it was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number: how many rows there were.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A log that was found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many rows.
    pub rows: u64,
    /// The last; `None` of an empty log.
    pub head: Option<Head>,
}

/// Why a log is not sound, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// SQLite cannot read it.
    #[error("cannot read the audit log")]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody changed it.
    #[error("the audit log was tampered with: {0}")]
    Tampered(Tampering),
}

/// What is wrong with the first row that is not as it was written. Rows are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Tampering {
    /// The row's content or hash, or the row before it together with its hash.
    Changed {
        /// Its number.
        seq: i64,
    },
    /// These rows are not there.
    Removed {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// These rows were not written by the service; those after them were renumbered.
    Inserted {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// These two have each other's place.
    Exchanged {
        /// One.
        first: i64,
        /// The other.
        second: i64,
    },
    /// The rows after this one are gone: the known head is a later one.
    Truncated {
        /// The last row there is; 0 if there is none.
        last: i64,
        /// The known head's number.
        known: u64,
    },
    /// The chain is sound in itself, but this row is not the one that was noted: it or rows before it were written anew.
    Rewritten {
        /// The known head's number.
        seq: i64,
    },
}

impl Tampering {
    /// Whether only what was noted elsewhere says so: the chain itself is as it was written, as far as it was read.
    #[must_use]
    pub fn is_by_what_was_noted(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Rewritten { .. })
    }
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |f: &mut fmt::Formatter<'_>, first, last, what| match first == last {
            true => write!(f, "row {first} was {what}"),
            false => write!(f, "rows {first} to {last} were {what}"),
        };
        match *self {
            Self::Changed { seq } => write!(
                f,
                "row {seq} was changed, or the row before it together with its hash"
            ),
            Self::Removed { first, last } => range(f, first, last, "removed"),
            Self::Inserted { first, last } => range(f, first, last, "inserted"),
            Self::Exchanged { first, second } => {
                write!(f, "rows {first} and {second} were exchanged")
            }
            Self::Truncated { last, known } => write!(
                f,
                "the rows after {last} were cut off; there was a row {known}"
            ),
            Self::Rewritten { seq } => write!(
                f,
                "row {seq} is not the one that was noted; it, or what is before it, was written anew"
            ),
        }
    }
}

/// The hash of the row `seq` with these fields, after a row of hash `before`. Every part has its type and length before it, so
/// that no two rows are encoded alike.
pub(super) fn hash<'v>(
    before: &Hash,
    seq: i64,
    fields: impl IntoIterator<Item = ValueRef<'v>>,
) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(before);
    context.update(&seq.to_be_bytes());
    let mut part = |tag: u8, bytes: &[u8]| {
        context.update(&[tag]);
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for field in fields {
        match field {
            ValueRef::Null => part(0, &[]),
            ValueRef::Integer(number) => part(1, &number.to_be_bytes()),
            ValueRef::Real(number) => part(2, &number.to_be_bytes()),
            ValueRef::Text(text) => part(3, text),
            ValueRef::Blob(bytes) => part(4, bytes),
        }
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// What the first row follows.
pub(super) const START: Hash = [0; 32];

/// A row as it is stored, whatever somebody made of it.
struct Stored {
    seq: i64,
    fields: Vec<Value>,
    /// `None` if it is not one, which no row has that was written.
    hash: Option<Hash>,
}

impl Stored {
    fn hash_as(&self, before: &Hash, seq: i64) -> Hash {
        hash(before, seq, self.fields.iter().map(ValueRef::from))
    }

    /// Whether it was written as the row `seq`, after one of hash `before`.
    fn is(&self, before: &Hash, seq: i64) -> bool {
        self.hash == Some(self.hash_as(before, seq))
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let hash = row.get_ref(FIELDS + 1)?.as_bytes().ok();
    let fields = (1..=FIELDS).map(|i| row.get_ref(i).map(raw));
    Ok(Stored {
        seq: row.get(0)?,
        fields: fields.collect::<Result<_, _>>()?,
        hash: hash.and_then(|bytes| bytes.try_into().ok()),
    })
}

/// Text that is not UTF-8 was not written by this program: as a blob it has another hash.
fn raw(value: ValueRef<'_>) -> Value {
    Value::try_from(value)
        .unwrap_or_else(|_| Value::Blob(value.as_bytes().unwrap_or_default().to_vec()))
}

fn next(rows: &mut Rows<'_>) -> rusqlite::Result<Option<Stored>> {
    rows.next()?.map(stored).transpose()
}

const ALL: &str = "SELECT seq, at_us, account, name, account_type, source, action, resource, outcome, detail, hash
     FROM audit WHERE seq >= ?1 ORDER BY seq";

/// Reads the whole log, one row at a time, and finds the first that is not as it was written. `known` is a head that was noted
/// elsewhere; without one, a tail that was cut off and a chain that was written anew look sound.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(db: &Connection, known: Option<Head>) -> Result<Verified, VerifyError> {
    // What is read later to tell what happened is then what was read first.
    let _snapshot = match db.is_autocommit() {
        true => Some(db.unchecked_transaction()?),
        false => None,
    };
    chained(db, known, i64::MIN, (0, START))
}

/// As [`verify`], of the last rows alone, so many and the one before them, whose hash is believed: what is before that is not looked at.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_last(db: &Connection, rows: u32) -> Result<Verified, VerifyError> {
    let _snapshot = match db.is_autocommit() {
        true => Some(db.unchecked_transaction()?),
        false => None,
    };
    let newest: Option<i64> = db.query_row("SELECT max(seq) FROM audit", [], |row| row.get(0))?;
    let from = newest.unwrap_or(0).saturating_sub(rows.into());
    if from < 1 {
        return chained(db, None, i64::MIN, (0, START));
    }
    let sql = "SELECT hash FROM audit WHERE seq = ?1";
    let found = db.query_row(sql, [from], |row| row.get::<_, Vec<u8>>(0));
    let hash: Option<Hash> = found.optional()?.and_then(|hash| hash.try_into().ok());
    let Some(hash) = hash else {
        let (first, last) = (from, from);
        return Err(VerifyError::Tampered(Tampering::Removed { first, last }));
    };
    chained(db, None, from + 1, (from, hash))
}

/// The rows from `from` on, behind the row `last` of that hash.
fn chained(
    db: &Connection,
    known: Option<Head>,
    from: i64,
    (mut last, mut before): (i64, Hash),
) -> Result<Verified, VerifyError> {
    let known_seq = known.map(|head| i64::try_from(head.seq).unwrap_or(i64::MAX));
    let mut statement = db.prepare(ALL)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = next(&mut rows)? {
        let seq = last + 1;
        let tampering = if row.seq < seq {
            let (first, last) = (row.seq, row.seq);
            Some(Tampering::Inserted { first, last })
        } else if row.seq > seq {
            let (first, last) = (seq, row.seq - 1);
            Some(Tampering::Removed { first, last })
        } else if !row.is(&before, seq) {
            Some(what_happened(db, &before, &row, known)?)
        } else if known_seq == Some(seq) && known.map(|head| head.hash) != row.hash {
            Some(Tampering::Rewritten { seq })
        } else {
            None
        };
        if let Some(tampering) = tampering {
            return Err(VerifyError::Tampered(tampering));
        }
        (last, before) = (seq, row.hash.unwrap_or(START));
    }
    if let Some(known) = known.filter(|known| known.seq > last as u64) {
        let known = known.seq;
        return Err(VerifyError::Tampered(Tampering::Truncated { last, known }));
    }
    let rows = last as u64;
    let head = (rows > 0).then_some(Head {
        seq: rows,
        hash: before,
    });
    Ok(Verified { rows, head })
}

/// `bad` does not follow `before`, the hash of the row before it: looks where the row is that does, and what `bad` follows.
fn what_happened(
    db: &Connection,
    before: &Hash,
    bad: &Stored,
    known: Option<Head>,
) -> rusqlite::Result<Tampering> {
    let seq = bad.seq;
    let mut statement = db.prepare(ALL)?;
    let mut rows = statement.query([seq + 1])?;
    let (mut previous, mut following) = (None, None);
    while let Some(row) = next(&mut rows)? {
        if row.is(before, seq) {
            // The one before that place now, unless that is where `bad` is.
            let there = previous.or(row.hash).unwrap_or(START);
            let (first, second) = (seq, row.seq);
            return Ok(match bad.is(&there, second) {
                true => Tampering::Exchanged { first, second },
                false => Tampering::Inserted {
                    first,
                    last: second - 1,
                },
            });
        }
        previous = row.hash;
        following.get_or_insert(row);
    }
    drop(rows);
    let mut rows = statement.query([i64::MIN])?;
    let mut earlier = START;
    for first in 1..seq {
        if bad.is(&earlier, first) {
            let last = seq - 1;
            return Ok(Tampering::Inserted { first, last });
        }
        let row = next(&mut rows)?.and_then(|row| row.hash);
        earlier = row.unwrap_or(START);
    }
    Ok(removed(bad, following.as_ref(), known).unwrap_or(Tampering::Changed { seq }))
}

/// If rows before `bad` were taken out and the others renumbered: only the numbers tell, which are in the hashes.
fn removed(bad: &Stored, following: Option<&Stored>, known: Option<Head>) -> Option<Tampering> {
    let (first, hash) = (bad.seq, bad.hash?);
    let last = match following {
        Some(row) if row.is(&hash, row.seq) => return None,
        Some(row) => (1..=MAX_SHIFT).find(|shift| row.is(&hash, row.seq + shift))? + first - 1,
        None => {
            let known = known.filter(|known| known.hash == hash)?;
            i64::try_from(known.seq).ok()? - 1
        }
    };
    (last >= first).then_some(Tampering::Removed { first, last })
}
