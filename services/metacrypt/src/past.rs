//! The time by which things are forgotten for good.
//!
//! A clock that is ahead for a moment must not have anything deleted that cannot be made again, like revocations of certificates that seem to have ended. So it is believed
//! as far as a day beyond what it said when it was last believed and what has passed since by the monotonic clock. If it is further ahead (it was set, or the service was
//! away for longer), nothing is forgotten by it until the monotonic clock has counted a day of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mcdsl::{clock::Clock, db::StoreError};
use rusqlite::{Connection, Transaction};

use crate::{
    barrier::{ItemError, Unsealed},
    core::Metacrypt,
    engine::EngineError,
    policy::system,
};

/// How far it may be ahead.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);
/// After which it is written down again.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Where, in the core's own mount: seconds since the epoch.
const PATH: &str = "time";

/// What is known of the time.
#[derive(Default)]
pub(crate) struct Past(Mutex<Option<Seen>>);

#[derive(Clone, Copy)]
struct Seen {
    /// What was believed last, by both clocks.
    at: (SystemTime, Instant),
    /// One that is further ahead, since it is.
    ahead: Option<(SystemTime, Instant)>,
    /// What was written down.
    kept: SystemTime,
}

/// What the wall clock says if nobody sets it.
fn on((wall, steady): (SystemTime, Instant), now: Instant) -> SystemTime {
    wall + now.saturating_duration_since(steady)
}

impl Seen {
    fn sure(&mut self, wall: SystemTime, steady: Instant) -> SystemTime {
        let expected = on(self.at, steady);
        if wall > expected + FAR {
            let goes_on = |ahead: &(SystemTime, Instant)| {
                let there = on(*ahead, steady);
                wall <= there + FAR && wall + FAR >= there
            };
            let ahead = self.ahead.filter(goes_on);
            let (_, since) = *self.ahead.insert(ahead.unwrap_or((wall, steady)));
            if steady.saturating_duration_since(since) < FAR {
                return expected;
            }
        }
        self.ahead = None;
        self.at = (wall, steady);
        wall
    }
}

impl Past {
    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written down, or when the seal was made: what opens the seal says it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn begin(
        &self,
        open: &Unsealed,
        db: &Connection,
        now: Instant,
    ) -> Result<(), StoreError> {
        let Ok(system) = system(open) else {
            return Ok(());
        };
        let kept = match system.items(db).get::<u64>(PATH) {
            Ok(kept) => kept.map(|s| UNIX_EPOCH + Duration::from_secs(s)),
            Err(ItemError::Store(error)) => return Err(error),
            // Somebody else has changed it, which says nothing of the time.
            Err(_) => None,
        };
        let kept = kept.unwrap_or(system.made());
        self.seen().get_or_insert(Seen {
            at: (kept, now),
            ahead: None,
            kept,
        });
        Ok(())
    }

    /// The time, or an earlier one while the clock is too far ahead.
    pub(crate) fn sure(&self, clock: &Clock) -> SystemTime {
        let mut seen = self.seen();
        let sure = |seen: &mut Seen| seen.sure(clock.now(), clock.steady());
        seen.as_mut().map_or(UNIX_EPOCH, sure)
    }
}

impl Metacrypt {
    /// Writes down what time it is, for who opens the seal after a restart; at most each hour.
    ///
    /// # Errors
    /// If it is sealed, and the database's.
    pub(crate) async fn keep_time(&self) -> Result<(), EngineError> {
        let open = self.open()?;
        let sure = self.past.sure(self.seal.clock());
        let kept = self.past.seen().map_or(UNIX_EPOCH, |seen| seen.kept);
        if sure < kept + KEPT {
            return Ok(());
        }
        let since = sure.duration_since(UNIX_EPOCH).unwrap_or_default();
        let write = move |tx: &Transaction<'_>| -> Result<(), EngineError> {
            Ok(system(&open)?.items(tx).put(PATH, &since.as_secs())?)
        };
        self.seal.store().write(write).await?;
        if let Some(seen) = &mut *self.past.seen() {
            seen.kept = sure;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mc_testkit::clock::FakeClock;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// By how much the clock is moved and set, in hours, and how far ahead of what is right it is then, and is believed to be.
    #[test]
    fn a_clock_that_is_ahead_for_a_moment_is_not_believed() {
        let clock = FakeClock::new();
        let read = Clock::of(clock.source());
        let (mut right, mut seen) = (clock.now(), {
            let at = clock.read();
            Seen {
                at,
                ahead: None,
                kept: at.0,
            }
        });
        for (description, passes, set, is, believed) in [
            ("as it is", 0, 0, 0, 0),
            ("a year passes", 24 * 365, 0, 0, 0),
            ("it is set ahead by some hours", 0, 20, 20, 20),
            ("and back", 0, -20, 0, 0),
            ("by a year", 0, 24 * 365, 24 * 365, 0),
            ("for some hours", 20, 0, 24 * 365, 0),
            ("and back, again", 0, -24 * 365, 0, 0),
            ("by a year, again", 0, 24 * 365, 24 * 365, 0),
            ("for most of a day", 23, 0, 24 * 365, 0),
            ("and by another", 0, 24 * 365, 2 * 24 * 365, 0),
            ("which lasts for most of a day", 23, 0, 2 * 24 * 365, 0),
            ("and for a day", 1, 0, 2 * 24 * 365, 2 * 24 * 365),
            ("back", 0, -2 * 24 * 365, 0, 0),
        ] {
            clock.advance(HOUR * passes);
            right += HOUR * passes;
            let by = HOUR * u32::try_from(i32::abs(set)).unwrap();
            match set < 0 {
                true => clock.set_back(by),
                false => clock.set_ahead(by),
            }
            let hours =
                |time: SystemTime| time.duration_since(right).unwrap().as_secs() / HOUR.as_secs();
            assert_eq!(hours(read.now()), is, "{description}");
            let sure = seen.sure(read.now(), read.steady());
            assert_eq!(hours(sure), believed, "{description}");
        }
    }
}
