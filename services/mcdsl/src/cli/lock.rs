//! A lock between commands.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd::Uid};

use super::{Exit, Failure};
use crate::{
    files::{directory_of, inherited_open},
    human::duration_short,
    owner,
};

/// Between looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// What one command at a time does: flock(2) of a file, which stays. Who is killed lets go of it.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for so long at most until no other command has it; `does` is what that one does meanwhile. The file is for its owner alone, for whoever
    /// may open it may hold it; no link is followed to it.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] if nobody lets go of it; [`Exit::Refused`] if it is another's; [`Exit::Failure`] if it cannot be had.
    pub fn wait(path: &Path, limit: Duration, does: &str) -> Result<Self, Failure> {
        let failed = |e: io::Error| unlocked(path, &e);
        let mut file = open(path).map_err(failed)?;
        let deadline = Instant::now() + limit;
        loop {
            match file.try_lock() {
                Ok(()) if leads_to(path, &file) => return Ok(Self { _file: file }),
                // Somebody has removed it: who comes next locks another one.
                Ok(()) => file = open(path).map_err(failed)?,
                Err(TryLockError::Error(e)) => return Err(failed(e)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => {
                    let what = format!(
                        "another command {does} and has not ended within {}; its lock is {}",
                        duration_short(limit),
                        path.display()
                    );
                    return Err(Failure::new(Exit::Unavailable, what).hint("try again"));
                }
            }
        }
    }
}

fn leads_to(path: &Path, file: &File) -> bool {
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    let there = fs::symlink_metadata(path).map(place);
    there.is_ok_and(|there| file.metadata().is_ok_and(|own| place(own) == there))
}

fn unlocked(path: &Path, e: &io::Error) -> Failure {
    let (at, found) = (path.display(), fs::symlink_metadata(path));
    match found {
        Ok(found) if e.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!(
                "cannot lock {at}, a file of {}: {e}",
                owner::name(Uid::from_raw(found.uid()))
            );
            Failure::new(Exit::Refused, what).hint(
                "do this as that user, or remove the file while no command that locks it runs",
            )
        }
        _ => Failure::new(Exit::Failure, format_args!("cannot lock {at}: {e}")),
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
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // Else whoever may make files there could hold it for as long as he likes.
    let directory = fs::metadata(directory_of(path))?.uid();
    match [0, Uid::effective().as_raw(), directory].contains(&found.uid()) {
        true => Ok(file),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{chown, symlink},
        sync::Mutex,
    };

    use super::*;

    fn wait(path: &Path) -> Result<FileLock, Failure> {
        FileLock::wait(path, Duration::from_mins(10), "changes it")
    }

    #[test]
    fn one_command_at_a_time_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (commands, times) = (4, 5);
        let written = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for command in 0..commands {
                let (path, written) = (&path, &written);
                scope.spawn(move || {
                    for _ in 0..times {
                        let _lock = wait(path).unwrap();
                        for _ in 0..3 {
                            written.lock().unwrap().push(command);
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        let written = written.into_inner().unwrap();
        assert_eq!(written.len(), 3 * commands * times);
        for turn in written.chunks(3) {
            assert!(turn.iter().all(|by| *by == turn[0]), "{written:?}");
        }
    }

    #[test]
    fn one_that_was_removed_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = wait(&path).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait(&path).unwrap());
            // Whether he has opened it by then or not.
            fs::remove_file(&path).unwrap();
            drop(held);
            let _held = waits.join().unwrap();
            FileLock::wait(&path, Duration::ZERO, "").unwrap_err();
        });
    }

    #[test]
    fn who_waits_in_vain_says_for_what() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _held = wait(&path).unwrap();
        let vain = FileLock::wait(&path, Duration::ZERO, "writes a file").unwrap_err();
        assert_eq!(vain.exit, Exit::Unavailable);
        let said = vain.message.contains("another command writes a file");
        assert!(said && vain.message.contains("lock is /"), "{vain}");
    }

    #[test]
    fn whose_it_is_is_told_who_may_not_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            unlocked(&path, &denied).exit,
            Exit::Failure,
            "there is none"
        );
        drop(wait(&path).unwrap());
        let refused = unlocked(&path, &denied);
        assert_eq!(refused.exit, Exit::Refused);
        let own = owner::name(Uid::from_raw(fs::metadata(&path).unwrap().uid()));
        let said = refused.message.contains(&format!("a file of {own}"));
        assert!(said, "{refused}");
    }

    /// Run as root, as all tests are.
    #[test]
    fn what_somebody_else_left_there_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        for (of_directory, of_file, fine) in [
            (0, 0, true),
            (0, 1234, false),
            (1234, 1234, true),
            (1234, 0, true),
            (1234, 4321, false),
        ] {
            fs::write(&path, "").unwrap();
            chown(directory.path(), Some(of_directory), None).unwrap();
            chown(&path, Some(of_file), None).unwrap();
            let had = wait(&path);
            assert_eq!(had.is_ok(), fine, "{of_file} in {of_directory}'s");
            if let Err(refused) = had {
                assert_eq!(refused.exit, Exit::Refused, "{refused}");
            }
        }
    }

    #[test]
    fn no_link_is_followed_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink(at("elsewhere"), at("lock")).unwrap();
        let refused = wait(&at("lock")).unwrap_err();
        assert_eq!(refused.exit, Exit::Failure);
        assert!(!at("elsewhere").exists());
    }
}
