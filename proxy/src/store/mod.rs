//! The durable copy of what the operator declared: SQLite, written before anything else changes.
//!
//! A mutation is one transaction that also writes its audit row, so that there is no change without a record. It
//! returns what is stored now and an [`Undo`], which puts the rows back exactly, ids included, should the kernel refuse what
//! SQLite accepted. A mutation that fails changes nothing and is audited as failed.
//!
//! One connection, synchronous: the daemon serialises changes anyway (SQLite, then kernel, then acknowledge). Rejected:
//! a pool, and rows as serialised blobs, which no operator can read and no constraint can check.

mod describe;
mod routes;
mod rows;
mod rules;
mod schema;
#[cfg(test)]
mod tests;

use std::{path::Path, time::SystemTime};

use ipnet::IpNet;
use mcdsl::db::{self, DbError, Files};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::spec::{
    CountryPolicy, FIRST_RULE_ID, Listener, RateLimits, Route, RouteId, Rule, RuleKind,
};

/// Rule ids end below this: a rule's id is the slot of its counters, and there are as many slots.
pub const RULE_ID_END: u32 = 32_768;
/// Address rules at once.
pub const MAX_RULES: usize = (RULE_ID_END - FIRST_RULE_ID) as usize;
/// Routes at once: the kernel's route table holds no more.
pub const MAX_ROUTES: usize = mc_edge_common::route::MAX_ROUTES as usize;
/// Listeners at once: each is a socket and a task; a node has a handful.
pub const MAX_LISTENERS: usize = 1_024;
/// Audit rows kept; the oldest go first. Years of an operator's work, days of an automatic banner's.
pub const MAX_AUDIT: u32 = 100_000;
/// Bytes of an audit row's detail: an import of 10,000 rules is not copied into the audit.
const MAX_DETAIL: usize = 1_024;

/// A failure of the store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was named is not there.
    #[error("there is no {0}")]
    NotFound(String),
    /// What was to be added is there already.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// A request names the same thing twice.
    #[error("{0} is given twice")]
    GivenTwice(String),
    /// A bound is reached.
    #[error("no room for another {0}: there are {1}, the most there can be; remove some first")]
    Full(&'static str, usize),
    /// A row does not parse: the file was edited by other means, or is damaged.
    #[error("the database holds {value:?} as {what}; repair the row or restore a snapshot")]
    Corrupt {
        /// Which column.
        what: &'static str,
        /// Its text.
        value: String,
    },
    /// SQLite failed.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] DbError),
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// By id.
    pub listeners: Vec<Listener>,
    /// By id.
    pub routes: Vec<Route>,
    /// By id.
    pub rules: Vec<Rule>,
    /// The country policy.
    pub countries: CountryPolicy,
    /// The rate limits.
    pub rates: RateLimits,
}

/// On whose behalf a change is made, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Peer credentials of the admin socket; `None` for the daemon itself.
    pub uid: Option<u32>,
    /// Likewise.
    pub pid: Option<i32>,
    /// From where: "admin socket", "seed", "expiry", ...
    pub source: String,
}

impl Actor {
    /// The daemon itself, for a reason ("seed", "expiry").
    pub fn daemon(reason: &str) -> Self {
        Self {
            uid: None,
            pid: None,
            source: reason.to_owned(),
        }
    }
}

/// A committed change.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "if the kernel refuses the change, it must be undone"]
pub struct Done<T> {
    /// What is stored now; for removals, what was removed.
    pub value: T,
    /// For [`Store::undo`].
    pub undo: Undo,
}

/// What a change replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Undo {
    /// The route of this key becomes what it was.
    Route(RouteId, Option<Route>),
    /// The listener of this address becomes what it was.
    Listener(std::net::SocketAddr, Option<Listener>),
    /// These rules go, then those come back.
    Rules {
        /// Added or updated by the change.
        remove: Vec<(RuleKind, IpNet)>,
        /// As they were before it.
        restore: Vec<Rule>,
    },
    /// The policy before.
    Countries(CountryPolicy),
    /// The limits before.
    Rates(RateLimits),
}

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Ascending.
    pub id: i64,
    /// When.
    pub at: SystemTime,
    /// Who and from where.
    pub actor: Actor,
    /// "route add", "rules remove", ...
    pub action: String,
    /// On what; shortened.
    pub detail: String,
    /// "ok", or the error.
    pub result: String,
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    files: Files,
}

