//! For whom the database is asked: what waits for it is bounded for each network of strangers and for each account, so that who is known finds a
//! place however many strangers ask, and they take turns ([`crate::turns`]). The server says so once for a request ([`asked_by`]), as a value of the request's task, for whoever asks the
//! database in it; what the service does of its own has places of its own, which callers cannot take.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use ipnet::IpNet;

use super::store::StoreError;

/// Callers who may wait to read, and as many to write: at a millisecond each, the last of them has already waited too long. What the service does of its
/// own may be as much beside them.
pub(super) const MAX_WAITING: usize = 1024;
/// Of those, for who is known.
const KEPT: usize = 512;
/// Of one network of strangers.
const OF_NETWORK: usize = 128;
/// Of one account.
const OF_ACCOUNT: usize = 256;

tokio::task_local! {
    static ASKER: Option<Asker>;
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Where from.
    pub network: IpNet,
    /// Who showed on the connection who he is, once he has.
    pub account: Arc<OnceLock<Arc<str>>>,
}

/// Does it for somebody; `None`: for the service itself.
pub fn asked_by<F: Future>(
    asker: Option<Asker>,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    ASKER.scope(asker, work)
}

/// For work that goes on in a task of its own: for whom this task does it.
pub(super) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    asked_by(ASKER.try_with(Clone::clone).ok().flatten(), work)
}

/// Whose places are counted together, and who takes turns with the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Service,
    Network(IpNet),
    Account(Arc<str>),
}

impl Owner {
    fn now() -> Self {
        let asker = ASKER.try_with(Clone::clone).ok().flatten();
        let Some(asker) = asker else {
            return Self::Service;
        };
        let account = asker.account.get().cloned();
        account.map_or(Self::Network(asker.network), Self::Account)
    }

    fn is_caller(&self) -> bool {
        *self != Self::Service
    }

    fn is_stranger(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// Its part of those who wait, where callers may not have more than a share.
    fn most(&self, share: usize) -> usize {
        match self {
            Self::Service => MAX_WAITING,
            Self::Network(_) => OF_NETWORK.min(share),
            Self::Account(_) => OF_ACCOUNT.min(share),
        }
    }
}

/// Places to be at work or to wait.
#[derive(Debug)]
pub(super) struct Places {
    at_once: usize,
    /// Most that one caller has who waits.
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    callers: usize,
    strangers: usize,
    /// Invariant: none without a place is kept.
    owners: HashMap<Owner, usize>,
}

impl Places {
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Self::shared(at_once, OF_ACCOUNT)
    }

    /// As [`Self::new`], for what takes so long that nobody's may be many.
    pub(super) fn shared(at_once: usize, share: usize) -> Arc<Self> {
        Arc::new(Self {
            at_once,
            share,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for whom this task works.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, StoreError> {
        let owner = Owner::now();
        let (caller, stranger) = (owner.is_caller(), owner.is_stranger());
        let mut state = self.state();
        let has = state.owners.get(&owner).copied().unwrap_or_default();
        let full = caller && state.callers >= self.at_once + MAX_WAITING
            || has >= self.at_once + owner.most(self.share)
            || stranger && state.strangers >= self.at_once + MAX_WAITING - KEPT;
        if full {
            return Err(StoreError::Busy);
        }
        state.callers += usize::from(caller);
        state.strangers += usize::from(stranger);
        *state.owners.entry(owner.clone()).or_default() += 1;
        drop(state);
        let places = Arc::clone(self);
        Ok(Place { places, owner })
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.state().owners.values().sum()
    }
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    owner: Owner,
}

impl Place {
    /// Whose it is.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.callers -= usize::from(self.owner.is_caller());
        state.strangers -= usize::from(self.owner.is_stranger());
        if let Some(has) = state.owners.get_mut(&self.owner) {
            *has -= 1;
            if *has == 0 {
                state.owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(network: &str, account: Option<&str>) -> Asker {
        let known = OnceLock::new();
        if let Some(account) = account {
            known.set(account.into()).unwrap();
        }
        Asker {
            network: network.parse().unwrap(),
            account: Arc::new(known),
        }
    }

    #[tokio::test]
    async fn strangers_leave_places_to_who_is_known() {
        const AT_ONCE: usize = 4;
        let places = Places::new(AT_ONCE);
        // Those that somebody gets who asks until he is told that there are no more.
        let all = async |asker: Option<Asker>| {
            let mut held = Vec::new();
            asked_by(asker, async {
                while let Ok(place) = places.take() {
                    held.push(place);
                }
            })
            .await;
            held
        };
        let mut held = Vec::new();
        for (description, asker, wanted) in [
            ("a network", asker("192.0.2.1/32", None), AT_ONCE + 128),
            ("it again", asker("192.0.2.1/32", None), 0),
            ("another", asker("192.0.2.2/32", None), AT_ONCE + 128),
            ("a third", asker("192.0.2.3/32", None), AT_ONCE + 128),
            (
                "what strangers have left",
                asker("192.0.2.4/32", None),
                AT_ONCE + 512 - 3 * (AT_ONCE + 128),
            ),
            ("no more strangers", asker("192.0.2.5/32", None), 0),
            (
                "who is known there",
                asker("192.0.2.1/32", Some("ada")),
                AT_ONCE + 256,
            ),
            (
                "the rest",
                asker("192.0.2.1/32", Some("bob")),
                256 - AT_ONCE,
            ),
            ("no more", asker("192.0.2.1/32", Some("eve")), 0),
        ] {
            let got = all(Some(asker)).await;
            assert_eq!(got.len(), wanted, "{description}");
            held.extend(got);
        }
        let service = all(None).await;
        let own = AT_ONCE + MAX_WAITING;
        assert_eq!(service.len(), own, "the service itself");
        drop((held, service));
        let state = places.state();
        assert!(state.callers == 0 && state.strangers == 0 && state.owners.is_empty());
    }

    #[tokio::test]
    async fn for_whom_a_task_works_goes_on_in_its_tasks() {
        let ada = asker("192.0.2.1/32", Some("ada"));
        let other = asked_by(Some(ada), async {
            let carried = tokio::spawn(carried(async { Owner::now() }));
            (Owner::now(), carried.await.unwrap())
        });
        let (own, carried) = other.await;
        assert_eq!(own, Owner::Account("ada".into()));
        assert_eq!(carried, own);
        assert_eq!(Owner::now(), Owner::Service);
    }
}
