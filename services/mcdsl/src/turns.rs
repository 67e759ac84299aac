//! Turns at what there is little of: whoever wants it takes turns with the others, however many things of one of them wait.
//!
//! Each owner has a line of his own, in which the order is that of arrival; the lines come round one after the other.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// What waits, by its owners. It has no bound: whoever puts something in has a place for it.
pub struct Rounds<K, T> {
    /// Invariant: none is empty.
    lines: HashMap<K, VecDeque<T>>,
    /// Invariant: each owner of a line once.
    order: VecDeque<K>,
}

impl<K, T> Default for Rounds<K, T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T> Rounds<K, T> {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How much waits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// Puts something at the end of its owner's line.
    pub fn push(&mut self, owner: K, what: T) {
        let line = self.lines.entry(owner.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(owner);
        }
        line.push_back(what);
    }

    /// What is next.
    pub fn pop(&mut self) -> Option<(K, T)> {
        self.pop_least(|_| 0)
    }

    /// What is next of the owner who has least by `has`; of equals, of the one whose turn it is. It looks at no more owners than have something, and one.
    pub fn pop_least(&mut self, has: impl Fn(&K) -> usize) -> Option<(K, T)> {
        let mut least: Option<(usize, usize)> = None;
        for (at, owner) in self.order.iter().enumerate() {
            let has = has(owner);
            if least.is_none_or(|(_, fewest)| has < fewest) {
                least = Some((at, has));
            }
            if has == 0 {
                break;
            }
        }
        let owner = self.order.remove(least?.0)?;
        let line = self.lines.get_mut(&owner)?;
        let what = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&owner);
        } else {
            self.order.push_back(owner.clone());
        }
        Some((owner, what))
    }

    /// Takes the first of an owner's that is meant out of his line.
    pub fn remove(&mut self, owner: &K, is: impl Fn(&T) -> bool) -> Option<T> {
        let line = self.lines.get_mut(owner)?;
        let at = line.iter().position(is)?;
        let what = line.remove(at);
        if line.is_empty() {
            self.lines.remove(owner);
            self.order.retain(|one| one != owner);
        }
        what
    }
}

/// So many at once. While others wait nobody is given a second turn beside his first.
pub struct Turns<K: Clone + Eq + Hash>(Mutex<State<K>>);

struct State<K: Clone + Eq + Hash> {
    free: usize,
    /// Invariant: none without a turn is kept.
    held: HashMap<K, usize>,
    waiting: Rounds<K, (u64, oneshot::Sender<Turn<K>>)>,
    /// How many have waited.
    waited: u64,
}

impl<K: Clone + Eq + Hash> fmt::Debug for Turns<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.state().waiting.len();
        f.debug_struct("Turns").field("waiting", &waiting).finish()
    }
}

/// A turn, until it is dropped.
pub struct Turn<K: Clone + Eq + Hash> {
    turns: Arc<Turns<K>>,
    owner: K,
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// So many at once.
    #[must_use]
    pub fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: at_once,
            held: HashMap::new(),
            waiting: Rounds::default(),
            waited: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn of this owner; whoever gives up is in nobody's way.
    ///
    /// # Panics
    /// Never: who waits holds the line.
    pub async fn next(self: &Arc<Self>, owner: K) -> Turn<K> {
        let (given, turn) = oneshot::channel();
        let number = {
            let mut state = self.state();
            state.waited += 1;
            let number = state.waited;
            state.waiting.push(owner.clone(), (number, given));
            number
        };
        let mut waits = Waits {
            turns: self,
            owner,
            number,
            turn,
        };
        self.give();
        let given = (&mut waits.turn).await;
        given.expect("who waits is given a turn")
    }

    /// Gives turns that are free to who is next.
    fn give(self: &Arc<Self>) {
        let mut given = Vec::new();
        let mut state = self.state();
        while state.free > 0 {
            let State { held, waiting, .. } = &mut *state;
            let has = |owner: &K| held.get(owner).copied().unwrap_or_default();
            let Some((owner, (_, to))) = waiting.pop_least(has) else {
                break;
            };
            *held.entry(owner.clone()).or_default() += 1;
            state.free -= 1;
            let turns = Arc::clone(self);
            given.push((to, Turn { turns, owner }));
        }
        // A turn that nobody takes any more is free again when it is dropped.
        drop(state);
        for (to, turn) in given {
            drop(to.send(turn));
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.free += 1;
        if let Some(held) = state.held.get_mut(&self.owner) {
            *held -= 1;
            if *held == 0 {
                state.held.remove(&self.owner);
            }
        }
        drop(state);
        self.turns.give();
    }
}

/// One who waits, or does no more.
struct Waits<'t, K: Clone + Eq + Hash> {
    turns: &'t Arc<Turns<K>>,
    owner: K,
    number: u64,
    turn: oneshot::Receiver<Turn<K>>,
}

