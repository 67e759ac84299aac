//! What takes a processor for long: beside the async threads, on no more threads than there are cores, for the whole service.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use mcdsl::{
    db::StoreError,
    server::{self, Caller},
    turns::{Turn, Turns},
};

use super::EngineError;
use crate::entered::Entered;

/// Most that are at work or wait.
const MAX: usize = 256;
/// Of those, of one account.
const OF_ACCOUNT: usize = 64;
/// Microseconds that are done at once: another thread would take as long to begin.
const LIGHT_US: usize = 100;

static CORES: LazyLock<Arc<Line>> =
    LazyLock::new(|| Line::new(available_parallelism().map_or(1, NonZero::get)));

/// So many at once; accounts take turns, and not too many wait.
struct Line {
    turns: Arc<Turns<String>>,
    /// Invariant: no account without a place is kept.
    places: Mutex<HashMap<String, usize>>,
}

struct Place {
    line: Arc<Line>,
    account: String,
}

impl Line {
    fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(at_once),
            places: Mutex::default(),
        })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(self: &Arc<Self>, account: &str) -> Result<Place, EngineError> {
        let mut places = self.places();
        let all: usize = places.values().sum();
        let has = places.get(account).copied().unwrap_or_default();
        if all >= MAX || has >= OF_ACCOUNT {
            return Err(EngineError::Busy);
        }
        places.insert(account.to_owned(), has + 1);
        Ok(Place {
            line: Arc::clone(self),
            account: account.to_owned(),
        })
    }

    /// Waits for a turn, if there is a place to wait.
    async fn turn(self: &Arc<Self>, account: &str) -> Result<(Turn<String>, Place), EngineError> {
        let place = self.place(account)?;
        Ok((self.turns.next(account.to_owned()).await, place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.line.places();
        if let Some(has) = places.get_mut(&self.account) {
            *has -= 1;
            if *has == 0 {
                places.remove(&self.account);
            }
        }
    }
}

/// Does what takes about so many microseconds, with the seal held open; what waits for its turn when the seal is closed is not done.
///
/// # Errors
/// Those of `work`, and [`EngineError::Busy`].
pub(crate) async fn beside<T: Send + 'static>(
    caller: &Caller,
    at: &Arc<Entered>,
    cost_us: usize,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    if cost_us <= LIGHT_US {
        return work();
    }
    // Nobody's account is called like a network.
    let account = match &caller.identity {
        Some(who) => who.account.clone(),
        None => server::network(caller.source).to_string(),
    };
    let (turn, held) = (
        at.unless_closed(CORES.turn(&account)).await?,
        Arc::clone(at),
    );
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop((held, turn));
        done
    });
    done.await.map_err(|_| StoreError::Thread)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        barrier::SealError,
        engine::transit,
        testing::{World, caller},
    };

    #[tokio::test]
    async fn no_account_takes_all_places() {
        let line = Line::new(1);
        let turn = line.turn("first").await.unwrap();
        let waiting: Vec<_> = (1..OF_ACCOUNT)
            .map(|_| line.place("first").unwrap())
            .collect();
        assert!(matches!(line.place("first"), Err(EngineError::Busy)));
        let others: Vec<_> = (OF_ACCOUNT..MAX)
            .map(|n| line.place(&format!("other-{n}")).unwrap())
            .collect();
        assert!(matches!(line.place("last"), Err(EngineError::Busy)));
        drop((turn, waiting, others));
        assert!(line.places().is_empty());
        line.turn("first").await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_for_a_processor_does_not_keep_the_seal_open() {
        let world = World::vault().await;
        let mut held = Vec::new();
        for n in 0..available_parallelism().map_or(1, NonZero::get) {
            held.push(CORES.turn(&format!("other-{n}")).await.unwrap());
        }
        let at = world.metacrypt.own(&transit::KIND, "vault", "test.work");
        let (at, caller) = (at.unwrap(), caller("ada", "user", "/test/Work"));
        let work = async move { beside(&caller, &at, 1_000_000, || Ok(())).await };
        let work = tokio::spawn(work);
        while !CORES.places().contains_key("id-of-ada") {
            tokio::task::yield_now().await;
        }
        world.metacrypt.close().await;
        let done = work.await.unwrap();
        let sealed = matches!(done, Err(EngineError::Seal(SealError::Sealed)));
        assert!(sealed, "{done:?}");
        assert!(!CORES.places().contains_key("id-of-ada"));
        drop(held);
    }
}
