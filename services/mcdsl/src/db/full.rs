//! Why something failed, whichever error it is in: a disk that is full or takes nothing, or a database that is damaged.

use std::{error::Error, io};

use rusqlite::{
    ErrorCode,
    ffi::{SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE},
};

/// What SQLite says of a write that failed for another reason than want of room, and when there is none for the index of its log.
const WRITING: [i32; 4] = [
    SQLITE_IOERR_WRITE,
    SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_SHMSIZE,
];

/// Whether an error, or what it came of, is that there is no room on the disk, or that it does not take what is written (EIO).
#[must_use]
pub fn is_unwritable(error: &(dyn Error + 'static)) -> bool {
    let unwritable = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref().is_some_and(sqlite) || cause.downcast_ref().is_some_and(io)
    };
    causes(error).any(unwritable)
}

/// What SQLite says if an error, or what it came of, is that the database is damaged.
pub(crate) fn damage(error: &(dyn Error + 'static)) -> Option<String> {
    let damaged = |error: &rusqlite::Error| {
        let code = error.sqlite_error_code();
        matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
        .then(|| error.to_string())
    };
    causes(error).find_map(|cause| cause.downcast_ref().and_then(damaged))
}

/// An error, and what it came of.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn sqlite(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(error, _) = error else {
        return false;
    };
    error.code == ErrorCode::DiskFull || WRITING.contains(&error.extended_code)
}

fn io(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;
    use crate::db::{DbError, StoreError};

    #[test]
    fn it_is_found_in_whatever_it_led_to() {
        let sqlite = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let opened = |source| DbError::Sqlite {
            path: "a.db".into(),
            what: "open it",
            source,
        };
        let full = || sqlite(ffi::SQLITE_FULL);
        let file = |kind| DbError::File {
            path: "a.db".into(),
            source: io::Error::from(kind),
        };
        let rows: [(&str, Box<dyn Error>, bool); 8] = [
            ("SQLite's", Box::new(full()), true),
            ("of a statement", Box::new(StoreError::from(full())), true),
            ("of an opening", Box::new(opened(full())), true),
            (
                "of the log's index",
                Box::new(StoreError::from(opened(sqlite(ffi::SQLITE_IOERR_SHMSIZE)))),
                true,
            ),
            (
                "of a file",
                Box::new(file(io::ErrorKind::StorageFull)),
                true,
            ),
            (
                "of reading",
                Box::new(sqlite(ffi::SQLITE_IOERR_READ)),
                false,
            ),
            ("too much to do", Box::new(StoreError::Busy), false),
            (
                "a file that may not be written",
                Box::new(file(io::ErrorKind::PermissionDenied)),
                false,
            ),
        ];
        for (description, error, wanted) in rows {
            assert_eq!(is_unwritable(&*error), wanted, "{description}");
        }
    }
}
