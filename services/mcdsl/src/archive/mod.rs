//! Archives of files: tar within zstd, as `tar --zstd -x` reads it, and in the end a manifest with the SHA-256 of each file.
//!
//! The manifest is last, so that a file is read once, what was hashed is what was written, and an archive that was cut off has none.
//! Only regular files are in it: a link, a device or an owner is refused, and tar's extensions (long names, sparse files) are not
//! read, since each is a way to say one thing and do another. A reader believes no size, number or name before it was checked.
//! Empty directories are not kept.
//!
//! Rejected: zip (central directory and entries can disagree); `Archive::unpack` of the tar crate (keeps links and modes, has no bound).

mod form;
mod kept;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::Connection;
use time::OffsetDateTime;

use crate::{
    db::{self, DbError},
    files::{self, inherited},
    human,
};

pub use self::{
    form::{ArchiveError, Listed, MANIFEST, MAX_FILES, MAX_NAME, Manifest, Source},
    kept::{keep, snapshots},
    read::read,
    write::{files_of, write},
};
use form::io_error;

/// Archives a consistent copy of a service's database, as `<service>.db`, as
/// `<dir>/<service>-<time>-<database>.tar.zst`, and gives that path; the last part is [`db::instance`]. The directory is made if need be, but none above it. `now` is to
/// the second: two snapshots within one are refused, not overwritten.
///
/// # Errors
/// [`ArchiveError`]; no partial file is left behind.
pub fn snapshot(
    service: &str,
    database: &Connection,
    dir: &Path,
    now: SystemTime,
) -> Result<PathBuf, ArchiveError> {
    private_dir(dir)?;
    remove_leftovers(service, dir, now);
    fits(database, dir)?;
    let of = db::instance(database).map_or(String::new(), |id| format!("-{id}"));
    let archive = dir.join(format!("{service}-{}{of}.tar.zst", stamp(now)));
    let copy = dir.join(format!(".{service}-{}.db", stamp(now)));
    db::snapshot(database, &copy).map_err(|e| match e {
        // Its name, which is gone again, would tell nobody anything.
        DbError::SnapshotFile { source, .. } if source.kind() != io::ErrorKind::AlreadyExists => {
            io_error("write to the directory", dir)(source)
        }
        other => ArchiveError::Database(other.into()),
    })?;
    let file = Source {
        name: format!("{service}.db"),
        path: copy.clone(),
    };
    let written = write(&archive, &[file]);
    let removed = std::fs::remove_file(&copy);
    written?;
    removed.map_err(io_error("remove the copy", &copy))?;
    Ok(archive)
}

/// That a copy of the database, and an archive as long, are no more than may be taken of the disk.
fn fits(database: &Connection, dir: &Path) -> Result<(), ArchiveError> {
    let pages = "SELECT (c.page_count - f.freelist_count) * s.page_size
         FROM pragma_page_count() c, pragma_freelist_count() f, pragma_page_size() s";
    let length = database.query_row(pages, [], |row| row.get::<_, i64>(0));
    let failed = |error: rusqlite::Error| ArchiveError::Database(error.into());
    let length = u64::try_from(length.map_err(failed)?).unwrap_or(0);
    let needed = length.saturating_mul(2);
    let room = files::room(dir).map_err(io_error("see the room of", dir))?;
    match needed <= files::spare(room) {
        true => Ok(()),
        false => Err(ArchiveError::Room {
            dir: dir.to_owned(),
            needed: human::bytes(needed),
            limit: human::bytes(files::spare(room)),
            left: human::bytes(room.0),
        }),
    }
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

/// What snapshots left behind that were killed: copies of the database, and archives that are not whole. Of the last day nobody knows whether
/// they are being made.
fn remove_leftovers(service: &str, dir: &Path, now: SystemTime) {
    const OLD: Duration = Duration::from_secs(24 * 3600);
    let hidden = format!(".{service}-");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours =
            name.starts_with(&hidden) && (name.ends_with(".db") || name.ends_with(".partial"));
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified
            .ok()
            .and_then(|modified| now.duration_since(modified).ok());
        if ours && age.is_some_and(|age| age > OLD) {
            // If it stays it is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Makes a directory for its owner only, unless it is there; never one that it would be in, whose name may be a slip.
fn private_dir(dir: &Path) -> Result<(), ArchiveError> {
    let made = match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made.and_then(|()| inherited(dir)),
    };
    made.map_err(io_error("create the directory", dir))
}
