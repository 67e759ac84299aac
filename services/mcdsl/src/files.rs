//! Files that stay through a crash.

use std::{fs::File, io, path::Path};

/// The directory that a path is in.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The entry of a file in its directory reaches the disk (fsync(2)): without that a file that was made or renamed may be gone after a crash,
/// however well its bytes were written.
///
/// # Errors
/// If the directory cannot be opened, or the disk fails.
pub fn sync_entry(of: &Path) -> io::Result<()> {
    sync_directory(directory_of(of))
}

/// A file's bytes reach the disk, and its entry in its directory ([`sync_entry`]).
///
/// # Errors
/// If the file or its directory cannot be opened, or the disk fails.
pub fn sync(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()?;
    sync_entry(file)
}

/// What is in a directory, by name, reaches the disk.
///
/// # Errors
/// As [`sync_entry`].
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
