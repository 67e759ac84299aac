//! A snapshot in the place of the database.
//!
//! It is unpacked and looked at beside it; what has any flaw is not taken. Then it is moved there by one rename(2), so that whoever is killed
//! leaves the database that was there or the restored one. SQLite's log of the one before must be gone by then, for it would be replayed into
//! the other: the database before is closed with its log written back, and kept beside under another name.
//!
//! What was revoked since the snapshot was made is not revoked in it, and tokens that were issued since are nobody's there: the keys are
//! dropped with all tokens, unless the operator knows better.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use mcdsl::{
    archive::{self, ArchiveError},
    audit::{self, Actor, AuditError, Detail, Entry, VerifyError},
    cli::chain,
    db::{self, DbError},
    files,
};
use rusqlite::{Connection, TransactionBehavior};
use tonic::Code;

use crate::{
    config::Config,
    core::Change,
    error::Error,
    init, keys,
    left::newest_snapshot,
    lock::{self, Lock, LockError},
    schema,
    seal::{self, SealError},
    time::unix,
};

/// A database is not larger: that of a hundred thousand accounts, with its log, is far smaller.
const MAX_BYTES: u64 = 64 << 30;

/// What is to be done besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restoration {
    /// A database that is there is replaced.
    pub replace: bool,
    /// Tokens of before stay valid, also those that were revoked since the snapshot.
    pub keep_tokens: bool,
}

/// What was done.
pub struct Restored {
    /// The database.
    pub database: PathBuf,
    /// Where the one before is.
    pub before: Option<PathBuf>,
    /// Rows of its audit log, which are as they were written.
    pub audit_rows: u64,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is one.
    #[error("the database {0} exists; with --replace it is moved aside")]
    Exists(PathBuf),
    /// There is no such file.
    #[error("there is no snapshot {path}; {hint}")]
    Missing {
        /// The path.
        path: PathBuf,
        /// Where there is one.
        hint: String,
    },
    /// Not what `snapshot` makes.
    #[error("{0} is no snapshot of mcias: it must hold mcias.db alone")]
    Content(PathBuf),
    /// SQLite finds it damaged.
    #[error("the database in {path} is damaged: {problem}")]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Somebody changed it.
    #[error("the audit log in {path} is not as it was written: {problem}")]
    Audit {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Of another installation.
    #[error("{path} is a snapshot of {found}, and [token] issuer is {wanted:?}")]
    Issuer {
        /// The snapshot.
        path: PathBuf,
        /// Its issuer.
        found: String,
        /// The configuration's.
        wanted: String,
    },
    /// A file cannot be moved or removed.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
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
    if !snapshot.exists() {
        return Err(missing(config, snapshot));
    }
    let _lock = Lock::of(&config.database.path)?;
    // Where links lead: they stay, and the file stays on its disk.
    let database =
        &lock::real(&config.database.path).map_err(failed("find", &config.database.path))?;
    let exists = database.exists();
    if exists && !how.replace {
        return Err(RestoreError::Exists(database.clone()));
    }
    let staging = beside(database, ".restoring");
    let partial = beside(database, ".restoring.partial");
    for left in [&staging, &partial] {
        // Of a run that was killed; ours alone, by the lock.
        remove_dir(left)?;
    }
    let taken = take(config, snapshot, how, &staging).and_then(|(file, audit_rows)| {
        let before = exists.then(|| set_aside(database)).transpose()?;
        fs::rename(&file, database)
            .and_then(|()| files::sync_entry(database))
            .map_err(failed("replace", database))?;
        Ok(Restored {
            database: database.clone(),
            before,
            audit_rows,
        })
    });
    let removed = remove_dir(&staging);
    let restored = taken?;
    removed?;
    Ok(restored)
}

fn missing(config: &Config, snapshot: &Path) -> RestoreError {
    let hint = match newest_snapshot(config) {
        Some(last) => format!("the last one is {}", last.display()),
        None => "`mcias snapshot` writes them to backups beside the database".to_owned(),
    };
    RestoreError::Missing {
        path: snapshot.to_owned(),
        hint,
    }
}

/// Unpacks it, looks at it, and writes down that it was restored: the file, and the rows of its log.
fn take(
    config: &Config,
    snapshot: &Path,
    how: Restoration,
    staging: &Path,
) -> Result<(PathBuf, u64), RestoreError> {
    let manifest = archive::read(snapshot, staging, MAX_BYTES)?;
    let [listed] = manifest.files.as_slice() else {
        return Err(RestoreError::Content(snapshot.to_owned()));
    };
    let name = format!("{}.db", crate::SERVICE);
    if listed.name != name {
        return Err(RestoreError::Content(snapshot.to_owned()));
    }
    let file = staging.join(name);
    let mut db = db::open(&file, schema::MIGRATIONS)?;
    let seal = seal::Key::read(&config.database.master_key)?;
    let rows = check(&db, config, &seal, snapshot)?;
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
            .text("sha256", &listed.sha256)
            .flag("keep_tokens", how.keep_tokens),
    };
    audit::append(&tx, &entry, now)?;
    tx.commit()?;
    close(db, &file)?;
    Ok((file, rows))
}

