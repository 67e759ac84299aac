//! The health of one backend as a value: results and the time go in, whether it may be used comes out.
//!
//! Two judges, which do not know of each other. Active checks take a backend *down* and up again; failed requests *eject* it for a
//! time. One that comes back begins with a small share of the requests, which grows (slow start).

use std::{borrow::Cow, time::Duration};

/// Checks passed in a row that bring a backend up that was down.
pub const RISE: u32 = 2;
/// Checks failed in a row that take one down that was up. While nothing is known of it, the first check decides.
pub const FALL: u32 = 3;
/// Requests failed in a row that eject it.
pub const EJECT_AFTER: u32 = 5;
/// How long the first ejection lasts; each further one lasts twice as long as the one before.
pub const EJECT_BASE: Duration = Duration::from_secs(10);
/// The longest ejection. Without one for as long, the next is a first again.
pub const EJECT_MAX: Duration = Duration::from_secs(300);
/// A whole share.
pub const WHOLE: u64 = 1000;
/// The share that slow start begins with: none would never be tried.
const FIRST_SHARE: u64 = WHOLE / 20;

/// Why a backend's health changed, in a few words.
pub type Why = Cow<'static, str>;

/// What active checks say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Up,
    Down,
}

/// What happened last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    at: Duration,
    why: Why,
    ejection: bool,
}

/// The health of one backend. Times are since any fixed moment, the same for all calls.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// `None` = unknown, which counts as up.
    verdict: Option<Verdict>,
    /// The last results of active checks: whether they passed, and how many in a row.
    run: (bool, u32),
    /// Requests failed in a row.
    failures: u32,
    /// Ejections in a row.
    ejections: u32,
    /// Ejected before, starting slowly after; zero = neither.
    from: Duration,
    change: Option<Change>,
}

/// Whether a backend may be used: what of [`State`] a choice needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes, for its share of [`WHOLE`].
    Share(u64),
    /// Only if there is no other.
    Ejected,
    /// No.
    Down,
}

/// Something an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// By active checks.
    Up,
    /// By active checks; why the last failed.
    Down(Why),
    /// By failed requests; for how long, and why the last failed.
    Ejected(Duration, Why),
}

/// A backend's health for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is now.
    pub condition: Condition,
    /// Why, and how long ago it became so; `None` = nothing has happened yet.
    pub last: Option<(Why, Duration)>,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No check has said anything, and requests do not fail.
    Unchecked,
    /// Its checks pass.
    Up,
    /// They fail.
    Down,
    /// Requests failed; for so much longer.
    Ejected(Duration),
    /// Back, with this share of [`WHOLE`].
    SlowStart(u64),
}

/// Whether one more of a route's backends may be ejected: never more than half of them, so that what all have in common (a bad
/// request, a network) leaves most in service. A lone backend never is.
#[must_use]
pub const fn room(ejected: usize, backends: usize) -> bool {
    ejected < backends / 2
}

/// The share of a backend that may be used from `from` on.
#[must_use]
pub fn share(from: Duration, now: Duration, slow_start: Duration) -> u64 {
    let since = now.saturating_sub(from);
    if since >= slow_start {
        return WHOLE;
    }
    let grown = since.as_millis() * u128::from(WHOLE) / slow_start.as_millis().max(1);
    u64::try_from(grown)
        .unwrap_or(WHOLE)
        .clamp(FIRST_SHARE, WHOLE)
}