impl Store {
    /// Opens the database, creating it or bringing its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = db::open(path, &schema::MIGRATIONS)?;
        let files = Files::of(path);
        Ok(Self { db, files })
    }

    /// Whether the database is still the file that was opened; otherwise nothing is written any more.
    ///
    /// # Errors
    /// [`StoreError::Open`] says that it is not.
    pub fn in_place(&self) -> Result<(), StoreError> {
        Ok(self.files.check()?)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Sqlite`].
    pub fn load(&mut self) -> Result<State, StoreError> {
        let tx = self.db.transaction()?;
        Ok(State {
            listeners: routes::listeners(&tx)?,
            routes: routes::routes(&tx)?,
            rules: rules::rules(&tx)?,
            countries: rules::countries(&tx)?,
            rates: rules::rates(&tx)?,
        })
    }

    /// Whether [`Self::seed`] has run on this database.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn seeded(&self) -> Result<bool, StoreError> {
        Ok(seeded(&self.db)?)
    }

    /// Fills the database from the configuration's seed, the first time it is called on it; `false` afterwards.
    ///
    /// # Errors
    /// As the single mutations; the database is then not seeded.
    pub fn seed(&mut self, state: &State) -> Result<bool, StoreError> {
        if self.seeded()? {
            return Ok(false);
        }
        let detail = format!(
            "{} listeners, {} routes, {} rules",
            state.listeners.len(),
            state.routes.len(),
            state.rules.len()
        );
        self.mutate(&Actor::daemon("seed"), "seed", detail, |tx| {
            for listener in &state.listeners {
                routes::add_listener(tx, listener)?;
            }
            for route in &state.routes {
                routes::add_route(tx, route, false)?;
            }
            rules::add_rules(tx, &state.rules, false)?;
            rules::set_countries(tx, &state.countries)?;
            rules::set_rates(tx, &state.rates)?;
            tx.execute("INSERT INTO marks (name) VALUES ('seeded')", [])?;
            Ok(true)
        })
    }

    /// Undoes a change that the kernel refused; `why` goes into the audit.
    ///
    /// # Errors
    /// [`StoreError`]; the stored and the kernel's state then differ until the next start reconciles them.
    pub fn undo(&mut self, by: &Actor, undo: &Undo, why: &str) -> Result<(), StoreError> {
        self.mutate(by, "undo", describe::undo(undo, why), |tx| match undo {
            Undo::Route(key, before) => routes::restore_route(tx, key, before.as_ref()),
            Undo::Listener(address, before) => {
                routes::restore_listener(tx, *address, before.as_ref())
            }
            Undo::Rules { remove, restore } => rules::restore_rules(tx, remove, restore),
            Undo::Countries(before) => rules::set_countries(tx, before),
            Undo::Rates(before) => rules::set_rates(tx, before),
        })
    }

    /// Records what happened without a change of the database (a detached firewall, a repaired map).
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn audit(
        &mut self,
        by: &Actor,
        action: &str,
        detail: &str,
        result: &str,
    ) -> Result<(), StoreError> {
        self.in_place()?;
        Ok(audit(&self.db, by, action, detail, result)?)
    }

    /// The latest audit rows, newest first.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT id, at_unix_ms, uid, pid, source, action, detail, result FROM audit
             ORDER BY id DESC LIMIT ?1",
        )?;
        let entries = query.query_map([limit], |r| {
            Ok(AuditEntry {
                id: r.get(0)?,
                at: rows::time(r.get(1)?),
                actor: Actor {
                    uid: r.get(2)?,
                    pid: r.get(3)?,
                    source: r.get(4)?,
                },
                action: r.get(5)?,
                detail: r.get(6)?,
                result: r.get(7)?,
            })
        })?;
        Ok(entries.collect::<Result<_, _>>()?)
    }

    /// Copies the database consistently into a new file of mode 0600.
    ///
    /// # Errors
    /// [`StoreError::Open`] if the file exists or cannot be written.
    pub fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        Ok(db::snapshot(&self.db, to)?)
    }

    /// One transaction: the change and its audit row, or only the audit row of its failure.
    fn mutate<T>(
        &mut self,
        by: &Actor,
        action: &str,
        detail: String,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = self.try_mutate(by, action, &detail, change);
        if let Err(e) = &result {
            // Best effort: the change's own error is the one to return, and a full disk fails both.
            if let Err(second) = audit(&self.db, by, action, &detail, &mcdsl::cli::chain(e)) {
                tracing::error!(error = %second, action, "cannot write the audit");
            }
        }
        result
    }

    fn try_mutate<T>(
        &mut self,
        by: &Actor,
        action: &str,
        detail: &str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.in_place()?;
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&tx)?;
        audit(&tx, by, action, detail, "ok")?;
        tx.commit()?;
        Ok(value)
    }
}

/// Copies the database at `path` consistently into a new file of mode 0600, whatever daemon runs on it: its schema stays.
///
/// # Errors
/// As [`Store::snapshot`].
pub fn snapshot(path: &Path, to: &Path) -> Result<(), StoreError> {
    Ok(db::snapshot(&db::open_as_it_is(path)?, to)?)
}

fn seeded(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT EXISTS (SELECT 1 FROM marks WHERE name = 'seeded')",
        [],
        |r| r.get(0),
    )
}

fn audit(
    db: &Connection,
    by: &Actor,
    action: &str,
    detail: &str,
    result: &str,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO audit (at_unix_ms, uid, pid, source, action, detail, result)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        rows::unix_ms(SystemTime::now()),
        by.uid,
        by.pid,
        &by.source,
        action,
        shorten(detail),
        shorten(result),
    ))?;
    db.prepare_cached("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1")?
        .execute([MAX_AUDIT])?;
    Ok(())
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_DETAIL)]
}
