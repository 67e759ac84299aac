//! Making an archive.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::form::{
    ArchiveError, Hashing, Listed, MANIFEST, MAX_DEPTH, MAX_FILES, MODE, Manifest, Source,
    check_name, io_error,
};
use crate::files;

/// zstd's own choice: a database shrinks little more above it.
const LEVEL: i32 = 3;

/// All regular files below a directory, named by where they are in it, sorted.
///
/// # Errors
/// [`ArchiveError`]; a link or a device is one, for to leave it out would be a snapshot that lacks something.
pub fn files_of(dir: &Path) -> Result<Vec<Source>, ArchiveError> {
    let mut files = Vec::new();
    let mut todo = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((dir, prefix, depth)) = todo.pop() {
        for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))? {
            let entry = entry.map_err(io_error("list", &dir))?;
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(io_error("look at", &path))?;
            if entry.file_name().to_str().is_none() {
                let why = "it is not UTF-8";
                return Err(ArchiveError::Name { name, why });
            } else if kind.is_dir() && depth < MAX_DEPTH {
                todo.push((path, name + "/", depth + 1));
            } else if !kind.is_file() {
                return Err(ArchiveError::NotAFile(name));
            } else if files.len() == MAX_FILES {
                return Err(ArchiveError::TooMany);
            } else {
                files.push(Source { name, path });
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes an archive of these files into a new file that only its owner can read. It has its name once it is whole.
///
/// # Errors
/// [`ArchiveError`] if the file exists, or a file cannot be read; no partial file is left behind.
pub fn write(to: &Path, files: &[Source]) -> Result<Manifest, ArchiveError> {
    check(files)?;
    let exists = || io_error("create", to)(io::ErrorKind::AlreadyExists.into());
    if to.exists() {
        return Err(exists());
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let partial = to.with_file_name(format!(".{name}.partial"));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&partial)
        .map_err(io_error("create", &partial))?;
    let written = fill(to, &file, files).and_then(|manifest| {
        file.sync_all().map_err(io_error("write", to))?;
        if to.exists() {
            return Err(exists());
        }
        let named = files::inherited(&partial)
            .and_then(|()| fs::rename(&partial, to))
            .and_then(|()| files::sync_entry(to));
        named.map_err(io_error("write", to))?;
        Ok(manifest)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn check(files: &[Source]) -> Result<(), ArchiveError> {
    if files.len() > MAX_FILES {
        return Err(ArchiveError::TooMany);
    }
    let mut seen = BTreeSet::new();
    for Source { name, .. } in files {
        check_name(name)?;
        if !seen.insert(name) {
            return Err(ArchiveError::Twice(name.clone()));
        }
    }
    Ok(())
}

fn fill(to: &Path, file: &File, sources: &[Source]) -> Result<Manifest, ArchiveError> {
    let mut encoder = zstd::Encoder::new(file, LEVEL).map_err(io_error("compress", to))?;
    encoder
        .include_checksum(true)
        .map_err(io_error("compress", to))?;
    let mut tar = tar::Builder::new(encoder);
    let mut files = Vec::new();
    for source in sources {
        files.push(add(&mut tar, to, source)?);
    }
    let manifest = Manifest { files };
    let json = serde_json::to_vec(&manifest).map_err(|source| ArchiveError::Manifest {
        path: to.to_owned(),
        source,
    })?;
    append(&mut tar, MANIFEST, json.len() as u64, 0, json.as_slice())
        .map_err(io_error("write", to))?;
    let finished = tar.into_inner().and_then(zstd::Encoder::finish);
    finished.map_err(io_error("write", to))?;
    Ok(manifest)
}

fn add<W: io::Write>(
    tar: &mut tar::Builder<W>,
    to: &Path,
    source: &Source,
) -> Result<Listed, ArchiveError> {
    let Source { name, path } = source;
    // By what its name says first: to open a FIFO would wait for ever.
    let named = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    if !named.is_file() {
        return Err(ArchiveError::NotAFile(name.clone()));
    }
    let file = File::open(path).map_err(io_error("open", path))?;
    let opened = file.metadata().map_err(io_error("look at", path))?;
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(ArchiveError::NotAFile(name.clone()));
    }
    let size = opened.len();
    let mut reader = Hashing::new(file.take(size));
    let modified = u64::try_from(opened.mtime()).unwrap_or(0);
    append(tar, name, size, modified, &mut reader).map_err(io_error("write", to))?;
    // tar's header has told the length already.
    if reader.length != size {
        return Err(ArchiveError::Length(name.clone()));
    }
    Ok(reader.listed(name))
}

fn append<W: io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    modified: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(MODE);
    header.set_mtime(modified);
    header.set_size(size);
    header.set_cksum();
    tar.append(&header, content)
}
