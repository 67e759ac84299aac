//! What changes nothing, and fails or gives nothing: the audit log is never pruned, and anybody can fail as often as he likes, so that not each of it gets a row.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mc_proto::AccountType;
use rusqlite::Transaction;
use tonic::Code;

use crate::{
    audit::{self, Actor, AuditError, Detail, Entry},
    auth::Identity,
    clock::Clock,
};

/// Rows a [`WINDOW`] of one account, and of all who are not known together: enough to see what somebody is up to, and a few megabytes a day
/// at most.
const MAX_ROWS: u32 = 60;
/// What [`MAX_ROWS`] is counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// Accounts that fail within a window; more are counted as nobody.
const MAX_ACCOUNTS: usize = 1024;
/// Says how many failures of a window have no row.
pub(super) const SUPPRESSED: &str = "audit.suppressed";

/// What changed nothing, and failed or gave nothing, over all ways into a service: of each account, and of all who are not known together, 60 a minute get a
/// row. The others are counted, and one row of that account (`audit.suppressed`) says their number, with the first row of anybody after that
/// minute.
#[derive(Default)]
pub struct Failures {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that go on. Invariant: one for each account, at most [`MAX_ACCOUNTS`] and that of who is not known.
    windows: Vec<Window>,
    untold: Untold,
}

struct Window {
    /// `None`: who is not known.
    who: Option<Who>,
    since: Instant,
    rows: u32,
    /// What has no row in it.
    suppressed: u64,
}

/// An account, as the log has it.
#[derive(Clone, Debug)]
struct Who {
    id: String,
    name: String,
    account_type: AccountType,
}

/// Whose failures had no row in the minutes before, and how many each.
#[derive(Debug, Default)]
#[must_use]
pub struct Untold(Vec<(Option<Who>, u64)>);

impl Untold {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Invariant: one entry for each account, at most as many as there are windows; what is beyond is nobody's.
    fn add(&mut self, who: Option<Who>, number: u64) {
        let id = |who: &Option<Who>| who.as_ref().map(|who| who.id.clone());
        let who = who.filter(|_| self.0.len() < MAX_ACCOUNTS);
        match self.0.iter_mut().find(|(known, _)| id(known) == id(&who)) {
            Some((_, sum)) => *sum += number,
            None => self.0.push((who, number)),
        }
    }
}

impl Failures {
    /// By this clock.
    #[must_use]
    pub fn by(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// Counts a failure of somebody, or of who is not known: whether it gets a row.
    #[must_use]
    pub fn admit(&self, who: Option<&Identity>) -> bool {
        let mut state = self.state();
        let is_of = |window: &Window, who: Option<&Identity>| {
            window.who.as_ref().map(|who| who.id.as_str()) == who.map(|who| who.account.as_str())
        };
        let full = state.windows.len() >= MAX_ACCOUNTS;
        let counted = state.windows.iter().any(|window| is_of(window, who));
        let who = who.filter(|_| counted || !full);
        let at = state.windows.iter().position(|window| is_of(window, who));
        let at = at.unwrap_or_else(|| {
            state.windows.push(Window {
                who: who.map(|who| Who {
                    id: who.account.clone(),
                    name: who.name.clone(),
                    account_type: who.account_type,
                }),
                since: self.clock.steady(),
                rows: 0,
                suppressed: 0,
            });
            state.windows.len() - 1
        });
        let window = &mut state.windows[at];
        let fits = window.rows < MAX_ROWS;
        window.rows += u32::from(fits);
        window.suppressed += u64::from(!fits);
        fits
    }

    /// What had no row in the minutes before and is to be told of now, see [`Self::tell`].
    pub fn untold(&self) -> Untold {
        std::mem::take(&mut self.state().untold)
    }

    /// It was not told of, for what would have told of it failed.
    pub fn still_untold(&self, untold: &Untold) {
        let mut state = self.state();
        for (who, number) in &untold.0 {
            state.untold.add(who.clone(), *number);
        }
    }

    /// Tells of it: a row for each account.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn tell(tx: &Transaction<'_>, untold: &Untold, now: SystemTime) -> Result<(), AuditError> {
        for (who, number) in &untold.0 {
            let actor = who.as_ref().map_or(Actor::Anonymous, |who| Actor::Account {
                id: &who.id,
                name: &who.name,
                account_type: who.account_type,
            });
            let entry = Entry {
                actor,
                source: None,
                action: SUPPRESSED,
                resource: "",
                outcome: Code::ResourceExhausted,
                detail: Detail::new().number("calls", i64::try_from(*number).unwrap_or(i64::MAX)),
            };
            audit::append(tx, &entry, now)?;
        }
        Ok(())
    }

    /// With the windows alone that go on.
    fn state(&self) -> MutexGuard<'_, State> {
        let now = self.clock.steady();
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let over = |window: &mut Window| now.saturating_duration_since(window.since) >= WINDOW;
        for window in state.windows.extract_if(.., over) {
            if window.suppressed > 0 {
                state.untold.add(window.who, window.suppressed);
            }
        }
        guard
    }
}

#[cfg(test)]
mod tests {
    use mc_testkit::clock::FakeClock;

    use super::*;
    use crate::server::access::tests::identity;

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let clock = FakeClock::new();
        let failures = Failures::by(Clock::of(clock.source()));
        let admitted = (0..70).filter(|_| failures.admit(None)).count();
        assert_eq!((admitted, failures.untold().is_empty()), (60, true));
        clock.advance(WINDOW);
        let untold = failures.untold();
        assert!(failures.untold().is_empty(), "taken once");
        failures.still_untold(&untold);
        assert!(failures.admit(None));
        let numbers: Vec<u64> = failures.untold().0.iter().map(|(_, n)| *n).collect();
        assert_eq!(numbers, [10]);
    }

    #[test]
    fn accounts_are_counted_apart_and_bounded() {
        let clock = FakeClock::new();
        let failures = Failures::by(Clock::of(clock.source()));
        let mut who = identity();
        for n in 0..MAX_ACCOUNTS {
            who.account = format!("a{n}");
            assert!(failures.admit(Some(&who)), "{n}");
        }
        let admitted = (0..70).filter(|_| failures.admit(Some(&who))).count();
        assert_eq!(admitted, 59, "the last of them");
        for n in 0..70 {
            who.account = format!("b{n}");
            assert_eq!(failures.admit(Some(&who)), n < 60, "as nobody: {n}");
        }
        assert!(!failures.admit(None));
        assert_eq!(failures.state().windows.len(), MAX_ACCOUNTS + 1);
        clock.advance(WINDOW);
        let untold = failures.untold().0;
        let told: Vec<_> = untold.iter().map(|(who, n)| (who.is_some(), *n)).collect();
        assert_eq!(told, [(true, 11), (false, 11)]);
    }
}
