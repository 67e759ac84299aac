//! Who is next to try a secret.
//!
//! Hashing a password takes memory, so attempts of one kind of origin are one at a time. Strangers have a line of their own, in which nobody waits: however
//! many try, they keep nobody from his turn who is known.

use std::time::Instant;

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

use super::{Origin, SealError};

/// Attempts of known origin: one, and those that wait for it.
pub(super) const KNOWN: usize = 4;

/// The lines. A turn has when the last one began, in this process, by the monotonic clock.
#[derive(Debug)]
pub(super) struct Lines {
    known: Line,
    strangers: Line,
}

#[derive(Debug)]
struct Line {
    places: Semaphore,
    turn: Mutex<Option<Instant>>,
}

impl Line {
    fn new(places: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            turn: Mutex::new(None),
        }
    }
}

/// One's turn, for as long as it is held.
pub(super) struct Turn<'a> {
    /// When the last attempt began.
    pub(super) last: MutexGuard<'a, Option<Instant>>,
    _place: SemaphorePermit<'a>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            known: Line::new(KNOWN),
            strangers: Line::new(1),
        }
    }

    /// Waits for one's turn, if there is a place to wait.
    ///
    /// # Errors
    /// [`SealError::Busy`].
    pub(super) async fn turn(&self, origin: Origin) -> Result<Turn<'_>, SealError> {
        let line = match origin {
            Origin::Known => &self.known,
            Origin::Stranger => &self.strangers,
        };
        let place = line.places.try_acquire().map_err(|_| SealError::Busy)?;
        Ok(Turn {
            last: line.turn.lock().await,
            _place: place,
        })
    }
}
