//! Whether backends live: [`state`] decides, [`check`] asks, requests tell, and [`Health`] is what a choice reads.

pub mod budget;
pub mod check;
mod choice;
pub mod state;

use std::{
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use choice::Unavailable;
use state::{Event, Report, Standing, State, WHOLE, Why};

/// Default of `slow_start`.
pub const SLOW_START: Duration = Duration::from_secs(10);

/// [`Health::usable`] of a backend that is down.
const DOWN: u64 = u64::MAX;

/// The time, as [`state`] takes it. Never zero.
#[must_use]
pub fn now() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed() + Duration::from_secs(1)
}

/// The health of one backend of one route.
#[derive(Debug, Default)]
pub struct Health {
    /// [`State::usable_from`] in milliseconds, so that a choice reads one number and takes no lock.
    usable: AtomicU64,
    /// [`State::failing`]: the successes of a backend that is well take no lock either.
    failing: AtomicBool,
    inner: Mutex<Inner>,
    /// Active checks that passed.
    pub passed: AtomicU64,
    /// Active checks that failed.
    pub failed: AtomicU64,
    /// Ejections by failed requests.
    pub ejections: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// Who checks now: a result of who did before is late.
    watch: u64,
}

/// The right to tell the results of active checks, until somebody else gets it.
#[derive(Clone, Copy, Debug)]
pub struct Watch(u64);

impl Health {
    /// Whether the backend may be used. `now` is only asked where it matters.
    pub fn standing(&self, now: impl FnOnce() -> Duration, slow_start: Duration) -> Standing {
        match self.usable.load(Relaxed) {
            0 => Standing::Share(WHOLE),
            DOWN => Standing::Down,
            from => state::standing(Some(Duration::from_millis(from)), now(), slow_start),
        }
    }

    /// A request succeeded.
    pub fn succeeded(&self) {
        if self.failing.load(Relaxed) {
            let mut inner = self.lock();
            inner.state.succeeded();
            self.publish(&inner.state);
        }
    }

    /// A request failed by the backend's fault; `room` as [`State::failed`] has it.
    pub fn request_failed(&self, why: Why, room: bool) -> Option<Event> {
        let mut inner = self.lock();
        let event = inner.state.failed(now(), why, room);
        self.publish(&inner.state);
        if event.is_some() {
            self.ejections.fetch_add(1, Relaxed);
        }
        event
    }

    /// Active checks begin anew.
    pub fn watch(&self) -> Watch {
        let mut inner = self.lock();
        inner.watch += 1;
        inner.state.forget_checks();
        self.publish(&inner.state);
        Watch(inner.watch)
    }

    /// The result of an active check.
    pub fn checked(&self, by: Watch, result: Result<(), Why>) -> Option<Event> {
        let mut inner = self.lock();
        if inner.watch != by.0 {
            return None;
        }
        let counter = if result.is_ok() {
            &self.passed
        } else {
            &self.failed
        };
        counter.fetch_add(1, Relaxed);
        let event = inner.state.checked(now(), result);
        self.publish(&inner.state);
        event
    }

    /// For people.
    pub fn report(&self, slow_start: Duration) -> Report {
        self.lock().state.report(now(), slow_start)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that the last to change is the last to publish.
    fn publish(&self, state: &State) {
        let usable = state.usable_from().map_or(DOWN, |from| {
            u64::try_from(from.as_millis()).unwrap_or(DOWN - 1)
        });
        self.usable.store(usable, Relaxed);
        self.failing.store(state.failing(), Relaxed);
    }
}
