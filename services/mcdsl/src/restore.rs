//! A snapshot in the place of a service's database, or only looked at.
//!
//! It is unpacked and looked at beside the database; what has any flaw is not taken. Then it is moved there by one rename(2), so that whoever is killed
//! leaves the database that was there or the restored one. SQLite's log of the one before must be gone by then, for it would be replayed into
//! the other: the database before is closed with its log written back, and kept beside under another name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::Connection;

use crate::{
    archive::{self, ArchiveError},
    audit::{self, Head, VerifyError},
    cli::chain,
    db::{self, DbError, Migration},
    files, human,
    lock::{self, Lock, LockError},
};

/// A database is not larger: that of a hundred thousand accounts, with its log, is far smaller.
const MAX_BYTES: u64 = 64 << 30;

/// A snapshot, and whose it is to be.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The service, as its snapshots name it.
    pub service: &'static str,
    /// Its schema.
    pub migrations: &'a [Migration],
    /// Its database, which need not be there.
    pub database: &'a Path,
    /// What `snapshot` has written.
    pub archive: &'a Path,
}

/// What was found in a snapshot whose database is whole, and whose log is as it was written.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the database's file.
    pub sha256: String,
    /// Rows of its audit log.
    pub rows: u64,
    /// The last of them.
    pub head: Option<Head>,
}

