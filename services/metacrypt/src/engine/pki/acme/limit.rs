//! How often something may be asked, of whom (the generic cell rate algorithm).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Most who are known at once; beyond it who asked least is forgotten for who is new: nobody with many addresses keeps others out.
const MAX_KNOWN: usize = 20_000;

/// So many at once, and one more in each `every`.
pub(crate) struct Limit<K> {
    burst: u32,
    every: Duration,
    /// Until when what was asked lasts, by who asked; by the steady clock, which nobody sets.
    known: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Limit<K> {
    pub(crate) fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            known: Mutex::default(),
        }
    }

    /// Until when what was asked would last, and by how much that is too long.
    fn over(&self, known: Option<Instant>, now: Instant) -> (Instant, Duration) {
        let until = known.map_or(now, |until| until.max(now)) + self.every;
        (
            until,
            until.saturating_duration_since(now + self.every * self.burst),
        )
    }

    /// Whether `who` might, if he asked.
    ///
    /// # Errors
    /// Not before so many seconds are over.
    pub(crate) fn look(&self, who: &K, now: Instant) -> Result<(), u64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.over(known.get(who).copied(), now).1;
        match over.is_zero() {
            true => Ok(()),
            false => Err(over.as_secs() + 1),
        }
    }

    /// Whether `who` may now.
    ///
    /// # Errors
    /// Not before so many seconds are over.
    pub(crate) fn ask(&self, who: K, now: Instant) -> Result<(), u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&who) {
            known.retain(|_, until| *until > now);
            if known.len() >= MAX_KNOWN {
                forget(&mut known);
            }
        }
        let (until, over) = self.over(known.get(&who).copied(), now);
        if !over.is_zero() {
            return Err(over.as_secs() + 1);
        }
        known.insert(who, until);
        Ok(())
    }
}

/// Forgets a sixteenth of those who are known, who asked least, so that it is done seldom.
fn forget<K: Eq + Hash>(known: &mut HashMap<K, Instant>) {
    let mut all: Vec<_> = known.values().copied().collect();
    let (_, last, _) = all.select_nth_unstable(MAX_KNOWN / 16);
    let last = *last;
    let mut left = MAX_KNOWN / 16;
    known.retain(|_, until| {
        let goes = left > 0 && *until <= last;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_one_more_in_each_while() {
        let limit = Limit::new(3, Duration::from_secs(10));
        let begin = Instant::now();
        let at = |s: u64| begin + Duration::from_secs(s);
        for _ in 0..3 {
            assert_eq!(limit.look(&"a", at(0)), Ok(()));
            assert_eq!(limit.ask("a", at(0)), Ok(()));
        }
        assert_eq!(limit.look(&"a", at(0)), Err(11));
        assert_eq!(limit.ask("a", at(0)), Err(11));
        assert_eq!(limit.ask("b", at(0)), Ok(()), "somebody else");
        assert_eq!(limit.ask("a", at(10)), Ok(()));
        assert!(limit.ask("a", at(10)).is_err());
        for _ in 0..3 {
            assert_eq!(limit.ask("a", at(1000)), Ok(()), "forgotten");
        }
    }

    #[test]
    fn who_is_new_is_let_in_and_who_asked_much_is_remembered() {
        let limit = Limit::new(2, Duration::from_secs(10));
        let begin = Instant::now();
        let at = |s: u64| begin + Duration::from_secs(s);
        for _ in 0..2 {
            assert_eq!(limit.ask(0, at(0)), Ok(()));
        }
        for who in 1..3 * MAX_KNOWN {
            assert_eq!(limit.ask(who, at(0)), Ok(()), "{who}");
        }
        assert!(limit.ask(0, at(0)).is_err());
        assert!(limit.known.lock().unwrap().len() <= MAX_KNOWN);
    }
}
