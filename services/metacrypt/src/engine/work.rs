//! What takes a processor for long: beside the async threads, on no more threads than there are cores, for the whole service.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use ipnet::IpNet;
use mcdsl::{
    db::StoreError,
    server::{self, Caller},
    turns::{Turn, Turns},
};

use super::EngineError;
use crate::gate::Opened;

/// Most of callers' that are at work or wait: as many as wait for the database.
const MAX: usize = 1024;
/// Of those, of all strangers.
const OF_STRANGERS: usize = 512;
/// Of one network of them.
const OF_NETWORK: usize = 128;
/// Of one account.
const OF_ACCOUNT: usize = 256;
/// Beside those, of the service itself: callers leave it none.
const OF_SERVICE: usize = 128;
/// Microseconds that are done at once: another thread would take as long to begin.
const LIGHT_US: usize = 100;

/// For whom something is done, who takes turns with the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// What the service does of itself.
    Service,
    /// By its id.
    Account(String),
    /// Strangers there.
    Network(IpNet),
}

impl From<&Caller> for Owner {
    fn from(caller: &Caller) -> Self {
        match &caller.identity {
            Some(who) => Self::Account(who.account.clone()),
            None => Self::Network(server::network(caller.source)),
        }
    }
}

impl Owner {
    /// Its share of the places.
    fn most(&self) -> usize {
        match self {
            Self::Service => OF_SERVICE,
            Self::Account(_) => OF_ACCOUNT,
            Self::Network(_) => OF_NETWORK,
        }
    }

    fn is_stranger(&self) -> bool {
        matches!(self, Self::Network(_))
    }
}

/// The processors: as many at once as there are cores; those for whom it is done take turns, and not too many wait.
pub(crate) struct Cores {
    turns: Arc<Turns<Owner>>,
    /// Invariant: nobody without a place is kept.
    places: Mutex<HashMap<Owner, usize>>,
}

struct Place {
    cores: Arc<Cores>,
    owner: Owner,
}

impl Cores {
    /// All of this machine.
    pub(crate) fn all() -> Arc<Self> {
        Self::new(available_parallelism().map_or(1, NonZero::get))
    }

    fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(at_once),
            places: Mutex::default(),
        })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Owner, usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(self: &Arc<Self>, owner: &Owner) -> Result<Place, EngineError> {
        let mut places = self.places();
        let callers = places.iter().filter(|(owner, _)| **owner != Owner::Service);
        let callers: usize = callers.map(|(_, has)| has).sum();
        let strangers = places.iter().filter(|(owner, _)| owner.is_stranger());
        let strangers: usize = strangers.map(|(_, has)| has).sum();
        let has = places.get(owner).copied().unwrap_or_default();
        if *owner != Owner::Service && callers >= MAX
            || has >= owner.most()
            || owner.is_stranger() && strangers >= OF_STRANGERS
        {
            return Err(EngineError::Busy);
        }
        places.insert(owner.clone(), has + 1);
        Ok(Place {
            cores: Arc::clone(self),
            owner: owner.clone(),
        })
    }

    /// Waits for a turn, if there is a place to wait.
    async fn turn(self: &Arc<Self>, owner: Owner) -> Result<(Turn<Owner>, Place), EngineError> {
        let place = self.place(&owner)?;
        Ok((self.turns.next(owner).await, place))
    }

    /// Does what takes about so many microseconds, with the seal held open; what waits for its turn when the seal is closed is not done.
    ///
    /// # Errors
    /// Those of `work`, and [`EngineError::Busy`].
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        owner: Owner,
        open: &Opened,
        cost_us: usize,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        if cost_us <= LIGHT_US {
            return work();
        }
        let turn = open.unless_closed(self.turn(owner)).await?;
        let held = open.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((held, turn));
            done
        });
        done.await.map_err(|_| StoreError::Thread)?
    }

    /// All turns: nobody has one while they are held.
    #[cfg(test)]
    pub(crate) async fn all_turns(self: &Arc<Self>) -> impl Sized + use<> {
        let mut all = Vec::new();
        for n in 0..available_parallelism().map_or(1, NonZero::get) {
            let owner = Owner::Account(format!("other-{n}"));
            all.push(self.turn(owner).await.unwrap());
        }
        all
    }

    /// All places that callers may have.
    #[cfg(test)]
    pub(crate) fn all_places(self: &Arc<Self>) -> impl Sized + use<> {
        let owners = (0..MAX / OF_ACCOUNT).map(|n| Owner::Account(format!("other-{n}")));
        let each = owners.flat_map(|owner| std::iter::repeat_n(owner, OF_ACCOUNT));
        let all: Vec<_> = each.map(|owner| self.place(&owner).unwrap()).collect();
        let late = self.place(&Owner::Account("late".to_owned()));
        assert!(matches!(late, Err(EngineError::Busy)), "one was left");
        all
    }

    /// Whether something is done, or waits, for this account.
    #[cfg(test)]
    pub(crate) fn has_place(&self, account: &str) -> bool {
        let owner = Owner::Account(account.to_owned());
        self.places().contains_key(&owner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.cores.places();
        if let Some(has) = places.get_mut(&self.owner) {
            *has -= 1;
            if *has == 0 {
                places.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        barrier::SealError,
        testing::{World, caller},
    };

    #[tokio::test]
    async fn nobody_takes_all_places() {
        let cores = Cores::new(1);
        let account = |name: &str| Owner::Account(name.to_owned());
        let network = |n: usize| Owner::Network(format!("10.0.{n}.0/24").parse().unwrap());
        let turn = cores.turn(account("first")).await.unwrap();
        let mut held = Vec::new();
        let strangers = OF_STRANGERS / OF_NETWORK;
        let accounts = (MAX - OF_STRANGERS) / OF_ACCOUNT;
        let networks = (0..strangers).map(|n| (network(n), OF_NETWORK));
        let others = (1..accounts).map(|n| (account(&format!("other-{n}")), OF_ACCOUNT));
        for (owner, most) in networks
            .chain([(account("first"), OF_ACCOUNT - 1)])
            .chain(others)
        {
            for _ in 0..most {
                held.push(cores.place(&owner).unwrap());
            }
            let more = cores.place(&owner);
            assert!(matches!(more, Err(EngineError::Busy)), "{owner:?}");
            let stranger = cores.place(&network(strangers));
            let refused = held.len() >= OF_STRANGERS;
            assert_eq!(stranger.is_err(), refused, "{owner:?}: another network");
        }
        // The service's own are beside those.
        for _ in 0..OF_SERVICE {
            held.push(cores.place(&Owner::Service).unwrap());
        }
        for owner in [account("last"), Owner::Service] {
            let full = cores.place(&owner);
            assert!(matches!(full, Err(EngineError::Busy)), "{owner:?}");
        }
        drop((turn, held));
        assert!(cores.places().is_empty());
        let own: Vec<_> = (0..OF_SERVICE)
            .map(|_| cores.place(&Owner::Service).unwrap())
            .collect();
        drop(cores.all_places());
        drop(own);
        cores.turn(account("first")).await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_for_a_processor_does_not_keep_the_seal_open() {
        let world = World::vault().await;
        let cores = Arc::clone(&world.metacrypt.cores);
        let held = cores.all_turns().await;
        let open = world.metacrypt.open().unwrap();
        let owner = Owner::from(&caller("ada", "user", "/test/Work"));
        let work = tokio::spawn({
            let cores = Arc::clone(&cores);
            async move { cores.run(owner, &open, 1_000_000, || Ok(())).await }
        });
        while !cores.has_place("id-of-ada") {
            tokio::task::yield_now().await;
        }
        world.metacrypt.close().await;
        let done = work.await.unwrap();
        let sealed = matches!(done, Err(EngineError::Seal(SealError::Sealed)));
        assert!(sealed, "{done:?}");
        assert!(!cores.has_place("id-of-ada"));
        drop(held);
    }
}
