//! Reads that may take long, such as of a whole log: who may ask for them keeps nobody else from reading.

use std::{
    error::Error,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, InterruptHandle};
use tokio::{runtime::Handle, task::JoinError, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    asker::carried,
    store::{Reading, Store, StoreError},
};

/// Between two interruptions of a read that nobody waits for.
const AGAIN: Duration = Duration::from_millis(10);

tokio::task_local! {
    /// That nobody waits any more for what this task does.
    static GONE: CancellationToken;
}

/// Does it in a task of its own to its end, for whom this task works, whether somebody goes on to wait or not. What it reads by [`Store::read_long`] ends with who waits.
///
/// # Errors
/// If it panics.
pub async fn to_the_end<F>(tasks: &TaskTracker, work: F) -> Result<F::Output, JoinError>
where
    F: Future<Output: Send> + Send + 'static,
{
    let gone = GONE.try_with(CancellationToken::child_token);
    let gone = gone.unwrap_or_default();
    let _waits = gone.clone().drop_guard();
    tasks.spawn(carried(GONE.scope(gone, work))).await
}

/// Whether somebody waits for what a task does: what nobody would learn of is better not done.
#[derive(Clone, Debug, Default)]
pub struct Awaited(CancellationToken);

impl Awaited {
    /// What this task does.
    #[must_use]
    pub fn here() -> Self {
        Self(GONE.try_with(Clone::clone).unwrap_or_default())
    }

    /// That somebody does, as far as is known.
    ///
    /// # Errors
    /// [`StoreError::GivenUp`].
    pub fn still(&self) -> Result<(), StoreError> {
        match self.0.is_cancelled() {
            true => Err(StoreError::GivenUp),
            false => Ok(()),
        }
    }
}

/// A read, as long as somebody waits for it.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    given_up: bool,
    /// While it runs: the connection is others' after that.
    handle: Option<InterruptHandle>,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it runs.
    fn interrupt(&self) -> bool {
        let state = self.state();
        state.handle.iter().for_each(InterruptHandle::interrupt);
        state.handle.is_some()
    }
}

/// Whoever waits.
struct Waits(Running);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.state().given_up = true;
        if let (true, Ok(runtime)) = (self.0.interrupt(), Handle::try_current()) {
            let running = self.0.clone();
            // SQLite forgets it where no statement is under way: before the first one, and between two.
            runtime.spawn(async move {
                while running.interrupt() {
                    sleep(AGAIN).await;
                }
            });
        }
    }
}

/// Whoever reads.
struct Reads(Running);

impl Reads {
    fn begin(running: Running, db: &Connection) -> Option<Self> {
        let mut state = running.state();
        if state.given_up {
            return None;
        }
        state.handle = Some(db.get_interrupt_handle());
        drop(state);
        Some(Self(running))
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.state().handle = None;
    }
}

impl Store {
    /// As [`Self::read`], of what may take long: one at a time, in turns of those who ask, so that others find a reader; and it ends when nobody waits for it any more.
    ///
    /// # Errors
    /// Those of `read`, and [`StoreError`].
    pub async fn read_long<T, E, F>(self: &Arc<Self>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.read_awaited(&self.long, read).await
    }

    /// As [`Self::read_long`], of what looks for a page and seldom takes long: in a turn of its own, so that it waits for no read of the whole.
    ///
    /// # Errors
    /// Those of `read`, and [`StoreError`].
    pub async fn search<T, E, F>(self: &Arc<Self>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.read_awaited(&self.searching, read).await
    }

    async fn read_awaited<T, E, F>(self: &Arc<Self>, turns: &Reading, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let gone = Awaited::here().0;
        let read = gone
            .run_until_cancelled(self.read_in_turn(turns, read))
            .await;
        read.unwrap_or_else(|| Err(StoreError::GivenUp.into()))
    }

    async fn read_in_turn<T, E, F>(self: &Arc<Self>, turns: &Reading, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let turn = turns.next().await?;
        // Those that follow one another without a gap would keep it from being emptied for ever.
        self.shrink_if_long().await;
        let running = Running::default();
        let _waits = Waits(running.clone());
        let read = move |db: &Connection| {
            let _turn = turn;
            let Some(_reads) = Reads::begin(running, db) else {
                return Err(StoreError::GivenUp.into());
            };
            read(db)
        };
        self.read(read).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{OnceLock, mpsc},
        task::{Context, Waker},
    };

