//! Files that stay through a crash, and files that are read while a service runs.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown, lchown},
    path::Path,
};

use nix::fcntl::OFlag;

/// Opens a regular file to read it. Never waits: a FIFO would until somebody writes to it, and some devices have no end.
///
/// # Errors
/// If it cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let file = (options.read(true).custom_flags(flags.bits())).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(
            "it is no regular file (but a directory, a FIFO or a device, say); put one there",
        )),
    }
}

/// The bytes of a regular file, of which it has `most` at most.
///
/// # Errors
/// As [`open_regular`]; if it is longer, or the disk fails.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let longer = || io::Error::other(format!("it is longer than {most} bytes"));
    let length = file.metadata()?.len();
    if length > most {
        return Err(longer());
    }
    // At once: what grew out of a smaller buffer would leave a copy of it.
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)? + 1);
    // It may be growing.
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(longer()),
        false => Ok(bytes),
    }
}

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

/// Gives what root made in passing, a file or a directory, to the owner of the directory that it is in: a service that runs as that user could not
/// use it otherwise. Does nothing where the directory is root's, nor as another user.
///
/// # Errors
/// The system's.
pub fn inherited(path: &Path) -> io::Result<()> {
    let own = fs::symlink_metadata(path)?;
    given(path, &own, |uid, gid| lchown(path, Some(uid), Some(gid)))
}

/// As [`inherited`], of a file that is open: by then its name may be another's.
///
/// # Errors
/// The system's.
pub fn inherited_open(file: &File, path: &Path) -> io::Result<()> {
    let own = file.metadata()?;
    given(path, &own, |uid, gid| fchown(file, Some(uid), Some(gid)))
}

fn given(
    path: &Path,
    own: &Metadata,
    give: impl FnOnce(u32, u32) -> io::Result<()>,
) -> io::Result<()> {
    let directory = fs::metadata(directory_of(path))?;
    if own.uid() != 0 || directory.uid() == 0 {
        return Ok(());
    }
    match give(directory.uid(), directory.gid()) {
        // Not root's doing.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Bytes of a disk of so many that services keep free for what they write: less is little.
pub(crate) fn reserve(of: u64) -> u64 {
    (1 << 30).min(of / 10)
}

/// Bytes that a copy may take of a disk of which so many are left, of so many: services on it keep twice what they keep free, or half of what is left.
pub(crate) fn spare((left, of): (u64, u64)) -> u64 {
    left.saturating_sub(2 * reserve(of)).max(left / 2)
}

/// Bytes that the file system of a path has left for who is not root, and has in all.
pub(crate) fn room(path: &Path) -> io::Result<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Ok((bytes(found.blocks_available()), bytes(found.blocks())))
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_regular_files_that_are_not_too_long_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("short"), "some").unwrap();
        std::fs::write(at("long"), "some more").unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("short", at("link")).unwrap();
        for (path, wanted) in [
            (at("short"), Ok("some")),
            (at("link"), Ok("some")),
            (at("long"), Err("longer than 8 bytes")),
            (at("huge"), Err("longer than 8 bytes")),
            (at("fifo"), Err("no regular file")),
            (at("."), Err("no regular file")),
            ("/dev/zero".into(), Err("no regular file")),
            (at("missing"), Err("No such file")),
        ] {
            let read = read_regular(&path, 8).map_err(|e| e.to_string());
            match (&read, wanted) {
                (Ok(read), Ok(wanted)) => assert_eq!(read, wanted.as_bytes(), "{path:?}"),
                (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{path:?}: {error}"),
                _ => panic!("{path:?}: {read:?}"),
            }
        }
    }

    /// Run as root, as all tests are.
    #[test]
    fn what_root_makes_is_whose_the_directory_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (description, of_directory, of_file, wanted) in [
            ("a service's", 12_345, 0, 12_345),
            ("root's", 0, 0, 0),
            ("another's", 12_345, 54_321, 54_321),
            ("another's in root's", 0, 54_321, 54_321),
        ] {
            fs::write(&path, "").unwrap();
            lchown(directory.path(), Some(of_directory), Some(of_directory)).unwrap();
            lchown(&path, Some(of_file), Some(of_file)).unwrap();
            inherited(&path).unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!(
                (found.uid(), found.gid()),
                (wanted, wanted),
                "{description}"
            );
        }
    }
}
