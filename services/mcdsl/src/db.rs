//! SQLite, opened the same way by every service: WAL, foreign keys, `synchronous = FULL` (a commit that was
//! acknowledged survives a power cut), readable by its owner only, numbered migrations.
//!
//! The text of each applied migration is kept in the database, and compared at every start: exact where a
//! checksum would only be likely, it needs no hash, and shows an operator what was run. So is the schema that they
//! made ([`schema`]): a database in which somebody has put a trigger is not opened.

mod asker;
mod copy;
mod files;
mod full;
mod group;
mod long;
mod room;
mod schema;
mod store;

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

pub use asker::{Asker, asked_by};
pub use copy::{open_as_it_is, snapshot};
pub use files::Files;
pub(crate) use full::damage;
pub use full::is_unwritable;
pub use long::{Awaited, to_the_end};
use rusqlite::{Connection, TransactionBehavior};
pub use store::{Store, StoreError, Unfit};

/// Statements that a connection keeps as they were read: more than a service has that are run often.
const STATEMENTS: usize = 64;
/// How long a statement waits for another process's lock (the CLI's snapshot, a backup).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Owner only.
const MODE: u32 = 0o600;

/// One step of the schema. Never changes once released; a later step amends it.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3, … without gaps.
    pub version: u32,
    /// For people.
    pub name: &'static str,
    /// Statements, run in one transaction.
    pub sql: &'static str,
}

impl Migration {
    /// A step.
    #[must_use]
    pub const fn new(version: u32, name: &'static str, sql: &'static str) -> Self {
        Self { version, name, sql }
    }
}

/// A failure to open, migrate or copy a database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file cannot be created or opened.
    #[error("cannot create or open the database {path}; its directory must exist and be writable")]
    File {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the database {path}: cannot {what}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A migration failed; the database is as it was before it.
    #[error("the database {path}: migration {version} ({name}) failed and was undone")]
    Migration {
        /// The database.
        path: PathBuf,
        /// Its number.
        version: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A released migration is not what it was.
    #[error(
        "the database {path} was made with another text of migration {version} ({name}); a released \
         migration must never change: add a new one"
    )]
    Changed {
        /// The database.
        path: PathBuf,
        /// Its number.
        version: u32,
        /// Its name in the program.
        name: &'static str,
    },
    /// A later program has migrated it.
    #[error(
        "the database {path} has schema {found}, this program knows {known}; run the newer program, or \
         restore a snapshot made by this one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The database's schema.
        found: u32,
        /// The program's.
        known: u32,
    },
    /// Somebody has changed its schema.
    #[error(
        "the database {path} {flaw}: somebody else has changed it; keep it as it is, find out who, and restore a snapshot of before"
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What of it: which object.
        flaw: String,
    },
    /// Its pages are not as they were written.
    #[error(
        "the database {path} is damaged ({flaw}): keep it as it is, look after the disk, and put a snapshot in its place by `restore`"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says of it.
        flaw: String,
    },
    /// Removed or replaced while it is open.
    #[error(
        "the database {path} or its -wal was removed or replaced while the daemon has it open: what is changed now would be \
         lost with the daemon; put the database, or a snapshot, in its place and restart it"
    )]
    Moved {
        /// The database.
        path: PathBuf,
    },
    /// The target of a snapshot exists or cannot be made.
    #[error("cannot create the snapshot {path}; an existing file is never overwritten")]
    SnapshotFile {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens (creating if need be) the database and brings its schema up to date.
///
/// # Errors
/// [`DbError`]; the database is then as it was, up to the last migration that succeeded.
pub fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, DbError> {
    create_private(path)?;
    let sqlite = |what| {
        move |source| DbError::Sqlite {
            path: path.to_owned(),
            what,
            source,
        }
    };
    let mut db = Connection::open(path).map_err(sqlite("open it"))?;
    configure(&db).map_err(sqlite("set it up (WAL, foreign keys)"))?;
    migrate(&mut db, path, migrations)?;
    Ok(db)
}

/// SQLite gives `-wal` and `-shm` the mode of the database, so that it must be right from the start.
fn create_private(path: &Path) -> Result<(), DbError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .and_then(|f| {
            if f.metadata()?.permissions().mode() & 0o777 != MODE {
                f.set_permissions(Permissions::from_mode(MODE))?;
            }
            crate::files::inherited(path)
        });
    file.map_err(|source| DbError::File {
        path: path.to_owned(),
        source,
    })
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Answers the mode now in force, hence a query.
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // 16 MiB of log, not 4, before it is written into the database: the pages that every change touches are then written there less often.
    db.query_row("PRAGMA wal_autocheckpoint = 4000", [], |_| Ok(()))?;
    // KiB, of the connection that writes.
    db.pragma_update(None, "cache_size", -8192)?;
    // What a savepoint could bring back is kept in memory, not in a file somewhere else.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten, in pages that are free from then on as well.
    db.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    db.pragma_update(None, "trusted_schema", false)
}

fn migrate(db: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), DbError> {
    debug_assert!(
        migrations.iter().zip(1..).all(|(m, n)| m.version == n),
        "migrations are numbered from 1 without gaps"
    );
    let sqlite = |source| DbError::Sqlite {
        path: path.to_owned(),
        what: "read which migrations it has",
        source,
    };
    // Before anything is written: what is foreign there may be a trigger.
    check(db, path, migrations)?;
    db.execute_batch(schema::MIGRATIONS).map_err(sqlite)?;
    if instance(db).is_none() {
        name(db).map_err(|source| DbError::Sqlite {
            path: path.to_owned(),
            what: "give it an identity",
            source,
        })?;
    }
    let found = applied(db, path, migrations)?;
    for m in migrations.iter().filter(|m| m.version > found) {
        apply(db, m).map_err(|source| DbError::Migration {
            path: path.to_owned(),
            version: m.version,
            name: m.name,
            source,
        })?;
    }
    Ok(())
}

