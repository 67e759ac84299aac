//! A lock between commands.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;

use super::{Exit, Failure};
use crate::files::inherited_open;

/// Whoever has it waits for one answer of a server, for 30 s at most.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Between looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// What one command at a time does: flock(2) of a file, which stays. Who is killed lets go of it.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits until no other command has it. The file is for its owner alone, for whoever may open it may hold it; no link is followed to it.
    ///
    /// # Errors
    /// [`Exit::Failure`] if it cannot be had, or nobody lets go of it.
    pub fn wait(path: &Path) -> Result<Self, Failure> {
        let failed = |e: &dyn std::fmt::Display| {
            let what = format!("cannot lock {}: {e}", path.display());
            Failure::new(Exit::Failure, what)
        };
        let file = open(path).map_err(|e| failed(&e))?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(e)) => return Err(failed(&e)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => {
                    return Err(failed(&"another command has it and does not go on"));
                }
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(flags.bits());
    let made = options.clone().create_new(true).open(path);
    let file = match made {
        Ok(file) => {
            inherited_open(&file, path)?;
            file
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
        Err(e) => return Err(e),
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::mpsc};

    use super::*;

    #[test]
    fn one_command_at_a_time_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = FileLock::wait(&path).unwrap();
        let (told, heard) = mpsc::channel();
        thread::scope(|scope| {
            let (path, told) = (path.clone(), told);
            scope.spawn(move || {
                told.send("waits").unwrap();
                let second = FileLock::wait(&path).unwrap();
                told.send("has it").unwrap();
                drop(second);
            });
            assert_eq!(heard.recv().unwrap(), "waits");
            assert!(
                File::options()
                    .write(true)
                    .open(directory.path().join("lock"))
                    .unwrap()
                    .try_lock()
                    .is_err()
            );
            assert!(heard.try_recv().is_err());
            drop(first);
            assert_eq!(heard.recv().unwrap(), "has it");
        });
    }

    #[test]
    fn no_link_is_followed_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink(at("elsewhere"), at("lock")).unwrap();
        let refused = FileLock::wait(&at("lock")).unwrap_err();
        assert_eq!(refused.exit, Exit::Failure);
        assert!(!at("elsewhere").exists());
    }
}
