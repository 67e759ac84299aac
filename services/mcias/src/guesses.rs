//! Guessing made slow: how often somebody failed, and when he may try again. No clock and no I/O.
//!
//! What is guessed at and where from ([`crate::sources`]) are counted apart. A credential answers nobody for a while after each failure, so
//! that many sources together are no faster than one. An attempt that comes too early is not looked at, or its answer would be worth
//! something; one that its source was told to wait for counts as a failure of the source.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After the first, second … failure, seconds.
const WAITS: [u64; 4] = [1, 3, 5, 10];
/// Beyond those it doubles up to this.
const LONGEST: u64 = 300;
/// Failures in a day after which the rest of it is closed.
const DAILY: u32 = 100;
/// A failure of a credential is forgotten after this, if none followed.
const FORGET: Duration = Duration::from_secs(24 * 3600);

const DAY: u64 = 24 * 3600;

/// The failures of one credential: of an account's name, whether there is such an account or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Since the last success, or since [`FORGET`].
    pub failures: u32,
    /// Of those, today's.
    pub today: u32,
    /// When the last was; `None`: there was none.
    pub last: Option<SystemTime>,
}

fn day(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / DAY
}

impl Guesses {
    /// From when on the next attempt is looked at. A clock that went back closes nothing for longer than a wait.
    #[must_use]
    pub fn open_from(&self, now: SystemTime) -> SystemTime {
        let Some(last) = self
            .last
            .filter(|last| self.failures > 0 && *last <= now + Duration::from_secs(LONGEST))
        else {
            return UNIX_EPOCH;
        };
        if self.today >= DAILY && day(last) == day(now) {
            return UNIX_EPOCH + Duration::from_secs((day(now) + 1) * DAY);
        }
        last + wait(self.failures)
    }

    /// Whether there are failures that are not forgotten.
    #[must_use]
    pub fn are_known(&self, now: SystemTime) -> bool {
        self.failures > 0 && self.is_recent(now)
    }

    fn is_recent(&self, now: SystemTime) -> bool {
        let last = self.last;
        last.is_some_and(|last| now.duration_since(last).unwrap_or_default() < FORGET)
    }

    /// After a failure.
    #[must_use]
    pub fn failed(self, now: SystemTime) -> Self {
        let recent = self.is_recent(now);
        let same_day = self.last.is_some_and(|last| day(last) == day(now));
        Self {
            failures: if recent {
                self.failures.saturating_add(1)
            } else {
                1
            },
            today: if same_day {
                self.today.saturating_add(1)
            } else {
                1
            },
            last: Some(now),
        }
    }

    /// After a success. Today's failures stay: who guesses does not know of it, and the day's bound is against him.
    #[must_use]
    pub fn succeeded(self) -> Self {
        Self {
            failures: 0,
            ..self
        }
    }
}

/// After so many failures.
pub(crate) fn wait(failures: u32) -> Duration {
    let n = failures as usize;
    let seconds = match n {
        0 => 0,
        _ if n <= WAITS.len() => WAITS[n - 1],
        _ => WAITS[WAITS.len() - 1] << (n - WAITS.len()).min(10),
    };
    Duration::from_secs(seconds.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000 * DAY;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + seconds)
    }

    #[test]
    fn each_failure_waits_longer() {
        let mut guesses = Guesses::default();
        assert!(guesses.open_from(at(0)) <= at(0), "nothing failed");
        for (failure, wanted) in [1, 3, 5, 10, 20, 40, 80, 160, 300, 300]
            .into_iter()
            .enumerate()
        {
            guesses = guesses.failed(at(0));
            assert_eq!(
                guesses.open_from(at(0)),
                at(wanted),
                "after failure {}",
                failure + 1
            );
        }
        assert!(
            guesses.succeeded().open_from(at(0)) <= at(0),
            "after a success"
        );
        let later = guesses.failed(at(2 * DAY));
        assert_eq!(
            later.open_from(at(2 * DAY)),
            at(2 * DAY + 1),
            "two days later"
        );
    }

    #[test]
    fn a_hundred_failures_close_the_day() {
        let fail = |guesses: Guesses, _| guesses.failed(at(3600));
        let many = (0..DAILY).fold(Guesses::default(), fail);
        assert_eq!(many.open_from(at(7200)), at(DAY));
        assert!(many.open_from(at(DAY)) <= at(DAY), "the next day");
        // Somebody who guesses is not helped by a success in between, which is the owner's.
        let half = (0..DAILY / 2).fold(Guesses::default(), fail).succeeded();
        let rest = (0..DAILY / 2).fold(half, fail);
        assert_eq!(rest.open_from(at(7200)), at(DAY));
        let clock_went_back = many.open_from(at(0));
        assert!(clock_went_back <= at(DAY), "{clock_went_back:?}");
    }

    proptest! {
        /// Whoever tries whenever he likes, and whoever logs in meanwhile: after a failure there is the wait, and in a day
        /// there are no more than [`DAILY`].
        #[test]
        fn guesses_are_as_slow_as_they_are_to_be(
            steps in prop::collection::vec((0_u64..400, any::<u8>()), 1..600),
        ) {
            let mut guesses = Guesses::default();
            let (mut now, mut failed) = (at(0), Vec::new());
            for (passed, dice) in steps {
                // Now and then nobody does anything for hours.
                let pause = if dice == 0 { DAY / 3 } else { 0 };
                now += Duration::from_secs(passed + pause);
                let open_from = guesses.open_from(now);
                prop_assert!(open_from <= now.max(UNIX_EPOCH + Duration::from_secs((day(now) + 1) * DAY))
                    || open_from <= now + Duration::from_secs(LONGEST), "closed for too long");
                if open_from > now {
                    continue;
                }
                if dice % 16 == 1 {
                    guesses = guesses.succeeded();
                    prop_assert!(guesses.open_from(now) <= now, "after a success");
                    continue;
                }
                guesses = guesses.failed(now);
                prop_assert_eq!(guesses.last, Some(now));
                prop_assert!(guesses.open_from(now) >= now + wait(guesses.failures).min(wait(1)));
                prop_assert!(guesses.open_from(now + wait(guesses.failures) - Duration::from_secs(1)) > now);
                failed.push(day(now));
            }
            for of in &failed {
                let today = failed.iter().filter(|other| *other == of).count();
                prop_assert!(today <= DAILY as usize, "{} in a day", today);
            }
        }

        /// However often failures came and when: the next one never opens earlier than it would after fewer.
        #[test]
        fn more_failures_never_wait_less(failures in 0_u32..2_000_000, more in 0_u32..1000) {
            prop_assert!(wait(failures.saturating_add(more)) >= wait(failures));
            prop_assert!(wait(failures) <= Duration::from_secs(LONGEST));
        }
    }
}
