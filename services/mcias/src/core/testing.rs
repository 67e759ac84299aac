//! A service without a server, for tests of what it does.

use std::sync::Arc;

use mcdsl::{clock::Clock, db::Store, server::Failures, shutdown::Shutdown};
use rusqlite::Transaction;
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{Mcias, Parts};
use crate::{error::Error, keys, password::Passwords, schema, seal};

/// One with a key and nothing else, for as long as its directory is there.
pub(crate) async fn mcias() -> (TempDir, Arc<Mcias>) {
    mcias_by(Clock::default()).await
}

/// The same, by a clock that the test moves.
pub(crate) async fn mcias_by(clock: Clock) -> (TempDir, Arc<Mcias>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("mcias.db"), schema::MIGRATIONS).unwrap();
    let path = directory.path().join("master.key");
    let seal = seal::Key::create(&path).unwrap();
    let now = clock.now();
    let create = move |tx: &Transaction<'_>| keys::create(tx, &seal, now);
    store.write(create).await.unwrap();
    let parts = Parts {
        failures: Arc::new(Failures::by(clock.clone())),
        clock,
        store,
        seal: seal::Key::read(&path).unwrap(),
        issuer: "https://mcias.example".to_owned(),
        passwords: Passwords::new(1).unwrap(),
        breached: None,
        never_ban: Vec::new(),
        shutdown: Shutdown::new(),
    };
    (directory, Mcias::new(parts).await.unwrap())
}

/// The database has too much to do, to read or to write, until it is let go.
pub(crate) struct Busy {
    over: watch::Sender<bool>,
    waiting: Vec<JoinHandle<Result<(), Error>>>,
}

impl Busy {
    /// To read.
    pub(crate) async fn reading(store: &Arc<Store>) -> Self {
        let one = |store: Arc<Store>, hold: Box<dyn FnOnce() + Send>| async move {
            let read = move |_: &rusqlite::Connection| {
                hold();
                Ok(())
            };
            store.read(read).await
        };
        Self::fill(store, one).await
    }

    /// To write.
    pub(crate) async fn writing(store: &Arc<Store>) -> Self {
        let one = |store: Arc<Store>, hold: Box<dyn FnOnce() + Send>| async move {
            let write = move |_: &Transaction<'_>| {
                hold();
                Ok(())
            };
            store.write(write).await
        };
        Self::fill(store, one).await
    }

    /// Asks until somebody is refused.
    async fn fill<F>(
        store: &Arc<Store>,
        one: impl Fn(Arc<Store>, Box<dyn FnOnce() + Send>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (over, wait) = watch::channel(false);
        let mut waiting = Vec::new();
        loop {
            let mut wait = wait.clone();
            let runtime = tokio::runtime::Handle::current();
            let hold = move || drop(runtime.block_on(wait.wait_for(|over| *over)));
            let asked = one(Arc::clone(store), Box::new(hold));
            let (polled, was_polled) = oneshot::channel();
            let mut asked = Box::pin(asked);
            let mut polled = Some(polled);
            waiting.push(tokio::spawn(std::future::poll_fn(move |context| {
                let answer = asked.as_mut().poll(context);
                if let Some(polled) = polled.take() {
                    // Whoever waits for it is there.
                    let _ = polled.send(());
                }
                answer
            })));
            was_polled.await.unwrap();
            if waiting.last().is_some_and(JoinHandle::is_finished) {
                break;
            }
        }
        Self { over, waiting }
    }

    /// Lets it go.
    pub(crate) async fn let_go(self) {
        self.over.send_replace(true);
        let mut refused = 0;
        for waiting in self.waiting {
            refused += usize::from(waiting.await.unwrap().is_err());
        }
        assert_eq!(refused, 1, "the last one");
    }
}
