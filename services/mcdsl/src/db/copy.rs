//! Copies of a database that is in use.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, DbError, MODE};
use crate::files;

/// Opens a database that exists, whatever its schema, and changes nothing of it: for a copy by a program that is newer, or
/// older, than the one that runs on it.
///
/// # Errors
/// [`DbError`].
pub fn open_as_it_is(path: &Path) -> Result<Connection, DbError> {
    // Writable, or what a killed process left in the write-ahead log could not be read.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|db| {
        db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(db)
    });
    opened.map_err(|source| DbError::Sqlite {
        path: path.to_owned(),
        what: "open it",
        source,
    })
}

/// Copies a database consistently while it is in use, into a new file that only its owner can read.
///
/// # Errors
/// [`DbError`] if the file exists or cannot be written; no partial file is left behind.
pub fn snapshot(db: &Connection, to: &Path) -> Result<(), DbError> {
    let create = |source| DbError::SnapshotFile {
        path: to.to_owned(),
        source,
    };
    // SQLite takes a name that begins with "file:" for a URI, and ":memory:" for no file.
    let absolute = std::path::absolute(to).map_err(create)?;
    let name = absolute.to_str().ok_or_else(|| {
        let reason = "its name is not UTF-8";
        create(io::Error::new(io::ErrorKind::InvalidFilename, reason))
    })?;
    // VACUUM INTO fills an empty file, and would give a new one the umask's mode.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(to)
        .map_err(create)?;
    let copied = db
        .execute("VACUUM INTO ?1", [name])
        .map_err(|source| DbError::Sqlite {
            path: to.to_owned(),
            what: "copy the database into it",
            source,
        })
        .and_then(|_| files::sync(to).map_err(create));
    if copied.is_err() {
        // The first error is the one to tell.
        for end in ["", "-journal", "-wal", "-shm"] {
            let mut file = to.as_os_str().to_owned();
            file.push(end);
            let _ = std::fs::remove_file(file);
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{
        super::{Migration, open},
        *,
    };

    const V1: Migration = Migration {
        version: 1,
        name: "start",
        sql: "CREATE TABLE t (x INTEGER NOT NULL) STRICT",
    };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_copy_does_not_migrate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = open(&path, &[V1]).unwrap();
        let copy = dir.path().join("copy.db");
        snapshot(&open_as_it_is(&path).unwrap(), &copy).unwrap();
        drop(db);
        for path in [path, copy] {
            drop(open(&path, &[V1]).unwrap());
        }
        assert!(open_as_it_is(&dir.path().join("none.db")).is_err());
    }

    #[test]
    fn a_snapshot_has_the_name_that_was_given() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("a.db"), &[V1]).unwrap();
        // Relative ones are what SQLite reads otherwise; the tests' own directory is the crate's.
        for name in [":memory:", "file:mcdsl-snapshot.db"] {
            let copied = snapshot(&db, Path::new(name));
            let length = std::fs::metadata(name).map(|m| m.len());
            let _ = std::fs::remove_file(name);
            let _ = std::fs::remove_file("mcdsl-snapshot.db");
            copied.unwrap();
            assert!(length.unwrap() > 0, "{name}");
        }
        let odd = dir.path().join(OsStr::from_bytes(b"\xff.db"));
        assert!(matches!(
            snapshot(&db, &odd),
            Err(DbError::SnapshotFile { .. })
        ));
        assert!(!odd.exists());
    }

    #[test]
    fn snapshots_are_private_copies() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("a.db"), &[V1]).unwrap();
        db.execute("INSERT INTO t VALUES (7)", []).unwrap();
        let copy = dir.path().join("copy.db");
        snapshot(&db, &copy).unwrap();
        assert_eq!(mode(&copy), 0o600);
        let copied = open(&copy, &[V1]).unwrap();
        let x: i64 = copied
            .query_row("SELECT x FROM t", [], |r| r.get(0))
            .unwrap();
        assert_eq!(x, 7);
        let before = std::fs::read(&copy).unwrap();
        assert!(matches!(
            snapshot(&db, &copy),
            Err(DbError::SnapshotFile { .. })
        ));
        assert_eq!(
            std::fs::read(&copy).unwrap(),
            before,
            "the existing file is untouched"
        );
    }
}
