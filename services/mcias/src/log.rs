//! The audit log, as administrators read it.

use std::sync::Arc;

use mcdsl::audit::{self, Checked, Record, Wanted};
use rusqlite::Connection;

use crate::{core::Mcias, error::Error};

/// What all methods' paths have.
const PACKAGE: &str = "metacircular.mcias.v1";

/// An action as people read it: `Auth/Login` of a method, of what else there is the whole.
pub(crate) fn short(action: &str) -> &str {
    audit::short(PACKAGE, action)
}

impl Mcias {
    /// Rows of the log, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn audit(self: &Arc<Self>, wanted: Wanted) -> Result<Vec<Record>, Error> {
        let read = move |db: &Connection| Ok::<_, Error>(audit::search(db, PACKAGE, wanted)?);
        self.store.search(read).await
    }

    /// Whether the log is as it was written; `known` is number and hash of a row that was noted elsewhere, 0 and nothing: none.
    ///
    /// # Errors
    /// If the hash is none, or the database fails.
    pub(crate) async fn verify_audit(
        self: &Arc<Self>,
        number: u64,
        hash: &str,
    ) -> Result<Checked, Error> {
        let known = audit::known(number, hash);
        let known = known.map_err(|wrong| Error::invalid(format!("known_hash: {wrong}")))?;
        let read = move |db: &Connection| Ok::<_, Error>(audit::examine(db, known)?);
        self.store.read_long(read).await
    }
}