/// What was done.
#[derive(Clone, Debug)]
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
    #[error("{path} is no snapshot of {service}: it must hold {service}.db alone")]
    Content {
        /// The snapshot.
        path: PathBuf,
        /// The service.
        service: &'static str,
    },
    /// Larger than it may be here.
    #[error(
        "what is in {path} is larger than {}, which is what it may take of the {} that the disk has left: services on it need the rest; make room",
        human::bytes(*.limit), human::bytes(*.room)
    )]
    Room {
        /// The snapshot.
        path: PathBuf,
        /// Bytes that are left.
        room: u64,
        /// Of those, what it may take.
        limit: u64,
    },
    /// SQLite finds it damaged.
    #[error("the database in {path} is damaged: {problem}")]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Somebody changed its schema.
    #[error(
        "the database in {path} {flaw}: somebody else has changed it; restore another snapshot"
    )]
    Foreign {
        /// The snapshot.
        path: PathBuf,
        /// What of it: which object.
        flaw: String,
    },
    /// Somebody changed it.
    #[error("the audit log in {path} is not as it was written: {problem}")]
    Audit {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        problem: String,
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
    /// SQLite refused.
    #[error("cannot read or write a database")]
    Sqlite(#[from] rusqlite::Error),
    /// The service runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Puts the database of a snapshot in its place. `prepare` is given what is to be there, and may refuse or change it; a database that is there is
/// replaced if that is meant.
///
/// # Errors
/// [`RestoreError`], and those of `prepare`; what was there is there.
pub fn restore<E: From<RestoreError>>(
    snapshot: Snapshot<'_>,
    replace: bool,
    prepare: impl FnOnce(&mut Connection, &Found) -> Result<(), E>,
) -> Result<Restored, E> {
    let archive = snapshot.find()?;
    let snapshot = Snapshot {
        archive: &archive,
        ..snapshot
    };
    let _lock = Lock::of(snapshot.database).map_err(RestoreError::from)?;
    // Where links lead: they stay, and the file stays on its disk.
    let database = lock::real(snapshot.database).map_err(failed("find", snapshot.database))?;
    let exists = database.exists();
    if exists && !replace {
        return Err(RestoreError::Exists(database).into());
    }
    let place = |file: &Path| -> Result<_, RestoreError> {
        let before = exists.then(|| set_aside(&database)).transpose()?;
        fs::rename(file, &database)
            .and_then(|()| files::inherited(&database))
            .and_then(|()| files::sync_entry(&database))
            .map_err(failed("replace", &database))?;
        Ok(before)
    };
    let staging = beside(&database, ".restoring");
    staged(&staging, || {
        let (file, mut db, found) = snapshot.open(&staging)?;
        prepare(&mut db, &found)?;
        close(db, &file)?;
        Ok(Restored {
            before: place(&file)?,
            audit_rows: found.rows,
            database: database.clone(),
        })
    })
}

/// Shows `look` the database of a snapshot, unpacked beside the one of the service, which may run and is not touched.
///
/// # Errors
/// [`RestoreError`], and those of `look`.
pub fn drill<T, E: From<RestoreError>>(
    snapshot: Snapshot<'_>,
    look: impl FnOnce(&mut Connection, &Found) -> Result<T, E>,
) -> Result<T, E> {
    let archive = snapshot.find()?;
    let snapshot = Snapshot {
        archive: &archive,
        ..snapshot
    };
    let database = lock::real(snapshot.database).map_err(failed("find", snapshot.database))?;
    let staging = beside(&database, ".verifying");
    let lock = Lock::of(&staging).map_err(RestoreError::from)?;
    let done = staged(&staging, || {
        let (_, mut db, found) = snapshot.open(&staging)?;
        look(&mut db, &found)
    });
    lock.remove();
    done
}

/// Does something with a directory that there is for that alone. The caller has the lock.
fn staged<T, E: From<RestoreError>>(
    staging: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    for left in [staging, &beside(staging, ".partial")] {
        // Of a run that was killed.
        remove_dir(left)?;
    }
    let done = work();
    let removed = remove_dir(staging);
    let done = done?;
    removed?;
    Ok(done)
}

impl Snapshot<'_> {
    /// Where it is: as it was named, or below the directory of the database.
    fn find(&self) -> Result<PathBuf, RestoreError> {
        let below = files::directory_of(self.database).join(self.archive);
        for path in [self.archive, &below] {
            match path.try_exists() {
                Ok(true) => return Ok(path.to_owned()),
                Ok(false) => {}
                Err(e) => return Err(failed("read", path)(e)),
            }
        }
        let all = archive::snapshots(self.service, &archive::backups(self.database));
        let hint = match all.last() {
            Some(last) => format!("the last one is {}", last.display()),
            None => format!(
                "`{} snapshot` writes them to backups beside the database",
                self.service
            ),
        };
        let path = self.archive.to_owned();
        Err(RestoreError::Missing { path, hint })
    }

    /// Unpacks it and looks whether it is whole.
    fn open(&self, staging: &Path) -> Result<(PathBuf, Connection, Found), RestoreError> {
        let (path, service) = (self.archive.to_owned(), self.service);
        // How long the file is stands before it, and no more than that is unpacked: what else is on the disk goes on.
        let room = files::room(files::directory_of(staging)).map_err(failed("look at", staging))?;
        // Not all: a service beside it is not to be short of room for it, and an older schema is brought up to date in what was unpacked.
        let limit = MAX_BYTES.min(files::spare(room));
        let manifest = match archive::read(self.archive, staging, limit) {
            Err(ArchiveError::TooLong(bytes)) if bytes == limit && limit < MAX_BYTES => {
                let (room, _) = room;
                return Err(RestoreError::Room { path, room, limit });
            }
            read => read?,
        };
        let name = format!("{service}.db");
        let [listed] = manifest.files.as_slice() else {
            return Err(RestoreError::Content { path, service });
        };
        if listed.name != name {
            return Err(RestoreError::Content { path, service });
        }
        let file = staging.join(name);
        let db = db::open(&file, self.migrations).map_err(|error| match error {
            // The file is gone when this is read.
            DbError::Foreign { flaw, .. } => RestoreError::Foreign {
                path: path.clone(),
                flaw,
            },
            other => other.into(),
        })?;
        let sha256 = listed.sha256.clone();
        let verified = self.check(&db)?;
        let found = Found {
            sha256,
            rows: verified.rows,
            head: verified.head,
        };
        Ok((file, db, found))
    }

    fn check(&self, db: &Connection) -> Result<audit::Verified, RestoreError> {
        let path = || self.archive.to_owned();
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
        audit::verify(db, None).map_err(|error| match error {
            VerifyError::Tampered(tampering) => RestoreError::Audit {
                path: path(),
                problem: tampering.to_string(),
            },
            other => damaged(chain(&other)),
        })
    }
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
            Err(RestoreError::Sqlite(error)) => {
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
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

#[cfg(test)]
mod tests;
