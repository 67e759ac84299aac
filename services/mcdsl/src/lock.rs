//! One process at a time has the database to itself: the service, or a command that changes it without the service.
//!
//! flock(2), on a file beside it and on the database itself: a process that is killed lets go, and the file may stay. The one beside keeps its
//! place while another database is put there; the database itself is the same by whatever name, hard link or mount, and after the file beside
//! it was removed. Both are for local file systems, as SQLite's log is.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    mem::ManuallyDrop,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::files::{directory_of, inherited};

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    beside: File,
    path: PathBuf,
    /// `None`: there is none yet.
    _itself: Option<Itself>,
}

/// The database file, locked by flock(2), which is no matter of SQLite's own locks (fcntl(2)).
///
/// Invariant: it is never closed. To close any descriptor of a file ends all locks of fcntl(2) that the process has on it, SQLite's among them,
/// whose connections may outlive this by a moment.
#[derive(Debug)]
struct Itself(ManuallyDrop<File>);

impl Drop for Itself {
    fn drop(&mut self) {
        // It fails for no reason that a descriptor of ours could have; the process' end unlocks it in any case.
        let _ = self.0.unlock();
    }
}

/// Why it is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// By another process.
    #[error(
        "the database {0} is in use by another process; stop the service, or wait for the command"
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
        let locked = |file: &File| match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(database.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        };
        locked(&file)?;
        match is_at(&file, &path).and_then(|same| same.then(|| inherited(&path)).transpose()) {
            Ok(Some(())) => {}
            Ok(None) => return Err(LockError::Held(database.to_owned())),
            Err(source) => return Err(failed(source)),
        }
        let itself = match File::open(database) {
            Ok(file) => Some(Itself(ManuallyDrop::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(LockError::File {
                    path: database.to_owned(),
                    source,
                });
            }
        };
        itself.as_ref().map_or(Ok(()), |itself| locked(&itself.0))?;
        Ok(Self {
            beside: file,
            path,
            _itself: itself,
        })
    }

    /// Lets go, and leaves no file beside.
    pub(crate) fn remove(self) {
        // If it stays it is in nobody's way.
        let _ = fs::remove_file(&self.path);
        drop(self.beside);
    }
}

/// Whether a file is the one of that name; another one had it last, and removed it before this one was locked.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    let found = fs::metadata(path);
    Ok(found.is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

/// Where the database itself is or is to be, whatever links lead there.
///
/// # Errors
/// The system's; for a link that leads nowhere too, which would be one file now and another one later.
pub fn real(database: &Path) -> io::Result<PathBuf> {
    match database.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !database.is_symlink() => {
            let name = database.file_name().ok_or(e)?;
            Ok(directory_of(database).canonicalize()?.join(name))
        }
        found => found,
    }
}

/// The file beside the database itself: all find the same one.
fn beside(database: &Path) -> io::Result<PathBuf> {
    let mut path = real(database)?.into_os_string();
    path.push(".lock");
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
        Lock::of(&path).unwrap().remove();
        assert!(!beside(&path).unwrap().exists(), "nothing is left");
        assert!(Lock::of(&path).is_ok(), "let go, and removed");
        let nowhere = directory.path().join("none/a.db");
        assert!(matches!(Lock::of(&nowhere), Err(LockError::File { .. })));
    }

    #[test]
    fn it_is_the_file_by_whatever_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        fs::write(&path, "").unwrap();
        let link = directory.path().join("b.db");
        fs::hard_link(&path, &link).unwrap();
        let held = Lock::of(&path).unwrap();
        let is_held = |path: &Path| matches!(Lock::of(path), Err(LockError::Held(_)));
        assert!(is_held(&link), "a hard link");
        fs::remove_file(directory.path().join("a.db.lock")).unwrap();
        assert!(is_held(&path), "without the file beside it");
        // Another one in its place, as `restore` puts it there.
        fs::remove_file(&link).unwrap();
        fs::write(&link, "").unwrap();
        assert!(!is_held(&link), "another database");
        drop(held);
        assert!(!is_held(&path), "let go");
    }

    /// SQLite's locks are the process': to close another descriptor of the file would end them.
    #[test]
    fn sqlite_keeps_its_own_locks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE t (x); BEGIN EXCLUSIVE")
            .unwrap();
        let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
        let posix = || {
            let all = fs::read_to_string("/proc/locks").unwrap();
            let of = |line: &&str| line.contains("POSIX") && line.contains(&inode);
            all.lines().filter(of).count()
        };
        let before = posix();
        assert!(before > 0, "SQLite has some");
        drop(Lock::of(&path).unwrap());
        assert_eq!(posix(), before);
        drop(db);
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
