//! Who is served next: a line for each account of MCIAS, which are served in turn, so that nobody's names keep others' waiting.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::super::store::Look;

/// Looked at at once.
const PLACES: usize = 128;
/// Of them those of one account.
const PLACES_OF_ONE: usize = 32;
/// Under way of one account: looked at, waiting, or between two tries.
const MAX_OF_ONE: usize = 2000;
/// Of all.
const MAX_ALL: usize = 50_000;

/// What came of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    New,
    /// It is under way.
    Known,
    /// Too many are.
    Full,
}

/// All lines of a mount.
#[derive(Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Somebody comes back to what is not under way.
    pub(super) put_off: AtomicBool,
}

#[derive(Default)]
struct State {
    known: HashSet<Look>,
    owners: HashMap<String, One>,
    /// Whose waits.
    turn: VecDeque<String>,
    running: usize,
}

#[derive(Default)]
struct One {
    waiting: VecDeque<(Look, usize)>,
    running: usize,
    known: usize,
    /// It is in `turn`.
    queued: bool,
}

/// Something that is under way, of whom.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) owner: String,
    pub(super) look: Look,
    /// How often it was looked at in vain.
    pub(super) tries: usize,
}

/// A place among those that are looked at, until it is dropped.
pub(super) struct Place {
    line: Arc<Line>,
    owner: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.line.state();
        state.running -= 1;
        if let Some(one) = state.owners.get_mut(&self.owner) {
            one.running -= 1;
        }
    }
}

impl State {
    fn wait(&mut self, turn: Turn) {
        let Some(one) = self.owners.get_mut(&turn.owner) else {
            return;
        };
        one.waiting.push_back((turn.look, turn.tries));
        if !std::mem::replace(&mut one.queued, true) {
            self.turn.push_back(turn.owner);
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another one of `owner` would be taken.
    pub(crate) fn has_room(&self, owner: &str) -> bool {
        let state = self.state();
        let of_one = state.owners.get(owner).map_or(0, |one| one.known);
        of_one < MAX_OF_ONE && state.known.len() < MAX_ALL
    }

    /// Whether it is under way.
    pub(super) fn knows(&self, look: &Look) -> bool {
        self.state().known.contains(look)
    }

    /// Puts it at the end of its line.
    pub(super) fn join(&self, owner: &str, look: Look) -> Joined {
        if self.knows(&look) {
            return Joined::Known;
        }
        if !self.has_room(owner) {
            return Joined::Full;
        }
        let mut state = self.state();
        if !state.known.insert(look.clone()) {
            return Joined::Known;
        }
        let owner = owner.to_owned();
        state.owners.entry(owner.clone()).or_default().known += 1;
        let tries = 0;
        state.wait(Turn { owner, look, tries });
        Joined::New
    }

    /// It is to be looked at again.
    pub(super) fn again(&self, turn: Turn) {
        let tries = turn.tries + 1;
        self.state().wait(Turn { tries, ..turn });
    }

    /// It is not under way any more.
    pub(super) fn end(&self, turn: &Turn) {
        let mut state = self.state();
        state.known.remove(&turn.look);
        if let Some(one) = state.owners.get_mut(&turn.owner) {
            one.known -= 1;
            if one.known == 0 && one.running == 0 && !one.queued {
                state.owners.remove(&turn.owner);
            }
        }
    }

    /// The next one, if there is a place for it.
    pub(super) fn next(self: &Arc<Self>) -> Option<(Turn, Place)> {
        let mut state = self.state();
        let state = &mut *state;
        if state.running >= PLACES {
            return None;
        }
        for _ in 0..state.turn.len() {
            let owner = state.turn.pop_front()?;
            let Some(one) = state.owners.get_mut(&owner) else {
                continue;
            };
            if one.running >= PLACES_OF_ONE {
                state.turn.push_back(owner);
                continue;
            }
            let Some((look, tries)) = one.waiting.pop_front() else {
                one.queued = false;
                continue;
            };
            one.running += 1;
            state.running += 1;
            one.queued = !one.waiting.is_empty();
            if one.queued {
                state.turn.push_back(owner.clone());
            }
            let place = Place {
                line: Arc::clone(self),
                owner: owner.clone(),
            };
            return Some((Turn { owner, look, tries }, place));
        }
        None
    }

    /// Whether it is for the caller to come back to what is not under way: nobody does.
    pub(super) fn puts_off(&self) -> bool {
        !self.put_off.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::order::Method, *};

    fn look(order: &str, at: usize) -> Look {
        Look {
            order: order.to_owned(),
            at,
            method: Method::Http01,
        }
    }

    #[test]
    fn nobody_waits_for_the_names_of_another() {
        let line = Arc::new(Line::default());
        for n in 0..MAX_OF_ONE {
            assert_eq!(line.join("weak", look("weak", n)), Joined::New);
        }
        assert_eq!(line.join("weak", look("weak", 0)), Joined::Known);
        assert_eq!(line.join("weak", look("weak", MAX_OF_ONE)), Joined::Full);
        assert!(!line.has_room("weak") && line.has_room("ada"));
        let mut held: Vec<_> = std::iter::from_fn(|| line.next()).collect();
        assert_eq!(held.len(), PLACES_OF_ONE, "there are places for others");
        assert_eq!(line.join("ada", look("ada", 0)), Joined::New);
        let (turn, place) = line.next().unwrap();
        assert_eq!((&*turn.owner, turn.tries), ("ada", 0));
        drop(place);
        // Between two tries it has no place, and is known.
        assert!(line.knows(&turn.look) && line.next().is_none());
        line.again(turn);
        let (turn, place) = line.next().unwrap();
        assert_eq!((&*turn.owner, turn.tries), ("ada", 1));
        drop(place);
        line.end(&turn);
        assert!(!line.knows(&turn.look));
        let (turn, place) = held.pop().unwrap();
        drop(place);
        line.end(&turn);
        assert_eq!(line.next().unwrap().0.owner, "weak", "the next of its own");
    }

    #[test]
    fn accounts_take_turns() {
        let line = Arc::new(Line::default());
        for owner in ["a", "b", "c"] {
            for n in 0..3 {
                line.join(owner, look(owner, n));
            }
        }
        let mut held = Vec::new();
        let mut order = String::new();
        while let Some((turn, place)) = line.next() {
            order += &turn.owner;
            held.push((turn, place));
        }
        assert_eq!(order, "abcabcabc");
        for (turn, place) in held {
            drop(place);
            line.end(&turn);
        }
        let state = line.state();
        assert!(state.known.is_empty() && state.running == 0 && state.turn.is_empty());
    }
}
