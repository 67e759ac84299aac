//! One process at a time has the database to itself: the service, or a command that changes it without the service.
//!
//! flock(2) on a file beside it: a process that is killed lets go, and the file may stay.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why it is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// By another process.
    #[error(
        "the database {0} is in use by another mcias; stop the service, or wait for the command"
    )]
    Held(PathBuf),
    /// The file cannot be made or locked.
    #[error("cannot lock {path}; its directory must exist and be writable")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Of a database, whether it exists or not.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn of(database: &Path) -> Result<Self, LockError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(database.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let held = Lock::of(&path).unwrap();
        assert!(matches!(Lock::of(&path), Err(LockError::Held(_))));
        assert!(Lock::of(&directory.path().join("b.db")).is_ok(), "another");
        drop(held);
        assert!(Lock::of(&path).is_ok(), "let go");
        let nowhere = directory.path().join("none/a.db");
        assert!(matches!(Lock::of(&nowhere), Err(LockError::File { .. })));
    }
}
