//! What is in force and who is told of it as it changes: revocations, bans.
//!
//! A watcher gets all that is in force and then each change, with nothing missed and nothing waited for between the two. One that does
//! not keep up is cut off, and begins anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use crate::error::Error;

/// Changes that a watcher may be behind: more than one change of the policy or of a password makes at once.
const BEHIND: usize = 16 * 1024;
/// Watchers at once: a service of each node and some more.
const MAX_WATCHERS: usize = 256;
/// Of those, of one account: whoever has a service's token is not to keep the other services from hearing.
const OF_ACCOUNT: usize = MAX_WATCHERS / 4;
/// Between two signs of life; clients give a stream up that is silent for longer than two.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);
/// Messages that wait for a watcher's network.
const OUTGOING: usize = 64;

/// The hub.
pub(crate) struct Hub<S, E> {
    state: Mutex<S>,
    changes: broadcast::Sender<E>,
    watchers: Arc<Watchers>,
}

/// Who watches: how many there are of each account.
#[derive(Default)]
struct Watchers(Mutex<HashMap<String, usize>>);

/// One of them.
struct Watcher {
    all: Arc<Watchers>,
    account: String,
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
            watchers: Arc::default(),
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
        self.watchers.state().values().sum()
    }

    /// A stream for an account, of what is in force by `all` and of what changes.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn watch<M: Send + 'static>(
        &self,
        account: &str,
        all: impl FnOnce(&S) -> Vec<E>,
        messages: Messages<E, M>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<ReceiverStream<Result<M, Status>>, Error> {
        let watcher = self.watchers.begin(account)?;
        let (all, changes) = {
            let state = self.state();
            (all(&state), self.changes.subscribe())
        };
        let (outgoing, stream) = mpsc::channel(OUTGOING);
        let sending = send(watcher, all, changes, messages, outgoing);
        tasks.spawn(async move { stop.run_until_cancelled(sending).await });
        Ok(ReceiverStream::new(stream))
    }
}

impl Watchers {
    fn state(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, account: &str) -> Result<Watcher, Error> {
        let mut state = self.state();
        let own = state.get(account).copied().unwrap_or(0);
        let text = if own >= OF_ACCOUNT {
            format!("the account is watching {OF_ACCOUNT} times already")
        } else if state.values().sum::<usize>() >= MAX_WATCHERS {
            format!("{MAX_WATCHERS} services are watching already")
        } else {
            state.insert(account.to_owned(), own + 1);
            return Ok(Watcher {
                all: Arc::clone(self),
                account: account.to_owned(),
            });
        };
        Err(Error::too_many(text, HEARTBEAT))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(held) = state.get_mut(&self.account) {
            *held -= 1;
            if *held == 0 {
                state.remove(&self.account);
            }
        }
    }
}

/// Until the watcher is gone or too slow.
async fn send<E: Clone + Send + 'static, M: Send + 'static>(
    watcher: Watcher,
    all: Vec<E>,
    mut changes: broadcast::Receiver<E>,
    messages: Messages<E, M>,
    outgoing: mpsc::Sender<Result<M, Status>>,
) {
    let _held = watcher;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_keeps_others_from_watching() {
        let watchers = Arc::new(Watchers::default());
        let mut held = Vec::new();
        for account in ["robot", "wiki", "proxy", "registry"] {
            for n in 0..=OF_ACCOUNT {
                let got = watchers.begin(account);
                assert_eq!(got.is_ok(), n < OF_ACCOUNT, "{account}: {n}");
                held.extend(got.ok());
            }
        }
        assert_eq!(held.len(), MAX_WATCHERS);
        let refused = watchers.begin("one more").map(drop).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        held.pop();
        held.push(watchers.begin("one more").unwrap());
        drop(held);
        assert!(watchers.state().is_empty());
    }
}