impl State {
    /// The result of an active check.
    pub fn checked(&mut self, now: Duration, result: Result<(), Why>) -> Option<Event> {
        let passed = result.is_ok();
        let before = if self.run.0 == passed { self.run.1 } else { 0 };
        self.run = (passed, before.saturating_add(1));
        let runs = |enough| self.verdict.is_none() || self.run.1 >= enough;
        match (result, self.verdict) {
            (Ok(()), before) if runs(RISE) && before != Some(Verdict::Up) => {
                let why = if before == Some(Verdict::Down) {
                    (self.failures, self.ejections, self.from) = (0, 0, now);
                    format!("{RISE} checks passed").into()
                } else {
                    "the first check passed".into()
                };
                self.verdict = Some(Verdict::Up);
                self.changed(now, why, false);
                Some(Event::Up)
            }
            (Err(why), before) if runs(FALL) && before != Some(Verdict::Down) => {
                self.verdict = Some(Verdict::Down);
                self.changed(now, why.clone(), false);
                Some(Event::Down(why))
            }
            _ => None,
        }
    }

    /// Active checks ended, or ask something else now: what they said no longer counts.
    pub fn forget_checks(&mut self) {
        (self.verdict, self.run) = (None, (false, 0));
        if self.change.as_ref().is_some_and(|c| !c.ejection) {
            self.change = None;
        }
    }

    /// A request failed by the backend's fault. `room`: whether it may be ejected, see [`room`].
    pub fn failed(&mut self, now: Duration, why: Why, room: bool) -> Option<Event> {
        if self.verdict == Some(Verdict::Down) || self.ejected(now) {
            // Requests that were under way already.
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < EJECT_AFTER || !room {
            return None;
        }
        if now.saturating_sub(self.from) > EJECT_MAX {
            self.ejections = 0;
        }
        let factor = 2u32.saturating_pow(self.ejections);
        let time = EJECT_BASE.saturating_mul(factor).min(EJECT_MAX);
        self.ejections = self.ejections.saturating_add(1);
        (self.failures, self.from) = (0, now + time);
        let told = format!("{EJECT_AFTER} requests failed in a row, the last: {why}");
        self.changed(now, told.into(), true);
        Some(Event::Ejected(time, why))
    }

    /// A request succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether a success would change anything.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether it is ejected, and not down besides.
    #[must_use]
    pub fn ejected(&self, now: Duration) -> bool {
        self.standing(now, Duration::ZERO) == Standing::Ejected
    }

    /// From when on it may be used (zero = always); `None` = it is down.
    #[must_use]
    pub fn usable_from(&self) -> Option<Duration> {
        (self.verdict != Some(Verdict::Down)).then_some(self.from)
    }

    /// Whether it may be used.
    #[must_use]
    pub fn standing(&self, now: Duration, slow_start: Duration) -> Standing {
        standing(self.usable_from(), now, slow_start)
    }

    /// For people.
    #[must_use]
    pub fn report(&self, now: Duration, slow_start: Duration) -> Report {
        let condition = match (self.standing(now, slow_start), self.verdict) {
            (Standing::Down, _) => Condition::Down,
            (Standing::Ejected, _) => Condition::Ejected(self.from.saturating_sub(now)),
            (Standing::Share(share), _) if share < WHOLE => Condition::SlowStart(share),
            (Standing::Share(_), Some(_)) => Condition::Up,
            (Standing::Share(_), None) => Condition::Unchecked,
        };
        let ago = |at| now.saturating_sub(at);
        let last = self.change.as_ref().map(|change| {
            // Its end is no event.
            if change.ejection && now >= self.from {
                return (
                    format!("was ejected: {}", change.why).into(),
                    ago(self.from),
                );
            }
            (change.why.clone(), ago(change.at))
        });
        Report { condition, last }
    }

    fn changed(&mut self, at: Duration, why: Why, ejection: bool) {
        self.change = Some(Change { at, why, ejection });
    }
}

/// What [`State::usable_from`] means at a time.
#[must_use]
pub fn standing(usable_from: Option<Duration>, now: Duration, slow_start: Duration) -> Standing {
    match usable_from {
        None => Standing::Down,
        Some(Duration::ZERO) => Standing::Share(WHOLE),
        Some(from) if now < from => Standing::Ejected,
        Some(from) => Standing::Share(share(from, now, slow_start)),
    }
}

#[cfg(test)]
mod tests;
