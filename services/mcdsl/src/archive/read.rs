//! Reading an archive that may be hostile.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use tar::EntryType;

use super::form::{
    ArchiveError, Hashing, Listed, MANIFEST, MAX_FILES, MAX_MANIFEST, MODE, Manifest, WINDOW_LOG,
    check_name, io_error,
};
use crate::files;

/// What zstd begins with (RFC 8878 §3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What follows the last entry: tar fills up to 10 KiB with zeros.
const MAX_END: u64 = 64 << 10;

/// Unpacks an archive into a new directory that only its owner can read: all of it, checked against its manifest, or nothing.
/// `limit` bounds the files' bytes in all.
///
/// While it unpacks, `into` is empty and the files are in `<into>.partial`: what a crash leaves behind is not taken for an archive's
/// content.
///
/// # Errors
/// [`ArchiveError`] if `into` exists, or the archive is not exactly what its manifest tells.
pub fn read(from: &Path, into: &Path, limit: u64) -> Result<Manifest, ArchiveError> {
    let mut partial = into.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let archive = File::open(from).map_err(io_error("open", from))?;
    make_dir(into)?;
    let unpacked = make_dir(&partial).and_then(|()| {
        let unpacked = unpack(archive, from, &partial, limit).and_then(|manifest| {
            // Onto a directory that is still empty, or not at all.
            let moved = fs::rename(&partial, into).and_then(|()| files::sync_entry(into));
            moved.map_err(io_error("move the files to", into))?;
            Ok(manifest)
        });
        if unpacked.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&partial);
        }
        unpacked
    });
    if unpacked.is_err() {
        // Only if it is empty.
        let _ = fs::remove_dir(into);
    }
    unpacked
}

fn make_dir(dir: &Path) -> Result<(), ArchiveError> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.map_err(io_error("create the directory", dir))
}

fn unpack(
    mut archive: File,
    from: &Path,
    into: &Path,
    limit: u64,
) -> Result<Manifest, ArchiveError> {
    let failed = || io_error("read the archive", from);
    let mut begin = Vec::new();
    let read = (&mut archive)
        .take(MAGIC.len() as u64)
        .read_to_end(&mut begin);
    read.and_then(|_| archive.rewind()).map_err(failed())?;
    if begin != MAGIC {
        return Err(ArchiveError::NoArchive(from.to_owned()));
    }
    let mut decoder = zstd::Decoder::new(archive).map_err(failed())?;
    decoder.window_log_max(WINDOW_LOG).map_err(failed())?;
    let mut tar = tar::Archive::new(decoder);
    let mut files = Vec::new();
    let mut dirs = BTreeSet::from([into.to_owned()]);
    let mut left = limit;
    let mut manifest = None;
    // Raw: without the extensions, whose lengths nothing would bound.
    for entry in tar.entries().map_err(failed())?.raw(true) {
        let mut entry = entry.map_err(failed())?;
        let name = match std::str::from_utf8(&entry.path_bytes()) {
            Ok(name) => name.to_owned(),
            Err(_) => {
                return Err(ArchiveError::NotAFile(
                    "a name that is not UTF-8".to_owned(),
                ));
            }
        };
        if entry.header().entry_type() != EntryType::Regular {
            return Err(ArchiveError::NotAFile(name));
        }
        if manifest.is_some() {
            let path = from.to_owned();
            return Err(ArchiveError::NoManifest { path });
        }
        let size = entry.size();
        if name == MANIFEST {
            manifest = Some(parse(&mut entry, size, from)?);
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(ArchiveError::TooMany);
        }
        left = left.checked_sub(size).ok_or(ArchiveError::TooLong(limit))?;
        files.push(file(&mut entry, size, &name, into, &mut dirs, from)?);
    }
    let path = from.to_owned();
    let manifest = manifest.ok_or(ArchiveError::NoManifest { path })?;
    compare(&manifest, &files)?;
    end(tar.into_inner(), from)?;
    for dir in &dirs {
        files::sync_directory(dir).map_err(io_error("write", dir))?;
    }
    Ok(manifest)
}

/// Writes one file, and tells what it was.
fn file(
    content: impl Read,
    size: u64,
    name: &str,
    into: &Path,
    dirs: &mut BTreeSet<PathBuf>,
    from: &Path,
) -> Result<Listed, ArchiveError> {
    check_name(name)?;
    let mut path = into.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        // A file of that name would be in the way.
        if parts.peek().is_some() && dirs.insert(path.clone()) {
            make_dir(&path)?;
        }
    }
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&path);
    let mut file = created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => ArchiveError::Twice(name.to_owned()),
        _ => io_error("create", &path)(source),
    })?;
    let mut content = Hashing::new(content);
    io::copy(&mut content, &mut file).map_err(|source| ArchiveError::Io {
        what: "unpack",
        path: from.to_owned(),
        source,
    })?;
    if content.length != size {
        return Err(ArchiveError::Length(name.to_owned()));
    }
    file.sync_all().map_err(io_error("write", &path))?;
    Ok(content.listed(name))
}

fn parse(content: impl Read, size: u64, from: &Path) -> Result<Manifest, ArchiveError> {
    if size > MAX_MANIFEST {
        return Err(ArchiveError::TooLong(MAX_MANIFEST));
    }
    let mut json = Vec::new();
    let mut content = content.take(MAX_MANIFEST);
    content
        .read_to_end(&mut json)
        .map_err(io_error("read the archive", from))?;
    serde_json::from_slice(&json).map_err(|source| ArchiveError::Manifest {
        path: from.to_owned(),
        source,
    })
}

fn compare(manifest: &Manifest, files: &[Listed]) -> Result<(), ArchiveError> {
    let found = manifest
        .files
        .iter()
        .zip(files)
        .find(|(told, file)| told != file);
    let wrong = match found {
        Some((_, file)) => file,
        None => {
            let both = manifest.files.len().min(files.len());
            let rest = manifest.files.get(both).or(files.get(both));
            let Some(rest) = rest else { return Ok(()) };
            rest
        }
    };
    Err(ArchiveError::Differs(wrong.name.clone()))
}

/// To the end, where zstd compares its own checksum.
fn end(rest: impl Read, from: &Path) -> Result<(), ArchiveError> {
    let mut bytes = Vec::new();
    let mut rest = rest.take(MAX_END + 1);
    rest.read_to_end(&mut bytes)
        .map_err(io_error("read the archive", from))?;
    if bytes.len() as u64 > MAX_END || bytes.iter().any(|b| *b != 0) {
        let path = from.to_owned();
        return Err(ArchiveError::NoManifest { path });
    }
    Ok(())
}
