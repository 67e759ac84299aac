//! Files that hold secrets, and what belongs to them: for their owner alone, whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::unistd::Uid;
use secrecy::SecretString;
use tempfile::NamedTempFile;

use super::{Exit, Failure};
use crate::{
    files::{directory_of, inherited_open, sync_entry},
    owner,
};

/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;
/// Letters of a temporary file's own.
const RANDOM: usize = 6;
/// Longest name that its temporary one has, too: a name has 255 bytes at most.
const MAX_NAME: usize = 240;
/// Since when nobody writes to a temporary file any more.
const OLD: Duration = Duration::from_hours(24);
/// Of a directory, that let others make files in it.
const OTHERS_WRITE: u32 = 0o022;

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
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => Err(link(path)),
            Ok(found) if !found.is_file() => {
                let what = format!("{} is no file to be replaced", path.display());
                Err(Failure::usage(what))
            }
            _ => Self::temporary(path, false),
        }
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
        remove_leftovers(path);
        let temporary = tempfile::Builder::new()
            .prefix(&prefix(path))
            .rand_bytes(RANDOM)
            .tempfile_in(directory_of(path))
            .map_err(|e| nowhere(path, e.kind()))?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
            new,
        })
    }

    /// The directory that a file is to be in, whatever way leads there.
    ///
    /// # Errors
    /// [`Exit::Usage`] if there is none, [`Exit::Failure`] if it cannot be looked for.
    pub fn directory(path: &Path) -> Result<PathBuf, Failure> {
        fs::canonicalize(directory_of(path)).map_err(|e| nowhere(path, e.kind()))
    }

    /// Made by root it belongs to whom the file belongs that it replaces; a new one to whom its directory belongs ([`inherited_open`]).
    ///
    /// # Errors
    /// [`Exit::Failure`] if its owner could not have it; [`Exit::Refused`] if whoever may make files there may have made the one that is replaced, to be given this one.
    pub fn owned(self) -> Result<Self, Failure> {
        let path = &self.path;
        let file = self.temporary.as_file();
        let own = file.metadata().map_err(|e| failed(path, &e))?;
        let given = match fs::symlink_metadata(path) {
            Ok(before) if own.uid() == 0 => {
                if before.uid() != 0 && !is_closed(path, before.uid()) {
                    return Err(anybodys(path, before.uid()));
                }
                match fchown(file, Some(before.uid()), Some(before.gid())) {
                    // Root without its powers: it keeps its file, and the group is of no use to what is its owner's or everybody's.
                    Err(_) if before.uid() == 0 => Ok(()),
                    given => given,
                }
            }
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => inherited_open(file, path),
            Err(e) => Err(e),
        };
        given.map_err(|e| {
            let at = path.display();
            let what = format!("cannot write {at}: its owner cannot be given the new one: {e}");
            Failure::new(Exit::Failure, what).hint("do this as that user")
        })?;
        Ok(self)
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

/// A file beside it cannot be made; not by that one's name, which nobody knows.
fn nowhere(path: &Path, kind: io::ErrorKind) -> Failure {
    match kind {
        io::ErrorKind::NotFound => Failure::usage(format_args!(
            "cannot write {}: there is no directory {}",
            path.display(),
            directory_of(path).display()
        )),
        _ => failed(path, &io::Error::from(kind)),
    }
}

fn link(path: &Path) -> Failure {
    let at = path.display();
    let what = format!("{at} is a symbolic link, and is not replaced by a file");
    Failure::usage(what).hint(match fs::canonicalize(path) {
        Ok(file) => format!("name the file that it leads to, {}", file.display()),
        Err(_) => "name another file, or remove the link, which leads nowhere".to_owned(),
    })
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

/// How files begin that are to take the place of a path: as it is called, if there is room for that in a name.
fn prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    if let Some(name) = path.file_name().filter(|name| name.len() <= MAX_NAME) {
        prefix.push(name);
        prefix.push(".");
    }
    prefix.push("mc-");
    prefix
}

/// Removes what commands left that were killed a day ago or longer, with the secrets in it: none is at work for as long.
fn remove_leftovers(path: &Path) {
    let (prefix, now) = (prefix(path), SystemTime::now());
    for entry in fs::read_dir(directory_of(path))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
        let is_left = rest.is_some_and(|rest| rest.len() == RANDOM);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|at| now.duration_since(at).ok());
        if is_left && age.is_some_and(|age| age > OLD) {
            // If it stays it is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether nobody but root and this user can make files in the directory of a path.
fn is_closed(path: &Path, user: u32) -> bool {
    fs::metadata(directory_of(path)).is_ok_and(|directory| {
        [0, user].contains(&directory.uid()) && directory.mode() & OTHERS_WRITE == 0
    })
}

fn anybodys(path: &Path, user: u32) -> Failure {
    let what = format!(
        "{} is a file of {}, and others than its owner may make files beside it: whoever made it would have what is written there",
        path.display(),
        owner::name(Uid::from_raw(user))
    );
    Failure::new(Exit::Refused, what)
        .hint("do this as that user, or in a directory that only its owner may write in")
}

#[cfg(test)]
mod tests;
