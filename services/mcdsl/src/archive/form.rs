//! What an archive is made of: names, bounds, its manifest.

use std::{
    error::Error,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The manifest's name; no file of an archive has it.
pub const MANIFEST: &str = "manifest.json";
/// Most files of an archive: a snapshot holds a database and a few files.
pub const MAX_FILES: usize = 10_000;
/// Longest name in an archive: what tar's header holds wherever the slashes are.
pub const MAX_NAME: usize = 100;
/// Deepest name.
pub(super) const MAX_DEPTH: usize = 16;
/// Longest manifest that is read: [`MAX_FILES`] of [`MAX_NAME`], each with every byte escaped.
pub(super) const MAX_MANIFEST: u64 = 10 << 20;
/// What a reader allocates at most to unpack (2^23 bytes): all of zstd's levels but the "ultra" ones are content with it.
pub(super) const WINDOW_LOG: u32 = 23;
/// Of files and archives: owner only.
pub(super) const MODE: u32 = 0o600;

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
    /// A snapshot of a database that no program of this version has opened.
    #[error(
        "none of the snapshots beside {0} is removed: it does not say which database it is of; start the service once with this version"
    )]
    Nobodys(PathBuf),
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
    /// The disk of a directory would have too little left.
    #[error(
        "no snapshot is made in {dir}: it may need {needed} there on the way, and may take {limit} of the {left} that are left: services need the rest; make room, or have it on another disk (`snapshot --to`)"
    )]
    Room {
        /// The directory.
        dir: PathBuf,
        /// At most.
        needed: String,
        /// That it may take.
        limit: String,
        /// At this moment.
        left: String,
    },
    /// Not zstd's.
    #[error("{0} is no snapshot: it is no archive (tar.zst)")]
    NoArchive(PathBuf),
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
    Database(#[source] Box<dyn Error + Send + Sync>),
}

/// One spelling, which stays below the directory that it is put in.
pub(super) fn check_name(name: &str) -> Result<(), ArchiveError> {
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

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io { what, path, source }
}

/// The hash of what passes through it.
pub(super) struct Hashing<T> {
    inner: T,
    context: Context,
    pub(super) length: u64,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
            length: 0,
        }
    }

    pub(super) fn listed(self, name: &str) -> Listed {
        let mut sha256 = String::new();
        for byte in self.context.finish().as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Listed {
            name: name.to_owned(),
            size: self.length,
            sha256,
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
