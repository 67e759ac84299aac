//! How soon the seal may be tried again.
//!
//! Each attempt is written down before its secret is looked at, so that killing the service saves nobody the wait, and neither does a clock that is set.
//! Attempts from this machine and from networks that the seal was opened from are counted apart: strangers who try keep strangers out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// How long it takes until the next may begin; zero: now.
    pub(super) fn wait(self, now_ms: i64) -> Duration {
        let pause = self.pause();
        let Ok(since) = u64::try_from(now_ms.saturating_sub(self.last_ms)) else {
            // The clock was set back: how long it was is not known.
            return pause;
        };
        pause.saturating_sub(Duration::from_millis(since))
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
        ] {
            let attempts = Attempts {
                failed,
                last_ms: 1_000_000_000,
            };
            let wait = attempts.wait(1_000_000_000 + since_ms);
            assert_eq!(wait, Duration::from_secs_f64(seconds), "{description}");
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
