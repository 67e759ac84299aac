//! How the subscription to MCIAS's bans goes, for status and metrics.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// What is known of the subscription.
#[derive(Debug, Default)]
pub struct Watched(Mutex<State>);

/// How it goes at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Since when bans come; `None`: they do not.
    pub since: Option<SystemTime>,
    /// When the stream could not be had or ended last, and why; kept when it is there again.
    pub failed: Option<(SystemTime, String)>,
    /// Bans that were put in force since the daemon started.
    pub taken: u64,
}

impl Watched {
    /// How it goes.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// The stream is there, and has told all bans in force.
    pub(super) fn connected(&self, now: SystemTime) {
        self.lock().since = Some(now);
    }

    /// It is not, or not any more.
    pub(super) fn failed(&self, now: SystemTime, why: &str) {
        let mut state = self.lock();
        state.since = None;
        state.failed = Some((now, why.to_owned()));
    }

    /// A ban was put in force.
    pub(super) fn taken(&self) {
        self.lock().taken += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_whether_bans_come_and_what_was_wrong_last() {
        let (watched, now) = (Watched::default(), SystemTime::UNIX_EPOCH);
        assert_eq!(watched.state(), State::default());
        watched.failed(now, "nobody there");
        watched.connected(now);
        watched.taken();
        let failed = Some((now, "nobody there".to_owned()));
        let connected = State {
            since: Some(now),
            failed,
            taken: 1,
        };
        assert_eq!(watched.state(), connected);
        watched.failed(now, "silent");
        let state = watched.state();
        assert_eq!((state.since, state.taken), (None, 1));
        assert_eq!(state.failed, Some((now, "silent".to_owned())));
    }
}
