//! A service's open database: one connection that writes and a few that read, off the async threads.
//!
//! SQLite has one writer at a time in any case, and what waits for it is committed together ([`super::group`]); readers see the last commit and wait for nobody (WAL).

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OpenFlags, Params, Row, Transaction};
use tokio::sync::watch;

use super::{
    DbError, Files, Migration,
    asker::{Owner, Place, Places},
    damage,
    group::{Line, Write},
    is_unwritable, open, schema,
};
use crate::{
    cli::chain,
    turns::{Turn, Turns},
};

/// Connections that read at once; more readers wait for a turn without holding a thread.
const READERS: usize = 4;

/// Long reads that one caller may have waiting: those of who is gone are not always seen to be nobody's.
pub(super) const OF_LONG: usize = 4;

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    files: Files,
    migrations: Vec<Migration>,
    /// The number of the schema that was last looked at ([`schema::version`]); before the first change none.
    schema: AtomicI64,
    readers: Vec<Mutex<Connection>>,
    /// Closed last: then SQLite writes its log into the database and removes it, which one that only reads cannot.
    writer: Mutex<Connection>,
    reading: Reading,
    /// Of those that may take long ([`Self::read_long`]).
    pub(super) long: Reading,
    /// Of those that look for a page ([`Self::search`]).
    pub(super) searching: Reading,
    /// Of those that copy the whole ([`Self::copy`]).
    copying: Reading,
    writing: Arc<Places>,
    pub(super) line: Line,
    full: watch::Sender<bool>,
    /// What was once found to be wrong with it: nothing is read or written from then on.
    unfit: watch::Sender<Option<Unfit>>,
}

/// Why a database is not used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// What of its schema somebody else has changed.
    Foreign(String),
    /// What SQLite says of it: its pages are not as they were written. What is written into such a database may destroy more of it.
    Damaged(String),
}

impl Unfit {
    fn error(&self, path: &Path) -> DbError {
        let path = path.to_owned();
        match self.clone() {
            Self::Foreign(flaw) => DbError::Foreign { path, flaw },
            Self::Damaged(flaw) => DbError::Damaged { path, flaw },
        }
    }
}

/// So many read at once; the others take turns, and not too many of them wait, nor of one network or account ([`super::asker`]).
#[derive(Debug)]
pub(super) struct Reading {
    now: Arc<Turns<Owner>>,
    /// Of those and of who waits.
    all: Arc<Places>,
}

impl Reading {
    fn new(at_once: usize) -> Self {
        Self {
            now: Turns::new(at_once),
            all: Places::new(at_once),
        }
    }

    /// One at a time, of what may take long.
    fn long() -> Self {
        Self {
            now: Turns::new(1),
            all: Places::shared(1, OF_LONG),
        }
    }

    /// What is held until it is done; whoever asked may be gone by then.
    pub(super) async fn next(&self) -> Result<(Turn<Owner>, Place), StoreError> {
        let place = self.all.take()?;
        let turn = self.now.next(place.owner().clone()).await;
        Ok((turn, place))
    }
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
    /// As many wait as may, in all or of who asks.
    #[error("the database has too much to do; try again later")]
    Busy,
    /// Whoever asked is gone.
    #[error("nobody waits for the answer any more")]
    GivenUp,
    /// The thread that had it has panicked.
    #[error("an internal error in the database's thread")]
    Thread,
}

