//! The audit log, as far as it is looked at unasked.

use mcdsl::audit::{self, VerifyError};
use rusqlite::Connection;

use crate::barrier::SealError;

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