/// Whether [`open`] could bring the schema of a database that was opened as it is up to date; the last migration that it has. An empty one has none.
///
/// # Errors
/// [`DbError::Newer`], [`DbError::Changed`] and [`DbError::Foreign`], or if it cannot be read.
pub fn check(db: &Connection, path: &Path, migrations: &[Migration]) -> Result<u32, DbError> {
    let sqlite = |source| DbError::Sqlite {
        path: path.to_owned(),
        what: "read its schema",
        source,
    };
    // All of one commit: another program may be migrating it.
    let _one = db.unchecked_transaction().map_err(sqlite)?;
    if schema::objects(db).map_err(sqlite)?.is_empty() {
        return Ok(0);
    }
    let found = applied(db, path, migrations)?;
    let made = migrations.iter().filter(|m| m.version <= found);
    match schema::flaw(db, made).map_err(sqlite)? {
        None => Ok(found),
        Some(flaw) => Err(DbError::Foreign {
            path: path.to_owned(),
            flaw,
        }),
    }
}

/// The last migration that a database has; each has the text that it had.
fn applied(db: &Connection, path: &Path, migrations: &[Migration]) -> Result<u32, DbError> {
    let sqlite = |source| DbError::Sqlite {
        path: path.to_owned(),
        what: "read which migrations it has",
        source,
    };
    let found: u32 = db
        .query_row("SELECT ifnull(max(version), 0) FROM migrations", [], |r| {
            r.get(0)
        })
        .map_err(sqlite)?;
    let known = migrations.last().map_or(0, |m| m.version);
    if found > known {
        return Err(DbError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for m in migrations.iter().filter(|m| m.version <= found) {
        let applied: String = db
            .query_row(
                "SELECT sql FROM migrations WHERE version = ?1",
                [m.version],
                |r| r.get(0),
            )
            .map_err(sqlite)?;
        if applied != m.sql {
            return Err(DbError::Changed {
                path: path.to_owned(),
                version: m.version,
                name: m.name,
            });
        }
    }
    Ok(found)
}

/// Characters of an identity.
const IDENTITY: usize = 8;

/// What tells a database from others of the same service, and is in its copies: hexadecimal. `None`: no [`open`] has made one yet.
#[must_use]
pub fn instance(db: &Connection) -> Option<String> {
    let id = db.query_row("SELECT id FROM instance", [], |row| row.get(0));
    let hex = |id: &String| id.len() == IDENTITY && id.bytes().all(|b| b.is_ascii_hexdigit());
    id.ok().filter(hex)
}

/// Two programs at once make one.
fn name(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(schema::INSTANCE)?;
    db.execute_batch("INSERT OR IGNORE INTO instance VALUES (1, lower(hex(randomblob(4))))")
}

fn apply(db: &mut Connection, m: &Migration) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(m.sql)?;
    tx.execute(
        "INSERT INTO migrations (version, name, sql) VALUES (?1, ?2, ?3)",
        (m.version, m.name, m.sql),
    )?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Migration = Migration {
        version: 1,
        name: "start",
        sql: "CREATE TABLE t (x INTEGER NOT NULL) STRICT",
    };
    const V2: Migration = Migration {
        version: 2,
        name: "more",
        sql: "ALTER TABLE t ADD COLUMN y TEXT",
    };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn opens_private_and_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = open(&path, &[V1]).unwrap();
        db.execute("INSERT INTO t VALUES (1)", []).unwrap();
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
        }
        let pragma = |name: &str| -> String {
            db.query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                [],
                |r| r.get(0),
            )
            .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "2");
        assert_eq!(pragma("foreign_keys"), "1");
        assert_eq!(pragma("secure_delete"), "1");
    }

    #[test]
    fn each_has_an_identity_that_its_copies_have() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let one = open(&at("one.db"), &[V1]).unwrap();
        let id = instance(&one).unwrap();
        assert_eq!(id.len(), IDENTITY);
        snapshot(&one, &at("copy.db")).unwrap();
        for (name, same) in [("one.db", true), ("copy.db", true), ("two.db", false)] {
            let other = open(&at(name), &[V1]).unwrap();
            assert_eq!(instance(&other) == Some(id.clone()), same, "{name}");
        }
        one.execute("UPDATE instance SET id = '../../x/'", [])
            .unwrap();
        assert_eq!(instance(&one), None, "what is in no file's name");
        assert_eq!(instance(&Connection::open_in_memory().unwrap()), None);
    }

    #[test]
    fn a_readable_database_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(open(&path, &[V1]).unwrap());
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(open(&path, &[V1]).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn migrations_run_once_and_never_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(open(&path, &[V1]).unwrap());
        let db = open(&path, &[V1, V2]).unwrap();
        db.execute("INSERT INTO t VALUES (1, 'one')", []).unwrap();
        drop(db);
        assert!(matches!(
            open(&path, &[V1]),
            Err(DbError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
        let changed = Migration {
            sql: "CREATE TABLE t (x TEXT)",
            ..V1
        };
        assert!(matches!(
            open(&path, &[changed, V2]),
            Err(DbError::Changed { version: 1, .. })
        ));
    }

    #[test]
    fn a_failed_migration_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let broken = Migration {
            sql: "CREATE TABLE half (x); SELECT nonsense FROM nowhere",
            ..V2
        };
        assert!(matches!(
            open(&path, &[V1, broken]),
            Err(DbError::Migration { version: 2, .. })
        ));
        let db = open(&path, &[V1, V2]).unwrap();
        assert!(db.prepare("SELECT * FROM half").is_err());
    }
}