impl StoreError {
    /// Whether it is that the database is not used any more, as the log has said.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        use DbError::{Damaged, Foreign};
        matches!(self, Self::Db(Foreign { .. } | Damaged { .. }))
    }
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
        let readers = (0..READERS)
            .map(|_| reader(path).map(Mutex::new))
            .collect::<Result<_, _>>()
            .map_err(sqlite)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            files: Files::of(path),
            migrations: migrations.to_vec(),
            schema: AtomicI64::new(i64::MIN),
            writer: Mutex::new(writer),
            readers,
            reading: Reading::new(READERS),
            long: Reading::long(),
            searching: Reading::long(),
            copying: Reading::long(),
            writing: Places::new(1),
            line: Line::default(),
            full: watch::Sender::new(false),
            unfit: watch::Sender::new(None),
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last write failed since the disk is full or takes nothing, as it changes; see [`Self::unwritable`].
    #[must_use]
    pub fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    /// Why it is not used any more, as it was seen first; it stays so until the process ends.
    #[must_use]
    pub fn unfit(&self) -> watch::Receiver<Option<Unfit>> {
        self.unfit.subscribe()
    }

    /// Reads, on a thread for that: all of it is of one commit, however many statements it is, and whatever is written meanwhile.
    ///
    /// # Errors
    /// Those of `read`, and [`StoreError`].
    pub async fn read<T, E, F>(self: &Arc<Self>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let snapshot = move |store: &Self, db: &Connection| {
            let snapshot = Snapshot::begin(db).map_err(StoreError::from)?;
            store.is_as_made(snapshot.0)?;
            read(snapshot.0)
        };
        let (store, turn) = (Arc::clone(self), self.reading.next().await?);
        let done = tokio::task::spawn_blocking(move || {
            // Dropped after the reader, so that who is next finds one.
            let _turn = turn;
            let db = store.reader();
            snapshot(&store, &db).inspect_err(|error| store.judge(error))
        });
        done.await
            .unwrap_or_else(|_| Err(StoreError::Thread.into()))
    }

    /// For what copies the whole ([`super::snapshot`]): with a connection of its own, in no transaction, so that who reads finds one; one at a time.
    ///
    /// # Errors
    /// Those of `copy`, and [`StoreError`].
    pub async fn copy<T, E, F>(self: &Arc<Self>, copy: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (store, turn) = (Arc::clone(self), self.copying.next().await?);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let db = reader(&store.path).map_err(StoreError::from)?;
            // Not that of another file, which is there now.
            store.files.check().map_err(StoreError::from)?;
            store.is_as_made(&db)?;
            copy(&db)
        });
        done.await
            .unwrap_or_else(|_| Err(StoreError::Thread.into()))
    }

    /// The rows of a query, as `row` reads them. What is read is the statement's to bound.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rows<T, P, F>(
        self: &Arc<Self>,
        sql: &'static str,
        params: P,
        row: F,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        P: Params + Send + 'static,
        F: FnMut(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let read = move |db: &Connection| {
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map(params, row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.read(read).await
    }

    /// Writes in one transaction, which is committed if `write` succeeds, and durable when this returns. Others may be in it, each of which fails alone; if the commit
    /// fails, all have failed.
    ///
    /// # Errors
    /// Those of `write`, and [`StoreError`]; then nothing was written.
    pub async fn write<T, E, F>(self: &Arc<Self>, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        self.in_line(write, std::convert::identity, false).await
    }

    /// As [`Self::write`]; `then` puts in force what was committed. It is called before anybody else writes, so in the order of the
    /// commits, and whether or not whoever asked still waits. It must not wait for the database. What comes behind it in line is not in its commit.
    ///
    /// # Errors
    /// Those of `write`, and [`StoreError`]; then nothing was written, and `then` is not called.
    pub async fn write_then<T, U, E, F, G>(self: &Arc<Self>, write: F, then: G) -> Result<U, E>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        self.in_line(write, then, true).await
    }

    async fn in_line<T, U, E, F, G>(
        self: &Arc<Self>,
        write: F,
        then: G,
        is_last: bool,
    ) -> Result<U, E>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        let (write, answered) = Write::new(write, then, is_last, self.writing.take()?);
        Line::push(self, write);
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Thread.into()))
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That the schema is as it was made: whoever can write the file may put a trigger in it while it is open, too. What was once seen to be another's is
    /// refused for ever: a trigger that SQLite has read acts although its number, which anybody can write, is the one before again.
    pub(super) fn is_as_made(&self, db: &Connection) -> Result<(), StoreError> {
        if let Some(unfit) = &*self.unfit.borrow() {
            return Err(unfit.error(&self.path).into());
        }
        let version = schema::version(db)?;
        if version == self.schema.load(Relaxed) {
            return Ok(());
        }
        // Whatever comes of it: the number that was seen last is no good one.
        self.schema.store(i64::MIN, Relaxed);
        if let Some(flaw) = schema::flaw(db, self.migrations.iter())? {
            return Err(self.give_up(Unfit::Foreign(flaw)).into());
        }
        self.schema.store(version, Relaxed);
        Ok(())
    }

    /// Nothing is read or written from now on.
    fn give_up(&self, unfit: Unfit) -> DbError {
        let why = unfit.error(&self.path);
        let first = self.unfit.send_if_modified(|was| {
            let first = was.is_none();
            was.get_or_insert(unfit);
            first
        });
        if first {
            tracing::error!(
                error = chain(&why),
                "nothing is read or written until the service is restarted with a database that is sound"
            );
        }
        why
    }

    /// Gives up if that is why something failed.
    fn judge(&self, error: &(dyn Error + 'static)) {
        if let Some(flaw) = damage(error) {
            self.give_up(Unfit::Damaged(flaw));
        }
    }

    /// That its files are not those that were opened, if so.
    pub(crate) fn moved(&self) -> Option<DbError> {
        self.files.check().err()
    }

    /// Why nothing can be written now, if that is so.
    #[must_use]
    pub fn unwritable(&self) -> Option<String> {
        let path = self.path.display();
        if let Some(unfit) = &*self.unfit.borrow() {
            let why = unfit.error(&self.path);
            return Some(format!(
                "{why}; nothing is read or written until the service is restarted with it"
            ));
        }
        if let Some(moved) = self.moved() {
            return Some(moved.to_string());
        }
        self.full.borrow().then(|| {
            format!("the disk of {path} is full, or takes nothing: make room; what would be written is refused until then")
        })
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// How many write or wait for that.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.writing.taken()
    }

    /// Whether the disk takes what is written, by how a write ended; one that failed for another reason says nothing of that.
    pub(super) fn note(&self, error: Option<&(dyn Error + 'static)>) {
        let full = match error {
            None => false,
            Some(error) if is_unwritable(error) => true,
            Some(error) => return self.judge(error),
        };
        let changed = self
            .full
            .send_if_modified(|was| std::mem::replace(was, full) != full);
        let database = self.path.display();
        match (changed, full) {
            (true, true) => {
                let error = error.map(chain).unwrap_or_default();
                tracing::error!(%database, error, "the disk is full, or does not take what is written: nothing is, until it does");
            }
            (true, false) => tracing::info!(%database, "the disk takes what is written again"),
            (false, _) => {}
        }
    }

    /// Invariant: who has a turn finds one that is free.
    fn reader(&self) -> MutexGuard<'_, Connection> {
        let free = self
            .readers
            .iter()
            .find_map(|reader| match reader.try_lock() {
                Ok(free) => Some(free),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            });
        free.unwrap_or_else(|| {
            let reader = self.readers[0].lock();
            reader.unwrap_or_else(PoisonError::into_inner)
        })
    }
}

/// A connection that reads alone.
fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(super::BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(super::STATEMENTS);
    Ok(db)
}

/// One commit as a reader sees it, until this is dropped. The statements are kept as they were read, for each read has both.
struct Snapshot<'a>(&'a Connection);

impl<'a> Snapshot<'a> {
    fn begin(db: &'a Connection) -> rusqlite::Result<Self> {
        run(db, "BEGIN")?;
        Ok(Self(db))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // It fails if an error has ended the transaction already.
        let _ = run(self.0, "ROLLBACK");
    }
}

/// A statement that has neither parameters nor rows, which is kept as it was read.
pub(super) fn run(db: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests;
