//! Files that hold secrets, and what belongs to them: for their owner alone, whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use tempfile::NamedTempFile;

use super::{Exit, Failure};
use crate::files::{directory_of, sync_entry};

/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;

/// A file that is about to be written, mode 0600. It is made before the secret is: a place that cannot be written is found out while nothing
/// is lost.
#[derive(Debug)]
pub struct PrivateFile {
    temporary: NamedTempFile,
    path: PathBuf,
    /// What is there meanwhile stays.
    new: bool,
}

impl PrivateFile {
    /// Beside `path`, which it replaces in the end.
    ///
    /// # Errors
    /// [`Exit::Failure`] if its directory cannot be written, or something other than a file is there.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        // A pipe or a device would be replaced by a file.
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            let what = format!("{} is no file to be replaced", path.display());
            return Err(Failure::usage(what));
        }
        Self::temporary(path, false)
    }

    /// The same, of a file that there is not yet.
    ///
    /// # Errors
    /// [`Exit::Refused`] if something is there; [`Exit::Failure`] if its directory cannot be written.
    pub fn create_new(path: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
        Self::temporary(path, true)
    }

    fn temporary(path: &Path, new: bool) -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix(".mc-")
            .tempfile_in(directory_of(path))
            .map_err(|e| match (e.kind(), directory_of(path)) {
                (io::ErrorKind::NotFound, directory) => Failure::usage(format_args!(
                    "cannot write {}: there is no directory {}",
                    path.display(),
                    directory.display()
                )),
                // Not by the name of the file beside it, which nobody knows.
                _ => failed(path, &io::Error::from(e.kind())),
            })?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
            new,
        })
    }

    /// What is to be in it is no secret: all may read it (0644), whatever the umask.
    ///
    /// # Errors
    /// [`Exit::Failure`].
    pub fn for_all(self) -> Result<Self, Failure> {
        let mode = fs::Permissions::from_mode(0o644);
        let set = self.temporary.as_file().set_permissions(mode);
        set.map_err(|e| failed(&self.path, &e))?;
        Ok(self)
    }

    /// Takes so many bytes of the disk for it: a disk that is full is found out while nothing is lost, too.
    ///
    /// # Errors
    /// [`Exit::Failure`].
    pub fn reserve(mut self, bytes: usize) -> Result<Self, Failure> {
        let path = &self.path;
        self.temporary
            .write_all(&vec![0; bytes])
            .and_then(|()| self.temporary.as_file().sync_all())
            .and_then(|()| self.temporary.rewind())
            .map_err(|e| failed(path, &e))?;
        Ok(self)
    }

    /// Writes it, to stay through a crash.
    ///
    /// # Errors
    /// [`Exit::Failure`], or [`Exit::Refused`] if something is there by now that must not be replaced; what was at the path before is still
    /// there.
    pub fn write(self, contents: &[u8]) -> Result<(), Failure> {
        let path = self.path.clone();
        self.fill(contents)?.persist().map_err(|e| e.at(&path))
    }

    /// Writes it beside its place: of files that belong together none is put there before all are written.
    ///
    /// # Errors
    /// [`Exit::Failure`]; what was at the path before is still there.
    pub fn fill(mut self, contents: &[u8]) -> Result<FilledFile, Failure> {
        let path = &self.path;
        self.temporary
            .write_all(contents)
            .and_then(|()| self.temporary.as_file().set_len(contents.len() as u64))
            .and_then(|()| self.temporary.as_file().sync_all())
            .map_err(|e| failed(path, &e))?;
        Ok(FilledFile(self))
    }
}

/// A file that is written, and not yet in its place.
#[derive(Debug)]
pub struct FilledFile(PrivateFile);

/// Why it is not, and itself.
struct Unplaced(io::Error, Option<NamedTempFile>);

impl Unplaced {
    fn at(&self, path: &Path) -> Failure {
        match self.0.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(path, &self.0),
        }
    }
}

impl FilledFile {
    /// Puts it into its place, to stay through a crash. If that fails it stays where it was written, and the failure says where: what is in it may
    /// be nowhere else.
    ///
    /// # Errors
    /// As [`PrivateFile::write`].
    pub fn place(self) -> Result<(), Failure> {
        let path = self.0.path.clone();
        self.persist().map_err(|unplaced| {
            let failure = unplaced.at(&path);
            let kept = unplaced.1.and_then(|file| file.keep().ok());
            match kept {
                Some((_, kept)) => failure.hint(format_args!("it is in {}", kept.display())),
                None => failure,
            }
        })
    }

    fn persist(self) -> Result<(), Unplaced> {
        let PrivateFile {
            temporary,
            path,
            new,
        } = self.0;
        let persisted = match new {
            true => temporary.persist_noclobber(&path),
            false => temporary.persist(&path),
        };
        persisted.map_err(|e| Unplaced(e.error, Some(e.file)))?;
        sync_entry(&path).map_err(|e| Unplaced(e, None))
    }
}

fn exists(path: &Path) -> Failure {
    let what = format!("{} exists, and is not overwritten", path.display());
    Failure::new(Exit::Refused, what)
        .hint("name a file that there is not yet, or remove that one first")
}

