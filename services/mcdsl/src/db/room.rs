//! The room that a database takes on its disk, and whether there is any.

use std::{io::Write as _, sync::Arc, time::Duration};

use rusqlite::Transaction;

use super::{
    DbError,
    store::{Store, StoreError},
};
use crate::cli::chain;

/// Bytes for which there has to be room on the disk before it is said not to be full: more than an ordinary change.
const ROOM: usize = 256 << 10;
/// Bytes of SQLite's log that are no longer left to its own checkpoints.
const LONG_LOG: u64 = 16 << 20;
/// How often [`Store::settle`] tries, how long nobody writes meanwhile, and what is between: five seconds in all.
const SETTLES: usize = 20;
const SETTLING: Duration = Duration::from_millis(50);
const BETWEEN_SETTLES: Duration = Duration::from_millis(200);

impl Store {
    /// Writes without changing anything, to find out whether there is room again: for more than a page, or the next change would not fit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn probe(self: &Arc<Self>) -> Result<(), StoreError> {
        let path = self.path().to_owned();
        let room = tokio::task::spawn_blocking(move || {
            let directory = path.parent().unwrap_or(&path);
            tempfile::tempfile_in(directory)
                .and_then(|mut file| file.write_all(&[0; ROOM]))
                .map_err(|source| DbError::File { path, source })
        });
        room.await.map_err(|_| StoreError::Thread)??;
        let same = |tx: &Transaction<'_>| {
            tx.execute("UPDATE migrations SET name = name", [])?;
            Ok(())
        };
        self.write(same).await
    }

    /// Writes SQLite's log (WAL) into the database itself and empties it, for whoever copies that file alone. Waits for who writes, and some seconds for who reads,
    /// while others write.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Busy`]: somebody still reads what was there before.
    pub fn settle(&self) -> Result<(), StoreError> {
        for left in (0..SETTLES).rev() {
            if self.settle_now()? {
                return Ok(());
            }
            if left > 0 {
                std::thread::sleep(BETWEEN_SETTLES);
            }
        }
        Err(StoreError::Busy)
    }

    /// As [`Self::shrink`], if there is much to give back.
    pub(super) async fn shrink_if_long(self: &Arc<Self>) {
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        let long = std::fs::metadata(log).is_ok_and(|log| log.len() > LONG_LOG);
        if long {
            self.shrink().await;
        }
    }

    /// Has SQLite's log give back its room, if it can now: on a disk with little left it may have most of what there is.
    pub(crate) async fn shrink(self: &Arc<Self>) {
        let store = Arc::clone(self);
        let settled = tokio::task::spawn_blocking(move || store.settle_now()).await;
        let error = match settled {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => chain(&error),
            Err(_) => chain(&StoreError::Thread),
        };
        let database = self.path().display();
        tracing::debug!(%database, error, "what is in the database's log cannot be written into it yet");
    }

    /// Whether nobody was in the way. What could be written into the database is, in any case.
    pub(super) fn settle_now(&self) -> Result<bool, StoreError> {
        let db = self.writer();
        self.files().check()?;
        let busy = |how: &str| {
            let sql = format!("PRAGMA wal_checkpoint({how})");
            db.query_row(&sql, [], |row| row.get::<_, bool>(0))
        };
        busy("PASSIVE")?;
        // Who writes waits meanwhile.
        db.busy_timeout(SETTLING)?;
        let emptied = busy("TRUNCATE").map(|busy| !busy);
        db.busy_timeout(super::BUSY_TIMEOUT)?;
        Ok(emptied?)
    }
}
