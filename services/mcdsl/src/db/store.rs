//! A service's open database: one connection that writes and a few that read, off the async threads.
//!
//! SQLite has one writer at a time in any case; readers see the last commit and wait for nobody (WAL).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{DbError, Files, Migration, open};

/// Connections that read at once; more readers wait for a turn on the blocking threads.
const READERS: usize = 4;

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    files: Files,
    writer: Mutex<Connection>,
    readers: Vec<Mutex<Connection>>,
    /// Whom the next one waits for.
    turn: AtomicUsize,
}

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The database is not where it was.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The thread that had it has panicked.
    #[error("an internal error in the database's thread")]
    Thread,
}

impl Store {
    /// Opens it, creating and migrating it if need be.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path, migrations: &[Migration]) -> Result<Arc<Self>, DbError> {
        let writer = open(path, migrations)?;
        let sqlite = |source| DbError::Sqlite {
            path: path.to_owned(),
            what: "open it to read",
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = |_| {
            let db = Connection::open_with_flags(path, flags)?;
            db.busy_timeout(super::BUSY_TIMEOUT)?;
            Ok(Mutex::new(db))
        };
        let readers = (0..READERS)
            .map(reader)
            .collect::<Result<_, _>>()
            .map_err(sqlite)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            files: Files::of(path),
            writer: Mutex::new(writer),
            readers,
            turn: AtomicUsize::new(0),
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads, on a thread for that.
    ///
    /// # Errors
    /// Those of `read`, and [`StoreError`].
    pub async fn read<T, E, F>(self: &Arc<Self>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let free = store
                .readers
                .iter()
                .find_map(|reader| match reader.try_lock() {
                    Ok(free) => Some(free),
                    Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                    Err(TryLockError::WouldBlock) => None,
                });
            let turn = store.turn.fetch_add(1, Relaxed) % READERS;
            let db = free.unwrap_or_else(|| {
                let reader = store.readers[turn].lock();
                reader.unwrap_or_else(PoisonError::into_inner)
            });
            read(&db)
        });
        done.await
            .unwrap_or_else(|_| Err(StoreError::Thread.into()))
    }

    /// Writes in one transaction, which is committed if `write` succeeds, and durable when this returns.
    ///
    /// # Errors
    /// Those of `write`, and [`StoreError`]; then nothing was written.
    pub async fn write<T, E, F>(self: &Arc<Self>, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut db = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
            store.files.check().map_err(StoreError::from)?;
            let transaction = db
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(StoreError::from)?;
            let value = write(&transaction)?;
            transaction.commit().map_err(StoreError::from)?;
            Ok(value)
        });
        done.await
            .unwrap_or_else(|_| Err(StoreError::Thread.into()))
    }
}
