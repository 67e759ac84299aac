//! What nobody who is known fails at: the audit log is never pruned, and anybody can fail, so that not each of it gets a row.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rusqlite::Transaction;
use tonic::Code;

use crate::{
    audit::{self, Actor, AuditError, Detail, Entry},
    clock::Clock,
};

/// Rows a [`WINDOW`]: enough to see what somebody is up to, and a few megabytes a day at most.
const MAX_ROWS: u32 = 60;
/// What [`MAX_ROWS`] is counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// Says how many failures of a window have no row.
pub(super) const SUPPRESSED: &str = "audit.suppressed";

/// Failures of nobody who is known, over all ways into a service: 60 a minute get a row. The others are counted, and one row
/// (`audit.suppressed`) says their number, with the first row after that minute.
#[derive(Default)]
pub struct Strangers {
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    /// When it began; `None` before the first.
    since: Option<Instant>,
    rows: u32,
    /// What has no row in it.
    suppressed: u64,
    /// What had none in windows before, and no row says so yet.
    untold: u64,
}

impl Strangers {
    /// By this clock.
    #[must_use]
    pub fn by(clock: Clock) -> Self {
        Self {
            clock,
            window: Mutex::default(),
        }
    }

    /// Counts a failure: whether it gets a row.
    #[must_use]
    pub fn admit(&self) -> bool {
        let mut window = self.window();
        let fits = window.rows < MAX_ROWS;
        window.since.get_or_insert(self.clock.steady());
        window.rows += u32::from(fits);
        window.suppressed += u64::from(!fits);
        fits
    }

    /// How many had no row in the minutes before and are to be told of now, see [`Self::tell`].
    #[must_use]
    pub fn untold(&self) -> u64 {
        std::mem::take(&mut self.window().untold)
    }

    /// They were not told of, for what would have told of them failed.
    pub fn still_untold(&self, number: u64) {
        self.window().untold += number;
    }

    /// Tells of so many, if there are any: the row that says so.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn tell(tx: &Transaction<'_>, number: u64, now: SystemTime) -> Result<(), AuditError> {
        if number == 0 {
            return Ok(());
        }
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let entry = Entry {
            actor: Actor::Anonymous,
            source: None,
            action: SUPPRESSED,
            resource: "",
            outcome: Code::ResourceExhausted,
            detail: Detail::new().number("calls", number),
        };
        audit::append(tx, &entry, now).map(drop)
    }

    /// The window that it is now.
    fn window(&self) -> MutexGuard<'_, Window> {
        let now = self.clock.steady();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if (window.since).is_some_and(|since| now.saturating_duration_since(since) >= WINDOW) {
            *window = Window {
                untold: window.untold + window.suppressed,
                ..Window::default()
            };
        }
        window
    }
}
