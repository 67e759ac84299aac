//! A snapshot in the place of the database.
//!
//! What was revoked since the snapshot was made is not revoked in it, and tokens that were issued since are nobody's there: the keys are
//! dropped with all tokens, unless the operator knows better.

use std::{path::Path, time::SystemTime};

pub use mcdsl::restore::Restored;
use mcdsl::{
    audit::{self, Actor, AuditError, Detail, Entry},
    restore::{self, Found, Snapshot},
};
use rusqlite::{Connection, TransactionBehavior};
use tonic::Code;

use crate::{
    config::Config,
    core::Change,
    error::Error,
    init, keys, schema,
    seal::{self, SealError},
};

/// What is to be done besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restoration {
    /// A database that is there is replaced.
    pub replace: bool,
    /// Tokens of before stay valid, also those that were revoked since the snapshot.
    pub keep_tokens: bool,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Of another installation.
    #[error("{path} is a snapshot of {found}, and [token] issuer is {wanted:?}")]
    Issuer {
        /// The snapshot.
        path: std::path::PathBuf,
        /// Its issuer.
        found: String,
        /// The configuration's.
        wanted: String,
    },
    /// What may be wrong with the snapshot of any service.
    #[error(transparent)]
    Snapshot(#[from] restore::RestoreError),
    /// The master key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What it did cannot be written down.
    #[error(transparent)]
    Record(#[from] AuditError),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<rusqlite::Error> for RestoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Puts the database of a snapshot in its place.
///
/// # Errors
/// [`RestoreError`]; what was there is there.
pub fn restore(
    config: &Config,
    snapshot: &Path,
    how: Restoration,
) -> Result<Restored, RestoreError> {
    let taken = Snapshot {
        service: crate::SERVICE,
        migrations: schema::MIGRATIONS,
        database: &config.database.path,
        archive: snapshot,
    };
    restore::restore(taken, how.replace, |db, found| {
        take(db, found, config, snapshot, how)
    })
}

/// Whether it is ours and can be used with the master key; then it is made so that nobody uses what he lost since, and that it was restored is written down.
fn take(
    db: &mut Connection,
    found: &Found,
    config: &Config,
    snapshot: &Path,
    how: Restoration,
) -> Result<(), RestoreError> {
    let issuer = init::issuer(db)?;
    if issuer.as_deref() != Some(&*config.token.issuer) {
        return Err(RestoreError::Issuer {
            path: snapshot.to_owned(),
            found: issuer.unwrap_or_else(|| "nothing".to_owned()),
            wanted: config.token.issuer.clone(),
        });
    }
    let seal = seal::Key::read(&config.database.master_key)?;
    keys::load(db, &seal)?;
    let now = SystemTime::now();
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !how.keep_tokens {
        // Tokens that were issued since are not in the table: no revocation would be kept for as long as they might be valid.
        Change::new(&tx, now).drop_keys(&seal)?;
    }
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action: "restore",
        resource: &snapshot.display().to_string(),
        outcome: Code::Ok,
        detail: Detail::new()
            .text("sha256", &found.sha256)
            .flag("keep_tokens", how.keep_tokens),
    };
    audit::append(&tx, &entry, now)?;
    Ok(tx.commit()?)
}
