//! How soon the seal may be tried again.
//!
//! Each attempt is written down before its secret is looked at, so that killing the service saves nobody the wait. While the service runs, the wait is measured by
//! the monotonic clock, which nobody sets. After a restart there is the wall clock alone: one that was set back since makes the wait begin anew, and one that was
//! set ahead ends it. Who may set the machine's clock and restart its services has the database too, and guesses at it elsewhere, without waiting.
//!
//! Only passwords are guessed at: recovery keys and shares are random, and whoever has them waits for nobody. Attempts from this machine and from networks that the seal was opened from are counted apart: strangers who try keep strangers out.

use std::time::Duration;

/// Failures that cost no wait: people mistype.
const FREE: u32 = 3;
/// The longest wait. With one password in so long, a weak one still lasts for years.
const LONGEST: Duration = Duration::from_secs(300);

/// Where an attempt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This machine, or a network that the seal was opened from.
    Known,
    /// Any other.
    Stranger,
}

impl Origin {
    /// In the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Stranger => "stranger",
        }
    }
}

/// The attempts of one kind of origin since the seal was last opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// How many failed, the one that is under way included.
    pub(super) failed: u32,
    /// When the last one began, in milliseconds since the epoch.
    pub(super) last_ms: i64,
}

impl Attempts {
    /// How long to wait after the last one.
    fn pause(self) -> Duration {
        let Some(over) = self.failed.checked_sub(FREE) else {
            return Duration::ZERO;
        };
        let doubled = Duration::from_secs(1).checked_mul(1 << over.min(16));
        doubled.unwrap_or(LONGEST).min(LONGEST)
    }

    /// How long it takes until the next may begin, so long after the last one; zero: now.
    pub(super) fn wait(self, since: Duration) -> Duration {
        self.pause().saturating_sub(since)
    }

    /// How long ago the last one began, by the wall clock.
    pub(super) fn since(self, now_ms: i64) -> Duration {
        let since = u64::try_from(now_ms.saturating_sub(self.last_ms));
        Duration::from_millis(since.unwrap_or(0))
    }

    /// As many, the last one not after now: it would be, if the clock was set back.
    pub(super) fn until(self, now_ms: i64) -> Self {
        Self {
            last_ms: self.last_ms.min(now_ms),
            ..self
        }
    }

    /// With one more, that begins now.
    pub(super) fn begun(self, now_ms: i64) -> Self {
        Self {
            failed: self.failed.saturating_add(1),
            last_ms: now_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_makes_the_next_wait_longer() {
        for (description, failed, since_ms, seconds) in [
            ("none yet", 0, 0, 0.0),
            ("a slip", 2, 0, 0.0),
            ("the third", 3, 0, 1.0),
            ("the third, half a second ago", 3, 500, 0.5),
            ("the third, long ago", 3, 5000, 0.0),
            ("the sixth", 6, 0, 8.0),
            ("the twelfth", 12, 0, 300.0),
            ("any number", u32::MAX, 0, 300.0),
            ("any number, long ago", u32::MAX, 300_000, 0.0),
            ("before the clock was set back", 6, -1_000_000, 8.0),
            ("before it was set back by years", 12, -999_999_999, 300.0),
        ] {
            let attempts = Attempts {
                failed,
                last_ms: 1_000_000_000,
            };
            let now_ms = 1_000_000_000 + since_ms;
            let until = attempts.until(now_ms);
            let wait = until.wait(until.since(now_ms));
            assert_eq!(wait, Duration::from_secs_f64(seconds), "{description}");
            // From then on it passes, whatever the clock had said.
            let later_ms = now_ms + 300_000;
            let wait = until.wait(until.since(later_ms));
            assert_eq!(
                (wait, until.failed),
                (Duration::ZERO, failed),
                "{description}"
            );
        }
        let begun = Attempts::default().begun(7);
        assert_eq!(
            begun,
            Attempts {
                failed: 1,
                last_ms: 7
            }
        );
    }
}
