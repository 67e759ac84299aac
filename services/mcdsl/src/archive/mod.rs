//! Archives of files: tar within zstd, as `tar --zstd -x` reads it, and in the end a manifest with the SHA-256 of each file.
//!
//! The manifest is last, so that a file is read once, what was hashed is what was written, and an archive that was cut off has none.
//! Only regular files are in it: a link, a device or an owner is refused, and tar's extensions (long names, sparse files) are not
//! read, since each is a way to say one thing and do another. A reader believes no size, number or name before it was checked.
//! Empty directories are not kept.
//!
//! Rejected: zip (central directory and entries can disagree); `Archive::unpack` of the tar crate (keeps links and modes, has no bound).

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    db::{self, DbError},
    human::hex,
};

pub use self::{
    read::read,
    write::{files_of, write},
};

/// The manifest's name; no file of an archive has it.
pub const MANIFEST: &str = "manifest.json";
/// Most files of an archive: a snapshot holds a database and a few files.
pub const MAX_FILES: usize = 10_000;
/// Longest name in an archive: what tar's header holds wherever the slashes are.
pub const MAX_NAME: usize = 100;
/// Deepest name.
const MAX_DEPTH: usize = 16;
/// Longest manifest that is read: [`MAX_FILES`] of [`MAX_NAME`], each with every byte escaped.
const MAX_MANIFEST: u64 = 10 << 20;
/// What a reader allocates at most to unpack (2^23 bytes): all of zstd's levels but the "ultra" ones are content with it.
const WINDOW_LOG: u32 = 23;
/// Of files and archives: owner only.
const MODE: u32 = 0o600;

/// A file that goes into an archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its name there: relative, `/` between directories.
    pub name: String,
    /// Where it is now.
    pub path: PathBuf,
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// In the order in which they are in the archive.
    pub files: Vec<Listed>,
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or directory cannot be used.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name that no archive has.
    #[error("{name:?} cannot be a name in an archive: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Two files of one name.
    #[error("two files are called {0:?}")]
    Twice(String),
    /// A link, device, directory or extension where a file should be.
    #[error("{0:?} is not a regular file, and only those are kept")]
    NotAFile(String),
    /// A file is not as long as it said it was.
    #[error(
        "{0:?} has another length than was told; it was changed meanwhile, or the archive was cut off"
    )]
    Length(String),
    /// Over [`MAX_FILES`].
    #[error("more than {MAX_FILES} files")]
    TooMany,
    /// Over the bound.
    #[error("the files are longer than {0} bytes in all")]
    TooLong(u64),
    /// A file is not the one that the manifest tells of.
    #[error("{0:?} is not what the manifest tells of; the archive is damaged")]
    Differs(String),
    /// No manifest, or not the last.
    #[error(
        "the archive {path} does not end with its manifest; it is not one of ours, or was cut off"
    )]
    NoManifest {
        /// The archive.
        path: PathBuf,
    },
    /// A manifest that cannot be read.
    #[error("the manifest of {path} is not one")]
    Manifest {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The database cannot be copied.
    #[error("cannot copy the database for the snapshot")]
    Database(#[from] DbError),
}

/// Archives a consistent copy of a service's database, as `<service>.db`, and more files, as
/// `<dir>/<service>-<time>.tar.zst`, and gives that path. The directory is made if need be. `now` is to the second: two snapshots
/// within one are refused, not overwritten.
///
/// # Errors
/// [`ArchiveError`]; no partial file is left behind.
pub fn snapshot(
    service: &str,
    database: &Connection,
    extra: &[Source],
    dir: &Path,
    now: SystemTime,
) -> Result<PathBuf, ArchiveError> {
    write::private_dir(dir)?;
    let archive = dir.join(format!("{service}-{}.tar.zst", stamp(now)));
    let copy = dir.join(format!(".{service}-{}.db", stamp(now)));
    db::snapshot(database, &copy)?;
    let mut files = vec![Source {
        name: format!("{service}.db"),
        path: copy.clone(),
    }];
    files.extend_from_slice(extra);
    let written = write(&archive, &files);
    let removed = std::fs::remove_file(&copy);
    written?;
    removed.map_err(io_error("remove the copy", &copy))?;
    Ok(archive)
}

/// Where snapshots of a database are, unless another place is said: `backups` beside it.
#[must_use]
pub fn backups(database: &Path) -> PathBuf {
    database.parent().unwrap_or(Path::new(".")).join("backups")
}

/// "20260131T235959Z": sorts by time.
fn stamp(time: SystemTime) -> String {
    let t = OffsetDateTime::from(time);
    let (date, clock) = (t.date(), t.time());
    let (hour, minute, second) = clock.as_hms();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// One spelling, which stays below the directory that it is put in.
fn check_name(name: &str) -> Result<(), ArchiveError> {
    let parts = || name.split('/');
    let why = if name.is_empty() || parts().any(str::is_empty) {
        "a part of it is empty, or it is absolute"
    } else if name.len() > MAX_NAME {
        "it is longer than 100 bytes"
    } else if parts().count() > MAX_DEPTH {
        "it is deeper than 16 directories"
    } else if parts().any(|part| part == "." || part == "..") {
        "it has `.` or `..`"
    } else if name.contains(|c: char| c.is_control() || c == '\\') {
        "it has a control character or a backslash"
    } else if name == MANIFEST {
        "the manifest is called so"
    } else {
        return Ok(());
    };
    let name = name.to_owned();
    Err(ArchiveError::Name { name, why })
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io { what, path, source }
}

/// The hash of what passes through it.
struct Hashing<T> {
    inner: T,
    context: Context,
    length: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
            length: 0,
        }
    }

    fn listed(self, name: &str) -> Listed {
        Listed {
            name: name.to_owned(),
            size: self.length,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

impl<T: io::Read> io::Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.context.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}
