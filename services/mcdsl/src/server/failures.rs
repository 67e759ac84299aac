//! What changes nothing, and fails or gives nothing: the audit log is never pruned, and anybody can fail as often as he likes, so that not each of it gets a row.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ipnet::IpNet;
use mc_proto::AccountType;
use rusqlite::Transaction;
use tonic::Code;

use super::places::network;
use crate::{
    audit::{self, Actor, AuditError, Detail, Entry},
    auth::Identity,
    clock::Clock,
};

/// Rows a [`WINDOW`] of one [`Whose`]: enough to see what somebody is up to, and some megabytes a day at most.
const MAX_ROWS: u32 = 60;
/// What [`MAX_ROWS`] is counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// Accounts that fail within a window; more are counted as others.
const MAX_ACCOUNTS: usize = 1024;
/// Networks of who is not known that fail within a window; more are counted as others, so that strangers have [`MAX_ROWS`] for each of these and once more.
const MAX_NETWORKS: usize = 5;
/// Says how many failures of a window have no row.
pub(super) const SUPPRESSED: &str = "audit.suppressed";

/// What changed nothing, and failed or gave nothing, over all ways into a service: 60 a minute get a row, of each account, of each of five networks of who is not
/// known, and of all others together. What is beyond is counted, and one row for each of those (`audit.suppressed`) says its number, with the first row of anybody after
/// that minute. So nobody hides by what he does himself what others do, unless he has many networks.
#[derive(Default)]
pub struct Failures {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that go on. Invariant: one of each, at most [`MAX_ACCOUNTS`] and [`MAX_NETWORKS`], that of others, and that of attempts.
    windows: Vec<Window>,
    untold: Untold,
}

struct Window {
    whose: Whose,
    since: Instant,
    rows: u32,
    /// What has no row in it.
    suppressed: u64,
}

/// Of whom failures are counted together.
#[derive(Clone, Debug)]
enum Whose {
    /// One, as the log has it.
    Account {
        id: String,
        name: String,
        account_type: AccountType,
    },
    /// Who is not known, of there.
    Network(IpNet),
    /// Of whatever does not fit into [`MAX_ACCOUNTS`] and [`MAX_NETWORKS`].
    Others,
    /// Of whoever tries a secret that nobody can guess ([`super::Caller::tried`]).
    Attempts,
}

impl Whose {
    fn of(who: Option<&Identity>, source: IpAddr) -> Self {
        who.map_or_else(
            || Self::Network(network(source)),
            |who| Self::Account {
                id: who.account.clone(),
                name: who.name.clone(),
                account_type: who.account_type,
            },
        )
    }

    /// An account's name may be another one by now.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Account { id, .. }, Self::Account { id: other, .. }) => id == other,
            (Self::Network(network), Self::Network(other)) => network == other,
            (Self::Others, Self::Others) | (Self::Attempts, Self::Attempts) => true,
            _ => false,
        }
    }
}

/// Whose failures had no row in the minutes before, and how many each.
#[derive(Debug, Default)]
#[must_use]
pub struct Untold(Vec<(Whose, u64)>);

impl Untold {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Invariant: one entry of each, at most as many as there are accounts; what is beyond is others'.
    fn add(&mut self, whose: Whose, number: u64) {
        let whose = match self.0.len() < MAX_ACCOUNTS {
            true => whose,
            false => Whose::Others,
        };
        match self.0.iter_mut().find(|(known, _)| known.is(&whose)) {
            Some((_, sum)) => *sum += number,
            None => self.0.push((whose, number)),
        }
    }
}

