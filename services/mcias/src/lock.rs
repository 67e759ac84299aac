//! One process at a time has the database to itself: the service, or a command that changes it without the service.
//!
//! flock(2) on a file beside it: a process that is killed lets go, and the file may stay.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mcdsl::files::directory_of;

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
        let path = beside(database).map_err(|source| LockError::File {
            path: database.to_owned(),
            source,
        })?;
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

/// The file beside the database itself: whatever links lead there, all find the same one.
fn beside(database: &Path) -> io::Result<PathBuf> {
    let real = match database.canonicalize() {
        // A link that leads nowhere would be one file now and another one later.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !database.is_symlink() => {
            let name = database.file_name().ok_or(e)?;
            directory_of(database).canonicalize()?.join(name)
        }
        found => found?,
    };
    let mut path = real.into_os_string();
    path.push(".lock");
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

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

    #[test]
    fn it_is_the_databases_by_whichever_way() {
        let directory = tempfile::tempdir().unwrap();
        let (real, other) = (
            directory.path().join("real"),
            directory.path().join("other"),
        );
        fs::create_dir(&real).unwrap();
        symlink(&real, &other).unwrap();
        let database = real.join("a.db");
        let linked = directory.path().join("linked.db");
        symlink(&database, &linked).unwrap();
        assert!(
            matches!(Lock::of(&linked), Err(LockError::File { .. })),
            "a link that leads nowhere"
        );
        for there in [false, true] {
            if there {
                fs::write(&database, "").unwrap();
            }
            let held = Lock::of(&database).unwrap();
            for (description, path, same) in [
                ("a directory's other name", other.join("a.db"), true),
                ("a detour", real.join("../other/./a.db"), true),
                ("a link to the database", linked.clone(), there),
                ("another database", real.join("b.db"), false),
            ] {
                let held = matches!(Lock::of(&path), Err(LockError::Held(_)));
                assert_eq!(held, same, "{description}");
            }
            drop(held);
        }
    }
}
