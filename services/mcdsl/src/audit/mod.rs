//! The audit log of a service: who did what, from where, and how it ended; a table of the service's own database.
//!
//! [`append`] writes in the caller's transaction, so that a change and its record are committed together or not at all. Each row's
//! hash covers the row before it (see [`verify`]). The table refuses to be changed by accident; against intent stands the chain.
//!
//! Rejected: a file beside the database (two things to commit, and a crash in between tells a lie); a hash over JSON (an encoding
//! has to be canonical to be hashed; lengths before raw values are).

mod chain;
mod detail;
mod outcome;
mod query;
mod search;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use mc_proto::AccountType;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, params_from_iter,
    types::{Value, ValueRef},
};
use tonic::Code;

use self::detail::cut;
pub use self::{
    chain::{Hash, Head, Tampering, Verified, VerifyError, verify, verify_last},
    detail::{Detail, MAX_KEYS, MAX_LIST, MAX_LONG, MAX_VALUE},
    outcome::{WORDS, Word, in_a_word, meant, outcomes},
    query::{Filter, MAX_PAGE, Record, query},
    search::{Checked, Wanted, examine, known, outcomes_of, search, short},
};
use crate::{
    auth::{Identity, token::type_name},
    db::Migration,
    server::code_name,
};

/// The table, for a migration of the service. Never changes: a later version would be a migration of its own.
///
/// An index holds the rows' numbers as well, so that the rows of one account come out newest first without being sorted.
pub const SCHEMA: &str = "
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    at_us INTEGER NOT NULL,
    account TEXT,
    name TEXT,
    account_type TEXT,
    source TEXT,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX audit_account ON audit (account);
CREATE INDEX audit_action ON audit (action);
CREATE INDEX audit_outcome ON audit (outcome);
CREATE INDEX audit_at ON audit (at_us);
CREATE TRIGGER audit_is_not_updated BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;
";

/// What a service adds that finds rows by [`Filter::name`].
pub const BY_NAME: &str = "CREATE INDEX audit_name ON audit (name);";

/// The step of a service's schema that makes the table.
#[must_use]
pub const fn migration(version: u32) -> Migration {
    Migration::new(version, "audit log", SCHEMA)
}

/// Columns between `seq` and `hash`.
const FIELDS: usize = 9;
/// Longest action: a gRPC path or an event's name.
const MAX_ACTION: usize = 256;
/// Longest id or name of an account; longer ones are cut.
const MAX_NAME: usize = 256;
/// Longest resource; longer ones are cut, since a refused request may have named anything.
const MAX_RESOURCE: usize = 1024;

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor<'e> {
    /// Nobody who is known; whom it claimed to be belongs in the detail.
    Anonymous,
    /// An account.
    Account {
        /// Its id.
        id: &'e str,
        /// Its name at that time.
        name: &'e str,
        /// A person or a service.
        account_type: AccountType,
    },
}

impl<'e> From<&'e Identity> for Actor<'e> {
    fn from(identity: &'e Identity) -> Self {
        Self::Account {
            id: &identity.account,
            name: &identity.name,
            account_type: identity.account_type,
        }
    }
}

impl<'e> From<Option<&'e Identity>> for Actor<'e> {
    fn from(identity: Option<&'e Identity>) -> Self {
        identity.map_or(Self::Anonymous, Self::from)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Entry<'e> {
    /// Who did it.
    pub actor: Actor<'e>,
    /// From where; `None` if the service itself did it.
    pub source: Option<IpAddr>,
    /// The gRPC method's path, or an event's name.
    pub action: &'e str,
    /// On what; empty if on nothing in particular.
    pub resource: &'e str,
    /// How it ended.
    pub outcome: Code,
    /// What else.
    pub detail: Detail,
}

