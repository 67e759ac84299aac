//! Memory for requests, their heads and bodies: each is bounded, but of connections and their streams there are many. Strangers have little of it, by network;
//! who showed who he is has more, by account. What a body has it keeps until its request is answered, for whatever was made of it is there until
//! then.
//!
//! Once there is none left, the oldest body ends that is not whole of whoever has most, so that a newcomer's is taken: who sends and never ends keeps
//! nobody out, and neither network nor account takes from the others. A login's body is there at once and gone with its answer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{Extensions, header};
use ipnet::IpNet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, metadata::MetadataValue};

use super::{
    access::Source,
    places::{Place, network},
};

/// Bytes for all strangers together.
const STRANGERS: usize = 64 << 20;
/// And for all who are known: 256 of the largest requests.
const KNOWN: usize = 256 << 20;
/// One network has at most the fourth part, and one account.
const SHARE: usize = 4;
/// What keeping a piece costs beside its bytes: a body may come in pieces of one.
pub(super) const PIECE: usize = 64;
/// After which whose body was ended may try again.
const WAIT: Duration = Duration::from_secs(5);

/// What there is, and who has it.
pub(super) struct Bodies {
    strangers: Pool,
    known: Pool,
}

struct Pool {
    max: usize,
    state: Mutex<State>,
}

/// Whose bodies are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Network(IpNet),
    Account(Arc<str>),
}

#[derive(Default)]
struct State {
    held: usize,
    /// Bodies that hold bytes are numbered in the order of their first.
    next: u64,
    shares: HashMap<Owner, Share>,
}

/// What an owner has. Invariant: none without bodies is kept.
#[derive(Default)]
struct Share {
    held: usize,
    bodies: BTreeMap<u64, Held>,
}

struct Held {
    bytes: usize,
    /// All of it came: there is nothing to be ended any more, and the request is about to be answered.
    whole: bool,
    over: CancellationToken,
}

impl State {
    /// Frees what a body holds.
    fn free(&mut self, owner: &Owner, number: u64) -> Option<Held> {
        let share = self.shares.get_mut(owner)?;
        let held = share.bodies.remove(&number)?;
        share.held -= held.bytes;
        self.held -= held.bytes;
        if share.bodies.is_empty() {
            self.shares.remove(owner);
        }
        Some(held)
    }

    /// Ends the oldest body of an owner but for `own`; `false`: it has no other that can be.
    fn end(&mut self, owner: &Owner, own: Option<u64>) -> bool {
        let bodies = self.shares.get(owner).map(|share| share.bodies.iter());
        let mut others = bodies.into_iter().flatten();
        let oldest = others.find(|(number, held)| Some(**number) != own && !held.whole);
        let number = oldest.map(|(number, _)| *number);
        let ended = number.and_then(|number| self.free(owner, number));
        ended.map(|held| held.over.cancel()).is_some()
    }

    /// What a body holds.
    fn of(&self, owner: &Owner, number: Option<u64>) -> usize {
        let share = self.shares.get(owner);
        let held = share.and_then(|share| share.bodies.get(&number?));
        held.map_or(0, |held| held.bytes)
    }

    /// Who has most, of those that have a body which can be ended.
    fn fullest(&self, own: Option<u64>) -> Option<Owner> {
        let endable = |share: &Share| {
            let mut bodies = share.bodies.iter();
            bodies.any(|(number, held)| Some(*number) != own && !held.whole)
        };
        let fullest = self.shares.iter().filter(|(_, share)| endable(share));
        let fullest = fullest.max_by_key(|(_, share)| share.held);
        fullest.map(|(owner, _)| owner.clone())
    }
}