/// Whether a database is whole, ours, and can be used with the master key; the rows of its log.
fn check(
    db: &Connection,
    config: &Config,
    seal: &seal::Key,
    snapshot: &Path,
) -> Result<u64, RestoreError> {
    let path = || snapshot.to_owned();
    let damaged = |problem: String| RestoreError::Damaged {
        path: path(),
        problem,
    };
    let found: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(damaged(found));
    }
    if db.prepare("PRAGMA foreign_key_check")?.exists([])? {
        return Err(damaged("a row refers to one that is not there".to_owned()));
    }
    let verified = audit::verify(db, None).map_err(|error| match error {
        VerifyError::Tampered(tampering) => RestoreError::Audit {
            path: path(),
            problem: tampering.to_string(),
        },
        other => damaged(chain(&other)),
    })?;
    let issuer = init::issuer(db)?;
    if issuer.as_deref() != Some(&*config.token.issuer) {
        return Err(RestoreError::Issuer {
            path: path(),
            found: issuer.unwrap_or_else(|| "nothing".to_owned()),
            wanted: config.token.issuer.clone(),
        });
    }
    keys::load(db, seal)?;
    Ok(verified.rows)
}

/// Closes a database so that all of it is in its one file.
fn close(db: Connection, file: &Path) -> Result<(), RestoreError> {
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(LockError::Held(file.to_owned()).into());
    }
    db.close().map_err(|(_, error)| error)?;
    for end in ["-wal", "-shm"] {
        let log = beside(file, end);
        match fs::remove_file(&log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &log)(error));
            }
            _ => {}
        }
    }
    files::sync(file).map_err(failed("write", file))
}

/// Gives the database that is there a second name, and leaves it without a log.
fn set_aside(database: &Path) -> Result<PathBuf, RestoreError> {
    let kept = free_name(database);
    match db::open_as_it_is(database).map_err(RestoreError::from) {
        Ok(db) => match close(db, database) {
            Ok(()) => {}
            // One that SQLite cannot read is to be replaced most of all; its log goes with it.
            Err(RestoreError::Failed(error)) => {
                tracing::warn!(error = chain(&error), "the database before is damaged");
                move_logs(database, &kept)?;
            }
            Err(other) => return Err(other),
        },
        Err(_) => move_logs(database, &kept)?,
    }
    fs::hard_link(database, &kept)
        .and_then(|()| files::sync_entry(database))
        .map_err(failed("keep", &kept))?;
    Ok(kept)
}

/// Of the second, or of one soon after, if there was another within it.
fn free_name(database: &Path) -> PathBuf {
    let now = unix(SystemTime::now());
    let names = (now..).map(|second| beside(database, &format!(".before-restore-{second}")));
    let mut free = names.filter(|name| !name.exists());
    free.next().expect("there are more seconds than files")
}

fn move_logs(database: &Path, kept: &Path) -> Result<(), RestoreError> {
    for end in ["-wal", "-shm"] {
        let log = beside(database, end);
        if log.exists() {
            fs::rename(&log, beside(kept, end)).map_err(failed("move", &log))?;
        }
    }
    files::sync_entry(database).map_err(failed("move the log of", database))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn remove_dir(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { what, path, source }
}
