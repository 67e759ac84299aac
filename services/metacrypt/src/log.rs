//! The audit log, as far as it is looked at unasked.

use mcdsl::audit::{self, Filter, Record, VerifyError};
use rusqlite::Connection;

use crate::barrier::{Hashed, Prints, SealError};

/// Rows that are looked at whenever the seal opens, and by `check`: they take a tenth of a second. The whole log is for `audit verify`.
pub(crate) const ROWS: u32 = 10_000;

/// What is wrong with the newest rows.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn flaw(db: &Connection) -> Result<Option<String>, SealError> {
    match audit::verify_last(db, ROWS) {
        Ok(_) => Ok(None),
        Err(VerifyError::Tampered(tampering)) => {
            let problem = tampering.to_string();
            tracing::error!(
                problem,
                "the audit log is not as it was written; keep the database as it is, and compare it with a snapshot"
            );
            Ok(Some(problem))
        }
        Err(VerifyError::Sqlite(error)) => Err(error.into()),
    }
}

/// Rows that are looked at for a secret in one call, at most.
const LOOKED: u64 = 50_000;
/// Rows after which it is asked whether to go on.
const PIECE: usize = 1000;
/// Rows of an answer, at most.
const FOUND: usize = 100;

/// The rows that have a secret in them, older than `before` (0: the newest of all), and before which row was not looked. `goes_on` is asked at times.
///
/// # Errors
/// If they cannot be read, and those of `goes_on`.
pub(crate) fn with(
    db: &Connection,
    prints: &Prints,
    secret: &[u8],
    before: u64,
    goes_on: impl Fn() -> Result<(), SealError>,
) -> Result<(Vec<Record>, Option<u64>), SealError> {
    let newest = audit::head(db)?.map_or(0, |head| head.seq);
    let before = match before {
        0 => newest + 1,
        before => before.min(newest + 1),
    };
    let first = before.saturating_sub(LOOKED).max(1);
    let sql = "SELECT seq, detail FROM audit WHERE seq >= ?1 AND seq < ?2 AND instr(detail, '\"hmac_salt\"') > 0 ORDER BY seq DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([first.cast_signed(), before.cast_signed()])?;
    let secret = Hashed::new(secret);
    let (mut found, mut looked) = (Vec::new(), 0_usize);
    let mut left = Some(first).filter(|first| *first > 1);
    while let Some(row) = rows.next()? {
        if looked.is_multiple_of(PIECE) {
            goes_on()?;
        }
        looked += 1;
        // What somebody changed is none of ours.
        if prints.is_in(row.get_ref(1)?.as_str().unwrap_or_default(), &secret) {
            let seq: u64 = row.get::<_, i64>(0)?.cast_unsigned();
            let one = Filter {
                before_seq: Some(seq + 1),
                limit: Some(1),
                ..Filter::default()
            };
            found.extend(audit::query(db, &one)?);
            if found.len() == FOUND {
                left = Some(seq);
                break;
            }
        }
    }
    Ok((found, left))
}