impl Pool {
    fn of(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies {
    pub(super) fn new() -> Arc<Self> {
        Self::of(STRANGERS, KNOWN)
    }

    pub(super) fn of(strangers: usize, known: usize) -> Arc<Self> {
        Arc::new(Self {
            strangers: Pool::of(strangers),
            known: Pool::of(known),
        })
    }

    fn pool(&self, owner: &Owner) -> &Pool {
        match owner {
            Owner::Network(_) => &self.strangers,
            Owner::Account(_) => &self.known,
        }
    }

    /// What the body of a request takes of it, nothing yet; `None` if no connection brought it.
    pub(super) fn hold(self: &Arc<Self>, request: &Extensions) -> Option<Hold> {
        Some(Hold(Arc::new(Claim {
            bodies: Arc::clone(self),
            place: Arc::clone(request.get()?),
            source: network(request.get::<Source>()?.0),
            taken: Mutex::default(),
            over: CancellationToken::new(),
        })))
    }
}

/// What a body takes, until the last of these is dropped.
#[derive(Clone)]
pub(super) struct Hold(Arc<Claim>);

struct Claim {
    bodies: Arc<Bodies>,
    place: Arc<Place>,
    source: IpNet,
    /// Whose it is and its number, from its first piece on. That is the head, so that who shows by it who he is has it counted so from the next.
    taken: Mutex<Option<(Owner, u64)>>,
    over: CancellationToken,
}

impl Hold {
    /// For a piece of so many bytes more.
    ///
    /// # Errors
    /// If there is no room: it was ended for another, or has it all itself.
    pub(super) fn more(&self, bytes: usize) -> Result<(), Status> {
        let claim = &*self.0;
        let mut taken = claim.taken();
        let (mut owner, mut number) = match &*taken {
            Some((owner, number)) => (owner.clone(), Some(*number)),
            None => (claim.owner(), None),
        };
        if self.is_over() {
            return Err(refusal(&owner));
        }
        let mut bytes = bytes + PIECE;
        if let (Owner::Network(_), Some(had), known @ Owner::Account(_)) =
            (&owner, number, claim.owner())
        {
            let freed = claim.bodies.pool(&owner).state().free(&owner, had);
            *taken = None;
            bytes += freed.map_or(0, |held| held.bytes);
            (owner, number) = (known, None);
        }
        let pool = claim.bodies.pool(&owner);
        let share = pool.max / SHARE;
        let mut state = pool.state();
        if state.of(&owner, number) + bytes > share {
            return Err(refusal(&owner));
        }
        loop {
            let has = state.shares.get(&owner).map_or(0, |share| share.held);
            let full = if has + bytes > share {
                Some(owner.clone())
            } else if state.held + bytes > pool.max {
                state.fullest(number)
            } else {
                break;
            };
            if !full.is_some_and(|full| state.end(&full, number)) {
                return Err(refusal(&owner));
            }
        }
        let next = state.next;
        let number = number.unwrap_or(next);
        state.next += u64::from(number == next);
        *taken = Some((owner.clone(), number));
        state.held += bytes;
        let share = state.shares.entry(owner).or_default();
        share.held += bytes;
        let held = share.bodies.entry(number).or_insert_with(|| Held {
            bytes: 0,
            whole: false,
            over: claim.over.clone(),
        });
        held.bytes += bytes;
        Ok(())
    }

    /// So many bytes that came in so many pieces are not kept any more, though the body goes on.
    pub(super) fn less(&self, bytes: usize, pieces: usize) {
        let Some((owner, number)) = self.0.taken().clone() else {
            return;
        };
        let mut state = self.0.bodies.pool(&owner).state();
        let state = &mut *state;
        let Some(share) = state.shares.get_mut(&owner) else {
            return;
        };
        // One that was ended holds nothing.
        let Some(held) = share.bodies.get_mut(&number) else {
            return;
        };
        let less = held.bytes.min(bytes + pieces * PIECE);
        held.bytes -= less;
        share.held -= less;
        state.held -= less;
    }

    /// All of it came.
    pub(super) fn is_whole(&self) {
        let Some((owner, number)) = self.0.taken().clone() else {
            return;
        };
        let mut state = self.0.bodies.pool(&owner).state();
        let share = state.shares.get_mut(&owner);
        if let Some(held) = share.and_then(|share| share.bodies.get_mut(&number)) {
            held.whole = true;
        }
    }

    /// Whether it was ended for another.
    pub(super) fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Returns once it is ended for another.
    pub(super) fn over(&self) -> WaitForCancellationFutureOwned {
        self.0.over.clone().cancelled_owned()
    }

    /// What is told if it was.
    pub(super) fn refusal(&self) -> Status {
        let taken = self.0.taken().clone();
        let owner = taken.map_or_else(|| self.0.owner(), |(owner, _)| owner);
        refusal(&owner)
    }
}

impl Claim {
    /// Locked before a pool's state, never behind it.
    fn taken(&self) -> MutexGuard<'_, Option<(Owner, u64)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner(&self) -> Owner {
        let account = self.place.account().map(Owner::Account);
        account.unwrap_or(Owner::Network(self.source))
    }
}

/// What is told of a body that was ended, or never had room.
fn refusal(owner: &Owner) -> Status {
    let whose = match owner {
        Owner::Network(_) => "by callers who are not known",
        Owner::Account(_) => "at once",
    };
    let text = format!("too much is being sent {whose}; try again later");
    let mut status = Status::unavailable(text);
    let wait = MetadataValue::from(WAIT.as_secs());
    status
        .metadata_mut()
        .insert(header::RETRY_AFTER.as_str(), wait);
    status
}

impl Drop for Claim {
    fn drop(&mut self) {
        let taken = self.taken().take();
        if let Some((owner, number)) = taken {
            self.bodies.pool(&owner).state().free(&owner, number);
        }
    }
}

#[cfg(test)]
mod tests;
