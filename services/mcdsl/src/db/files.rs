//! Whether the files of an open database are still in their place.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::DbError;

/// The files of an open database, to notice that somebody removes or replaces them: SQLite would go on with those that it
/// has open, and what is committed there is lost with the process.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    opened: [Option<(u64, u64)>; 2],
}

impl Files {
    /// Those of the database that was just opened at `path`.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            opened: identities(path),
        }
    }

    /// Whether they are still those.
    ///
    /// # Errors
    /// [`DbError::Moved`].
    pub fn check(&self) -> Result<(), DbError> {
        if identities(&self.path) == self.opened {
            return Ok(());
        }
        Err(DbError::Moved {
            path: self.path.clone(),
        })
    }
}

/// Of the database and its write-ahead log. By name: to open and close the file here would drop SQLite's locks on it.
fn identities(path: &Path) -> [Option<(u64, u64)>; 2] {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [path.as_os_str(), &log].map(|file| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.dev(), found.ino()))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Migration, open, open_as_it_is},
        *,
    };

    const V1: Migration = Migration {
        version: 1,
        name: "start",
        sql: "CREATE TABLE t (x INTEGER NOT NULL) STRICT",
    };

    #[test]
    fn what_is_removed_or_replaced_is_noticed() {
        for (what, name) in [("the database", "a.db"), ("its log", "a.db-wal")] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            let db = open(&path, &[V1]).unwrap();
            let files = Files::of(&path);
            db.execute("INSERT INTO t VALUES (1)", []).unwrap();
            drop(open_as_it_is(&path).unwrap());
            files.check().unwrap();
            let kept = dir.path().join("kept");
            std::fs::rename(dir.path().join(name), &kept).unwrap();
            let moved = |files: &Files| matches!(files.check(), Err(DbError::Moved { .. }));
            assert!(moved(&files), "{what} is removed");
            std::fs::copy(&kept, dir.path().join(name)).unwrap();
            assert!(moved(&files), "{what} is replaced");
            std::fs::rename(&kept, dir.path().join(name)).unwrap();
            files.check().unwrap();
        }
    }
}
