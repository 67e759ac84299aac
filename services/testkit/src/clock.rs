//! A clock that stands still until a test moves it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The clock. Clones are the same one.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<Mutex<(SystemTime, Instant)>>);

impl Default for FakeClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((SystemTime::now(), Instant::now()))))
    }
}

impl FakeClock {
    /// At the time that it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the wall clock says.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.read().0
    }

    /// What the wall clock and the monotonic clock say.
    #[must_use]
    pub fn read(&self) -> (SystemTime, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whoever asks a closure.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Fn() -> (SystemTime, Instant) + Send + Sync> {
        let this = self.clone();
        Arc::new(move || this.read())
    }

    /// Time passes, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.change(|(wall, steady)| (wall + by, steady + by));
    }

    /// Somebody sets the wall clock ahead.
    pub fn set_ahead(&self, by: Duration) {
        self.change(|(wall, steady)| (wall + by, steady));
    }

    /// Somebody sets the wall clock back.
    pub fn set_back(&self, by: Duration) {
        self.change(|(wall, steady)| (wall - by, steady));
    }

    fn change(&self, change: impl FnOnce((SystemTime, Instant)) -> (SystemTime, Instant)) {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *both = change(*both);
    }
}