impl<K: Clone + Eq + Hash> Drop for Waits<'_, K> {
    fn drop(&mut self) {
        let is_his = |waiting: &(u64, _)| waiting.0 == self.number;
        let left = self.turns.state().waiting.remove(&self.owner, is_his);
        // Behind the lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Polled once.
    fn polled<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn owners_take_turns_and_each_ones_things_are_in_order() {
        let mut rounds = Rounds::default();
        for (owner, what) in [
            ("a", 1),
            ("a", 2),
            ("a", 3),
            ("b", 4),
            ("c", 5),
            ("b", 6),
            ("a", 7),
        ] {
            rounds.push(owner, what);
        }
        assert_eq!(rounds.remove(&"a", |what| *what == 2), Some(2));
        assert_eq!(rounds.remove(&"c", |_| true), Some(5));
        assert_eq!(rounds.remove(&"c", |_| true), None);
        assert_eq!(rounds.len(), 5);
        let order: Vec<_> = std::iter::from_fn(|| rounds.pop()).collect();
        assert_eq!(order, [("a", 1), ("b", 4), ("a", 3), ("b", 6), ("a", 7)]);
        assert!(rounds.is_empty() && rounds.lines.is_empty());
    }

    proptest! {
        /// Nobody waits for more than one thing of each of the others.
        #[test]
        fn nobody_is_behind_more_than_one_of_each(all in vec(0..6_usize, 1..200)) {
            let mut rounds = Rounds::default();
            for (number, owner) in all.iter().enumerate() {
                rounds.push(*owner, number);
            }
            let mut left: HashMap<usize, usize> = HashMap::new();
            for owner in &all {
                *left.entry(*owner).or_default() += 1;
            }
            let mut since: HashMap<usize, Vec<usize>> = HashMap::new();
            let mut last: HashMap<usize, usize> = HashMap::new();
            while let Some((owner, number)) = rounds.pop() {
                if let Some(before) = last.insert(owner, number) {
                    prop_assert!(before < number, "in order");
                }
                let passed = since.remove(&owner).unwrap_or_default();
                let mut once = passed.clone();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), passed.len());
                for (other, left) in &left {
                    if *other != owner && *left > 0 {
                        since.entry(*other).or_default().push(owner);
                    }
                }
                *left.entry(owner).or_default() -= 1;
            }
            prop_assert!(left.values().all(|left| *left == 0));
        }
    }

    #[tokio::test]
    async fn of_two_turns_one_is_for_whoever_else_comes() {
        let turns = Turns::new(2);
        let (one, two) = (turns.next("many").await, turns.next("many").await);
        let mut many: Vec<_> = (0..100).map(|_| Box::pin(turns.next("many"))).collect();
        for waits in &mut many {
            assert!(polled(waits).is_none());
        }
        let mut few = Box::pin(turns.next("few"));
        assert!(polled(&mut few).is_none());
        drop(one);
        let few = polled(&mut few);
        assert!(few.is_some(), "before the hundred");
        assert!(polled(&mut many[0]).is_none());
        drop(two);
        assert!(polled(&mut many[0]).is_some());
        drop(few);
        assert!(polled(&mut many[1]).is_some(), "nobody else waits");
    }

    #[tokio::test]
    async fn who_gives_up_is_in_nobodys_way() {
        let turns = Turns::new(1);
        let one = turns.next("a").await;
        let mut gone: Vec<_> = (0..10).map(|_| Box::pin(turns.next("b"))).collect();
        for waits in &mut gone {
            assert!(polled(waits).is_none());
        }
        let mut last = Box::pin(turns.next("c"));
        assert!(polled(&mut last).is_none());
        let given = gone.remove(0);
        drop(gone);
        drop(one);
        // It has its turn, and does not take it.
        assert!(polled(&mut last).is_none());
        drop(given);
        drop(polled(&mut last).unwrap());
        let state = turns.state();
        assert!(state.free == 1 && state.held.is_empty() && state.waiting.is_empty());
    }
}
