//! The time, as a service asks for it.
//!
//! A service has one clock, made by whoever starts it: the machine's in its binary, which has no way to set another, and in tests one that
//! they move. Cores do not ask it: they are told the time.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Clocks are put right by a little: what was made by one that was ahead by no more holds. What seems made later is of a clock that was wrong,
/// and would be over too late.
pub const SKEW: Duration = Duration::from_secs(10);

type Read = dyn Fn() -> (SystemTime, Instant) + Send + Sync;

/// Where the time comes from. Clones are the same clock.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Read>>);

impl Clock {
    /// One that somebody moves, for tests: what the wall clock and the monotonic clock say.
    #[must_use]
    pub fn of(read: Arc<Read>) -> Self {
        Self(Some(read))
    }

    /// The wall clock: it is set, and may be wrong for a while.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(read) => read().0,
        }
    }

    /// The monotonic clock: nobody sets it, and it knows no dates.
    #[must_use]
    pub fn steady(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(read) => read().1,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Clock(a test's)"
        } else {
            "Clock(the machine's)"
        })
    }
}
