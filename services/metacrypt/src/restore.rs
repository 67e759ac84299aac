//! A snapshot in the place of the database, and the drill that shows that one could be.

use std::{path::Path, time::SystemTime};

use mcdsl::{
    audit::{self, Actor, AuditError, Detail, Entry},
    restore::{self, Found, Restored, Snapshot},
};
use rusqlite::{Connection, TransactionBehavior};
use tonic::Code;

use crate::{
    barrier::{self, DrillError, Drilled, SealError, Secret, Status},
    policy,
    start::SERVICE,
};

/// Why nothing was changed, or a snapshot is worth nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// What may be wrong with the snapshot of any service.
    #[error(transparent)]
    Snapshot(#[from] restore::RestoreError),
    /// Its seal.
    #[error("the seal of the snapshot: {0}")]
    Seal(#[from] SealError),
    /// What is behind it.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// Nobody but administrators could do anything.
    #[error("the policy in the snapshot cannot be used: {0}")]
    Policy(String),
    /// What it did cannot be written down.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// The secret was not given.
    #[error(transparent)]
    Secret(anyhow::Error),
}

impl From<rusqlite::Error> for RestoreError {
    fn from(error: rusqlite::Error) -> Self {
        restore::RestoreError::from(error).into()
    }
}

fn snapshot<'a>(database: &'a Path, archive: &'a Path) -> Snapshot<'a> {
    Snapshot {
        service: SERVICE.name,
        migrations: SERVICE.migrations,
        database,
        archive,
    }
}

/// Puts the database of a snapshot in its place; `replace`: also of one that is there. The service must not run.
///
/// # Errors
/// [`RestoreError`]; what was there is there.
pub(crate) fn restore(
    database: &Path,
    archive: &Path,
    replace: bool,
) -> Result<Restored, RestoreError> {
    restore::restore(snapshot(database, archive), replace, |db, found| {
        status(db)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let entry = Entry {
            actor: Actor::Anonymous,
            source: None,
            action: "restore",
            resource: &archive.display().to_string(),
            outcome: Code::Ok,
            detail: Detail::new().text("sha256", &found.sha256),
        };
        audit::append(&tx, &entry, SystemTime::now())?;
        Ok(tx.commit()?)
    })
}

/// Opens a snapshot's seal by the secret that `ask` gives and reads all that is behind it, beside the database, which may be in use.
///
/// # Errors
/// [`RestoreError`]: it could not be used.
pub(crate) fn verify(
    database: &Path,
    archive: &Path,
    ask: impl FnOnce(&Status) -> anyhow::Result<Secret>,
) -> Result<(Status, Found, Drilled), RestoreError> {
    restore::drill(snapshot(database, archive), |db, found| {
        let status = status(db)?;
        let secret = ask(&status).map_err(RestoreError::Secret)?;
        let drilled = barrier::drill(db, secret)?;
        policy::load(&drilled.unsealed, db)?;
        match &policy::in_force(&drilled.unsealed)?.unusable {
            Some(why) => Err(RestoreError::Policy(why.clone())),
            None => Ok((status, found.clone(), drilled)),
        }
    })
}

fn status(db: &Connection) -> Result<Status, SealError> {
    Status::read(db)?.ok_or(SealError::NotInitialised)
}