/// Why an entry is not written; what it records must then fail as well.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// SQLite refused.
    #[error("cannot write the audit log")]
    Sqlite(#[from] rusqlite::Error),
    /// Not a visible ASCII text of at most 256 bytes.
    #[error(
        "{0:?} is not an action that the audit log can keep; a gRPC path or an event's name is"
    )]
    Action(String),
    /// More than [`MAX_KEYS`].
    #[error("the detail of {action} has {keys} keys, more than {MAX_KEYS}")]
    Detail {
        /// The entry's.
        action: String,
        /// How many.
        keys: usize,
    },
    /// The last row has no hash to go on from, or no number can follow it.
    #[error("the last row of the audit log is damaged; verify it, and restore a snapshot")]
    Damaged,
}

/// Writes an entry, and gives its number. The transaction had better be an immediate one: a deferred one that has read before
/// fails as busy if another connection has written since.
///
/// # Errors
/// [`AuditError`]; the transaction must then not be committed.
pub fn append(tx: &Transaction<'_>, entry: &Entry<'_>, now: SystemTime) -> Result<u64, AuditError> {
    check(entry)?;
    let last = head(tx)?;
    let before = last.map_or(chain::START, |head| head.hash);
    let seq = last.map_or(0, |head| head.seq) + 1;
    let number = i64::try_from(seq).map_err(|_| AuditError::Damaged)?;
    let fields = fields(entry, now);
    let hash = chain::hash(&before, number, fields.iter().map(ValueRef::from));
    let all = [Value::from(number)].into_iter().chain(fields);
    tx.prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
        .execute(params_from_iter(all.chain([Value::from(hash.to_vec())])))
        .and_then(one)?;
    Ok(seq)
}

/// That a row was written: a trigger may have had none written.
fn one(changed: usize) -> rusqlite::Result<()> {
    match changed {
        1 => Ok(()),
        other => Err(rusqlite::Error::StatementChangedRows(other)),
    }
}

/// The last row, to be noted elsewhere; `None` of an empty log.
///
/// # Errors
/// [`AuditError`].
pub fn head(db: &Connection) -> Result<Option<Head>, AuditError> {
    let mut last = db.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    let row = last.query_row([], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
    });
    let Some((seq, hash)) = row.optional()? else {
        return Ok(None);
    };
    let seq = u64::try_from(seq).map_err(|_| AuditError::Damaged)?;
    let hash = hash.try_into().map_err(|_| AuditError::Damaged)?;
    Ok(Some(Head { seq, hash }))
}

fn check(entry: &Entry<'_>) -> Result<(), AuditError> {
    let action = entry.action;
    let visible = action.bytes().all(|b| b.is_ascii_graphic());
    if action.is_empty() || action.len() > MAX_ACTION || !visible {
        return Err(AuditError::Action(action.to_owned()));
    }
    if entry.detail.len() > MAX_KEYS {
        return Err(AuditError::Detail {
            action: action.to_owned(),
            keys: entry.detail.len(),
        });
    }
    Ok(())
}

fn fields(entry: &Entry<'_>, now: SystemTime) -> [Value; FIELDS] {
    let text = |text: &str, max| Value::from(cut(text, max).into_owned());
    let [account, name, account_type] = match entry.actor {
        Actor::Anonymous => [Value::Null, Value::Null, Value::Null],
        Actor::Account {
            id,
            name,
            account_type,
        } => [
            text(id, MAX_NAME),
            text(name, MAX_NAME),
            text(type_name(account_type), MAX_NAME),
        ],
    };
    let source = entry.source.map(|ip| ip.to_canonical().to_string());
    [
        Value::from(micros(now)),
        account,
        name,
        account_type,
        source.map_or(Value::Null, Value::from),
        Value::from(entry.action.to_owned()),
        text(entry.resource, MAX_RESOURCE),
        Value::from(code_name(entry.outcome).to_owned()),
        Value::from(entry.detail.to_json()),
    ]
}

/// Since the epoch; a clock before it counts down.
fn micros(time: SystemTime) -> i64 {
    let clamp = |micros| i64::try_from(micros).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => clamp(since.as_micros()),
        Err(before) => -clamp(before.duration().as_micros()),
    }
}