    use super::*;
    use crate::db::{Asker, Migration, asked_by, store::OF_LONG};

    const SCHEMA: Migration = Migration::new(1, "start", "CREATE TABLE t (x INTEGER) STRICT");

    fn waits<T>(of: Pin<&mut impl Future<Output = T>>) -> bool {
        of.poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    fn nothing(_: &Connection) -> Result<(), StoreError> {
        Ok(())
    }

    fn endless(begun: mpsc::Sender<()>) -> impl FnOnce(&Connection) -> Result<i64, StoreError> {
        move |db| {
            begun.send(()).unwrap();
            let sql = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
            Ok(db.query_row(sql, [], |row| row.get(0))?)
        }
    }

    #[tokio::test]
    async fn what_goes_on_without_its_client_reads_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        let (begun, running) = mpsc::channel::<()>();
        let tasks = TaskTracker::new();
        let (reader, tracker) = (Arc::clone(&store), tasks.clone());
        let (ended, end) = tokio::sync::oneshot::channel();
        let client = tokio::spawn(async move {
            // As a page's that asks a method.
            let inner = tracker.clone();
            let call = async move { reader.read_long(endless(begun)).await };
            let page = async move {
                let read = to_the_end(&inner, call).await.unwrap();
                ended.send(read).unwrap();
            };
            to_the_end(&tracker, page).await
        });
        let running = tokio::task::spawn_blocking(move || running.recv());
        running.await.unwrap().unwrap();
        client.abort();
        assert!(matches!(end.await.unwrap(), Err(StoreError::GivenUp)));
        store.read_long(nothing).await.unwrap();
    }

    #[tokio::test]
    async fn one_caller_has_few_that_wait() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        let asked = |name: &str| Asker {
            network: "192.0.2.0/24".parse().unwrap(),
            account: Arc::new(OnceLock::from(Arc::from(name))),
        };
        let (begun, running) = mpsc::channel::<()>();
        let first = Arc::clone(&store);
        let first = async move { first.read_long(endless(begun)).await };
        let first = tokio::spawn(asked_by(Some(asked("eve")), first));
        let running = tokio::task::spawn_blocking(move || running.recv());
        running.await.unwrap().unwrap();
        let read = |name: &str| asked_by(Some(asked(name)), store.read_long(nothing));
        let mut waiting = Vec::new();
        for _ in 0..OF_LONG {
            waiting.push(Box::pin(read("eve")));
        }
        for one in &mut waiting {
            assert!(waits(one.as_mut()));
        }
        assert!(waits(Box::pin(read("ada")).as_mut()));
        assert!(matches!(read("eve").await, Err(StoreError::Busy)));
        first.abort();
        for one in waiting {
            one.await.unwrap();
        }
    }

    /// Else long reads that follow one another would keep it for ever.
    #[tokio::test]
    async fn a_long_log_is_emptied_between_long_reads() {
        const BLOBS: Migration = Migration::new(1, "start", "CREATE TABLE t (x BLOB) STRICT");
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[BLOBS]).unwrap();
        let fill = |tx: &rusqlite::Transaction<'_>| -> Result<(), StoreError> {
            tx.execute("INSERT INTO t VALUES (zeroblob(17 << 20))", [])?;
            Ok(())
        };
        store.write(fill).await.unwrap();
        let log = directory.path().join("a.db-wal");
        let length = || std::fs::metadata(&log).unwrap().len();
        assert!(length() > 17 << 20, "{}", length());
        store.read_long(nothing).await.unwrap();
        assert_eq!(length(), 0);
    }

    #[tokio::test]
    async fn long_reads_are_one_at_a_time_and_end_with_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        let (begun, running) = mpsc::channel::<()>();
        let first = Arc::clone(&store);
        let first = tokio::spawn(async move { first.read_long(endless(begun)).await });
        let running = tokio::task::spawn_blocking(move || running.recv());
        running.await.unwrap().unwrap();
        let mut second = Box::pin(store.read_long(nothing));
        assert!(waits(second.as_mut()));
        for _ in 0..10 {
            store.read(nothing).await.unwrap();
            store.search(nothing).await.unwrap();
        }
        assert!(waits(second.as_mut()));
        first.abort();
        second.await.unwrap();
        // Those that were given up while they waited are in nobody's way.
        for _ in 0..10 {
            let _ = waits(Box::pin(store.read_long(nothing)).as_mut());
        }
        store.read_long(nothing).await.unwrap();
    }
}
