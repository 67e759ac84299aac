//! Reads that may take long, such as of a whole log: who may ask for them keeps nobody else from reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, InterruptHandle};

use super::store::{Store, StoreError};

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
}

/// Whoever waits.
struct Waits(Running);

impl Drop for Waits {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.given_up = true;
        if let Some(handle) = &state.handle {
            handle.interrupt();
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
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let turn = self.long.next().await?;
        let running = Running::default();
        let _waits = Waits(running.clone());
        let read = move |db: &Connection| {
            let _turn = turn;
            let Some(_reads) = Reads::begin(running, db) else {
                return Err(StoreError::Thread.into());
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
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;
    use crate::db::Migration;

    const SCHEMA: Migration = Migration::new(1, "start", "CREATE TABLE t (x INTEGER) STRICT");

    fn waits<T>(of: Pin<&mut impl Future<Output = T>>) -> bool {
        of.poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    fn nothing(_: &Connection) -> Result<(), StoreError> {
        Ok(())
    }

    #[tokio::test]
    async fn long_reads_are_one_at_a_time_and_end_with_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        let (begun, running) = mpsc::channel::<()>();
        let first = Arc::clone(&store);
        let first = tokio::spawn(async move {
            let endless = move |db: &Connection| -> Result<i64, StoreError> {
                begun.send(()).unwrap();
                let sql = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
                Ok(db.query_row(sql, [], |row| row.get(0))?)
            };
            first.read_long(endless).await
        });
        let running = tokio::task::spawn_blocking(move || running.recv());
        running.await.unwrap().unwrap();
        let mut second = Box::pin(store.read_long(nothing));
        assert!(waits(second.as_mut()));
        for _ in 0..10 {
            store.read(nothing).await.unwrap();
        }
        assert!(waits(second.as_mut()));
        first.abort();
        second.await.unwrap();
        // Those that were given up while they waited are in nobody's way.
        for _ in 0..10 {
            assert!(waits(Box::pin(store.read_long(nothing)).as_mut()));
        }
        store.read_long(nothing).await.unwrap();
    }
}
