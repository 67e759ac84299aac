//! Responses that a client does not take.
//!
//! hyper asks a body for more only when the client has room for it, so a body cannot time its client: HTTP/2 with closed windows would
//! hold a backend's request for ever. The connection ends when it has bodies and none of them moved for too long. Rejected: a timer for
//! each body in a task of its own, which the common case would pay for.

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
    bodies: AtomicU32,
    moves: AtomicU64,
}

/// One of them.
pub(super) struct Flowing(Arc<Flow>);

impl Flow {
    pub(super) fn begin(self: &Arc<Self>) -> Flowing {
        self.bodies.fetch_add(1, Release);
        let flowing = Flowing(Arc::clone(self));
        flowing.moved();
        flowing
    }

    /// Returns when no body has moved for so long, or for twice that.
    pub(super) async fn stalled(&self, limit: Duration) {
        // What waits for its backend has a timeout of its own, which is to be first.
        let interval = limit + limit / 4;
        let mut last = None;
        loop {
            let moves = self.moves.load(Relaxed);
            if self.bodies.load(Acquire) > 0 && last == Some(moves) {
                return;
            }
            last = Some(moves);
            sleep(interval).await;
        }
    }
}

impl Flowing {
    /// A frame of it was taken.
    pub(super) fn moved(&self) {
        self.0.moves.fetch_add(1, Relaxed);
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(1, Release);
    }
}