impl State {
    /// The window, which may be a new one.
    fn window(&mut self, whose: Whose, now: Instant) -> &mut Window {
        let at = |windows: &[Window], whose: &Whose| windows.iter().position(|w| w.whose.is(whose));
        let like = |whose: &Whose| {
            let same =
                |w: &&Window| std::mem::discriminant(&w.whose) == std::mem::discriminant(whose);
            self.windows.iter().filter(same).count()
        };
        let full = match &whose {
            Whose::Account { .. } => like(&whose) >= MAX_ACCOUNTS,
            Whose::Network(_) => like(&whose) >= MAX_NETWORKS,
            Whose::Others | Whose::Attempts => false,
        };
        let whose = match full && at(&self.windows, &whose).is_none() {
            true => Whose::Others,
            false => whose,
        };
        let at = at(&self.windows, &whose).unwrap_or_else(|| {
            self.windows.push(Window {
                whose,
                since: now,
                rows: 0,
                suppressed: 0,
            });
            self.windows.len() - 1
        });
        &mut self.windows[at]
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

    /// Counts a failure of somebody, or of who is not known and is there: whether it gets a row.
    #[must_use]
    pub fn admit(&self, who: Option<&Identity>, source: IpAddr) -> bool {
        self.count(Whose::of(who, source))
    }

    /// Counts an attempt at a secret that nobody can guess: whether it gets a row.
    pub(super) fn admit_attempt(&self) -> bool {
        self.count(Whose::Attempts)
    }

    fn count(&self, whose: Whose) -> bool {
        let mut state = self.state();
        let window = state.window(whose, self.clock.steady());
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
        for (whose, number) in &untold.0 {
            state.untold.add(whose.clone(), *number);
        }
    }

    /// Tells of it: a row for each of those.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn tell(tx: &Transaction<'_>, untold: &Untold, now: SystemTime) -> Result<(), AuditError> {
        for (whose, number) in &untold.0 {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            let detail = Detail::new().number("calls", number);
            let (actor, detail) = match whose {
                Whose::Account {
                    id,
                    name,
                    account_type,
                } => {
                    let account_type = *account_type;
                    let actor = Actor::Account {
                        id,
                        name,
                        account_type,
                    };
                    (actor, detail)
                }
                Whose::Network(network) => {
                    let detail = detail.text("network", &network.to_string());
                    (Actor::Anonymous, detail)
                }
                Whose::Others => (Actor::Anonymous, detail.text("of", "others")),
                Whose::Attempts => (Actor::Anonymous, detail.text("of", "attempts")),
            };
            let entry = Entry {
                actor,
                source: None,
                action: SUPPRESSED,
                resource: "",
                outcome: Code::ResourceExhausted,
                detail,
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
                state.untold.add(window.whose, window.suppressed);
            }
        }
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mc_testkit::clock::FakeClock;

    use super::*;
    use crate::server::access::tests::identity;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn there(network: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, network).into()
    }

    fn told(untold: &Untold) -> Vec<(String, u64)> {
        let name = |whose: &Whose| match whose {
            Whose::Account { id, .. } => id.clone(),
            Whose::Network(network) => network.to_string(),
            Whose::Others => "others".to_owned(),
            Whose::Attempts => "attempts".to_owned(),
        };
        untold
            .0
            .iter()
            .map(|(whose, n)| (name(whose), *n))
            .collect()
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let clock = FakeClock::new();
        let failures = Failures::by(Clock::of(clock.source()));
        let admitted = (0..70).filter(|_| failures.admit(None, HERE)).count();
        assert_eq!((admitted, failures.untold().is_empty()), (60, true));
        clock.advance(WINDOW);
        let untold = failures.untold();
        assert!(failures.untold().is_empty(), "taken once");
        failures.still_untold(&untold);
        assert!(failures.admit(None, HERE));
        let wanted = [("127.0.0.1/32".to_owned(), 10)];
        assert_eq!(told(&failures.untold()), wanted);
    }

    #[test]
    fn accounts_and_networks_are_counted_apart_and_bounded() {
        let clock = FakeClock::new();
        let failures = Failures::by(Clock::of(clock.source()));
        let mut who = identity();
        for n in 0..MAX_ACCOUNTS {
            who.account = format!("a{n}");
            assert!(failures.admit(Some(&who), HERE), "{n}");
        }
        let admitted = (0..70).filter(|_| failures.admit(Some(&who), HERE));
        assert_eq!(admitted.count(), 59, "the last of them");
        for n in 0..40 {
            who.account = format!("b{n}");
            assert!(failures.admit(Some(&who), HERE), "with others: {n}");
        }
        for network in 0..8 {
            let admitted = (0..70).filter(|_| failures.admit(None, there(network)));
            let wanted = match network {
                0..5 => 60,
                // With the accounts.
                5 => 20,
                _ => 0,
            };
            assert_eq!(admitted.count(), wanted, "network {network}");
        }
        let attempts = (0..70).filter(|_| failures.admit_attempt()).count();
        assert_eq!(attempts, 60, "whatever else failed");
        assert_eq!(
            failures.state().windows.len(),
            MAX_ACCOUNTS + MAX_NETWORKS + 2
        );
        clock.advance(WINDOW);
        let mut wanted = vec![
            ("a1023".to_owned(), 11),
            ("others".to_owned(), 50 + 70 + 70),
        ];
        wanted.extend((0..5).map(|n| (format!("192.0.2.{n}/32"), 10)));
        wanted.push(("attempts".to_owned(), 10));
        assert_eq!(told(&failures.untold()), wanted);
    }
}
