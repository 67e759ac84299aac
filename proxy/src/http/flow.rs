//! Responses that a client does not take.
//!
//! hyper asks a body for more only when the client has taken what came before, so a body cannot time its client: HTTP/2 with closed
//! windows would hold a backend's request for ever. The connection ends when it has bodies that are not asked, and nobody was for too
//! long. Rejected: a timer for each body in a task of its own, which the common case would pay for.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::sleep;

/// The response bodies of a connection.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bodies that wait for the client.
    held: AtomicU32,
    moves: AtomicU64,
}

/// One of them.
pub(super) struct Flowing {
    flow: Arc<Flow>,
    held: bool,
}

impl Flow {
    /// A response whose head is the client's to take.
    pub(super) fn begin(self: &Arc<Self>) -> Flowing {
        let mut flowing = Flowing {
            flow: Arc::clone(self),
            held: false,
        };
        flowing.asked(false);
        flowing
    }

    /// Grows with every response and all that is taken of it.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Relaxed)
    }

    /// Returns when no body has moved for so long, or for twice that.
    pub(super) async fn stalled(&self, limit: Duration) {
        // What waits for its backend has a timeout of its own, which is to be first.
        let interval = limit + limit / 4;
        let mut last = None;
        loop {
            let moves = self.moves.load(Relaxed);
            if self.held.load(Acquire) > 0 && last == Some(moves) {
                return;
            }
            last = Some(moves);
            sleep(interval).await;
        }
    }
}

impl Flowing {
    /// It was asked for more: the client has taken all there was. `waits`: so does the backend's side now, and the client is not to
    /// blame.
    pub(super) fn asked(&mut self, waits: bool) {
        self.flow.moves.fetch_add(1, Relaxed);
        match (self.held, waits) {
            (true, true) => drop(self.flow.held.fetch_sub(1, Release)),
            (false, false) => drop(self.flow.held.fetch_add(1, Release)),
            _ => {}
        }
        self.held = !waits;
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.asked(true);
    }
}
