//! What is in force and who is told of it as it changes: revocations, bans.
//!
//! A watcher gets all that is in force and then each change, with nothing missed and nothing waited for between the two. One that does
//! not keep up is cut off, and begins anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::error::Error;

/// Changes that a watcher may be behind.
const BEHIND: usize = 1024;
/// Watchers at once: a service of each node and some more.
const MAX_WATCHERS: usize = 256;
/// Between two signs of life; clients give a stream up that is silent for longer than two.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);
/// Messages that wait for a watcher's network.
const OUTGOING: usize = 64;

/// The hub.
pub(crate) struct Hub<S, E> {
    state: Mutex<S>,
    changes: broadcast::Sender<E>,
    places: Arc<Semaphore>,
}

/// How a hub's events become a stream's messages.
pub(crate) struct Messages<E, M> {
    /// A change.
    pub(crate) of: fn(E) -> M,
    /// All that is in force was sent.
    pub(crate) synced: fn() -> M,
    /// Nothing happened.
    pub(crate) heartbeat: fn() -> M,
}

impl<S, E: Clone + Send + 'static> Hub<S, E> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            state: Mutex::new(state),
            changes: broadcast::Sender::new(BEHIND),
            places: Arc::new(Semaphore::new(MAX_WATCHERS)),
        }
    }

    /// What is in force.
    pub(crate) fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is in force and tells of it, in one order for all.
    pub(crate) fn publish<T>(&self, changes: Vec<E>, mut apply: impl FnMut(&mut S, &E) -> T) {
        let mut state = self.state();
        for change in changes {
            apply(&mut state, &change);
            // Nobody may be watching.
            let _ = self.changes.send(change);
        }
    }

    /// Watchers at this moment.
    pub(crate) fn watchers(&self) -> usize {
        MAX_WATCHERS - self.places.available_permits()
    }

    /// A stream of what is in force by `all`, and of what changes.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn watch<M: Send + 'static>(
        &self,
        all: impl FnOnce(&S) -> Vec<E>,
        messages: Messages<E, M>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<ReceiverStream<Result<M, Status>>, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let wait = HEARTBEAT;
            Error::too_many(
                format!("{MAX_WATCHERS} services are watching already"),
                wait,
            )
        })?;
        let (all, changes) = {
            let state = self.state();
            (all(&state), self.changes.subscribe())
        };
        let (outgoing, stream) = mpsc::channel(OUTGOING);
        let sending = send(place, all, changes, messages, outgoing);
        tasks.spawn(async move { stop.run_until_cancelled(sending).await });
        Ok(ReceiverStream::new(stream))
    }
}

/// Until the watcher is gone or too slow.
async fn send<E: Clone + Send + 'static, M: Send + 'static>(
    place: OwnedSemaphorePermit,
    all: Vec<E>,
    mut changes: broadcast::Receiver<E>,
    messages: Messages<E, M>,
    outgoing: mpsc::Sender<Result<M, Status>>,
) {
    let _held = place;
    let first = all.into_iter().map(messages.of);
    for message in first.chain(std::iter::once_with(messages.synced)) {
        if outgoing.send(Ok(message)).await.is_err() {
            return;
        }
    }
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let message = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => Ok((messages.of)(change)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Err(Status::resource_exhausted("too slow: watch anew"))
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = heartbeat.tick() => Ok((messages.heartbeat)()),
            () = outgoing.closed() => return,
        };
        let ends = message.is_err();
        if outgoing.send(message).await.is_err() || ends {
            return;
        }
    }
}