fn failed(path: &Path, e: &io::Error) -> Failure {
    let what = format!("cannot write {}: {e}", path.display());
    Failure::new(Exit::Failure, what)
}

/// Makes a directory for its owner alone, and refuses one that is not.
pub(super) fn private_directory(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| {
            let what = format!("cannot make the directory {}: {e}", path.display());
            Failure::new(Exit::Failure, what)
        })?;
    refuse_others(
        path,
        &fs::metadata(path).map_err(|e| unread(path, &e))?,
        OTHERS,
        "log out and in again",
    )
}

/// Reads a file with a secret, at most `longest` bytes; `None` if there is none. `others` are the bits of its mode that are refused, and `anew` says
/// how there is another one if somebody has read it.
///
/// # Errors
/// [`Exit::Refused`] if others may read it, [`Exit::Usage`] if it is longer or no text, [`Exit::Failure`] if it cannot be read.
pub fn read_private(
    path: &Path,
    longest: u64,
    others: u32,
    anew: &str,
) -> Result<Option<SecretString>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unread(path, &e)),
    };
    let metadata = file.metadata().map_err(|e| unread(path, &e))?;
    // Pipes of a shell (`<(…)`) have no owner to protect them from.
    if metadata.is_file() {
        refuse_others(path, &metadata, others, anew)?;
    }
    let mut text = String::new();
    let length = file
        .take(longest + 1)
        .read_to_string(&mut text)
        .map_err(|e| unread(path, &e))?;
    let text = SecretString::from(text);
    if length as u64 > longest {
        let what = format!("{} is longer than {longest} bytes", path.display());
        return Err(Failure::usage(what));
    }
    Ok(Some(text))
}

fn unread(path: &Path, e: &io::Error) -> Failure {
    let what = format!("cannot read {}: {e}", path.display());
    Failure::new(Exit::Failure, what)
}

fn refuse_others(
    path: &Path,
    found: &fs::Metadata,
    others: u32,
    anew: &str,
) -> Result<(), Failure> {
    let mode = found.mode() & 0o777;
    if mode & others == 0 {
        return Ok(());
    }
    let at = path.display();
    let what = format!("others have access to {at} (mode {mode:04o}), which is for secrets");
    Err(Failure::new(Exit::Refused, what).hint(format_args!(
        "`chmod go= {at}`; if others may have read it, {anew}"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn it_is_there_whole_and_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for contents in ["first", "second"] {
            let file = PrivateFile::create(&path).unwrap();
            file.write(contents.as_bytes()).unwrap();
            let mode = fs::metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
            let read = read_private(&path, 100, OTHERS, "").unwrap().unwrap();
            assert_eq!(read.expose_secret(), contents);
        }
        drop(PrivateFile::create(&path).unwrap());
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(
            left.len(),
            1,
            "one that was not written leaves nothing: {left:?}"
        );
    }

    #[test]
    fn what_is_written_and_finds_no_place_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let filled = PrivateFile::create(&path).unwrap().fill(b"secret").unwrap();
        assert!(
            !path.exists(),
            "it is not in its place before it is put there"
        );
        fs::create_dir(&path).unwrap();
        let hint = filled.place().unwrap_err().hint.unwrap();
        let kept = hint.strip_prefix("it is in ").unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"secret");
    }

    #[test]
    fn a_new_file_replaces_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let (first, late) = (
            PrivateFile::create_new(&path).unwrap(),
            PrivateFile::create_new(&path).unwrap(),
        );
        first.write(b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let dangling = directory.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        for (description, refused) in [
            ("meanwhile", late.write(b"late").unwrap_err()),
            ("before", PrivateFile::create_new(&path).unwrap_err()),
            ("a link", PrivateFile::create_new(&dangling).unwrap_err()),
            (
                "a directory",
                PrivateFile::create_new(directory.path()).unwrap_err(),
            ),
        ] {
            assert_eq!(refused.exit, Exit::Refused, "{description}");
            let said = refused.message.contains("is not overwritten");
            assert!(said, "{description}: {refused:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), directory.path(), &link] {
            let refused = PrivateFile::create(path).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{}", path.display());
        }
        let nowhere = directory.path().join("no/where");
        let refused = PrivateFile::create(&nowhere).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage, "{refused:?}");
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(
            read_private(&path, 10, OTHERS, "").unwrap().is_none(),
            "missing"
        );
        fs::write(&path, "secret").unwrap();
        for (mode, others, fine) in [
            (0o600, OTHERS, true),
            (0o400, OTHERS, true),
            (0o640, OTHERS, false),
            (0o604, OTHERS, false),
            (0o640, 0o007, true),
            (0o644, 0o007, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read_private(&path, 10, others, "");
            assert_eq!(read.is_ok(), fine, "{mode:o}: {read:?}");
            assert!(!format!("{read:?}").contains("secret\""), "{read:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            read_private(&path, 5, OTHERS, "").unwrap_err().exit,
            Exit::Usage
        );
    }
}
