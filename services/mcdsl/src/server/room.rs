//! Room for the bodies of strangers' requests: each is bounded, but of connections and their streams there are many. Who showed who he is
//! needs none of it.
//!
//! Once there is none left, the oldest body ends of the network that has most, so that a newcomer's is taken: who sends and never ends keeps nobody out, and no network takes
//! from the others. A login's body is there at once and gone with its answer.

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

/// Bytes for all of them together.
const MOST: usize = 64 << 20;
/// One network has at most the fourth part.
const SHARE: usize = 4;
/// What keeping a piece costs beside its bytes: a body may come in pieces of one.
const PIECE: usize = 64;
/// After which whose body was ended may try again.
const WAIT: Duration = Duration::from_secs(5);

/// What there is, and who has it.
pub(super) struct Room {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: usize,
    /// Bodies that hold bytes are numbered in the order of their first.
    next: u64,
    sources: HashMap<IpNet, Network>,
}

/// What a network has. Invariant: none without bodies is kept.
#[derive(Default)]
struct Network {
    held: usize,
    bodies: BTreeMap<u64, Held>,
}

struct Held {
    bytes: usize,
    over: CancellationToken,
}

impl State {
    /// Frees what a body holds.
    fn free(&mut self, source: IpNet, number: u64) -> Option<Held> {
        let network = self.sources.get_mut(&source)?;
        let held = network.bodies.remove(&number)?;
        network.held -= held.bytes;
        self.held -= held.bytes;
        if network.bodies.is_empty() {
            self.sources.remove(&source);
        }
        Some(held)
    }

    /// Ends the oldest body of a network but for `own`; `false`: it has no other.
    fn end(&mut self, source: IpNet, own: Option<u64>) -> bool {
        let network = self.sources.get(&source);
        let oldest = network.and_then(|n| n.bodies.keys().find(|n| Some(**n) != own).copied());
        let ended = oldest.and_then(|number| self.free(source, number));
        ended.map(|held| held.over.cancel()).is_some()
    }

    /// What a body holds.
    fn of(&self, source: IpNet, number: Option<u64>) -> usize {
        let network = self.sources.get(&source);
        let held = network.and_then(|network| network.bodies.get(&number?));
        held.map_or(0, |held| held.bytes)
    }

    fn fullest(&self) -> Option<IpNet> {
        let fullest = self.sources.iter().max_by_key(|(_, network)| network.held);
        fullest.map(|(source, _)| *source)
    }
}

impl Room {
    pub(super) fn new() -> Arc<Self> {
        Self::of(MOST)
    }

    pub(super) fn of(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the body of a request takes of it, nothing yet; `None` if no connection brought it.
    pub(super) fn hold(self: &Arc<Self>, request: &Extensions) -> Option<Hold> {
        Some(Hold {
            room: Arc::clone(self),
            place: Arc::clone(request.get()?),
            source: network(request.get::<Source>()?.0),
            number: None,
            over: CancellationToken::new(),
        })
    }
}

/// What a body takes, until it is dropped.
pub(super) struct Hold {
    room: Arc<Room>,
    place: Arc<Place>,
    source: IpNet,
    number: Option<u64>,
    over: CancellationToken,
}

impl Hold {
    /// For a piece of so many bytes more.
    ///
    /// # Errors
    /// If they are a stranger's, and there is no room: it was ended for another, or has it all itself.
    pub(super) fn more(&mut self, bytes: usize) -> Result<(), Status> {
        if self.place.activity.is_known() {
            return Ok(());
        }
        if self.is_over() {
            return Err(refusal());
        }
        let (bytes, max) = (bytes + PIECE, self.room.max);
        let mut state = self.room.state();
        if state.of(self.source, self.number) + bytes > max / SHARE {
            return Err(refusal());
        }
        loop {
            let of_source = state.sources.get(&self.source).map_or(0, |n| n.held);
            let full = if of_source + bytes > max / SHARE {
                self.source
            } else if state.held + bytes > max {
                state.fullest().unwrap_or(self.source)
            } else {
                break;
            };
            if !state.end(full, self.number) {
                return Err(refusal());
            }
        }
        let number = self.number.unwrap_or(state.next);
        if self.number.is_none() {
            state.next += 1;
            self.number = Some(number);
        }
        state.held += bytes;
        let network = state.sources.entry(self.source).or_default();
        network.held += bytes;
        let over = &self.over;
        let held = network.bodies.entry(number).or_insert_with(|| Held {
            bytes: 0,
            over: over.clone(),
        });
        held.bytes += bytes;
        Ok(())
    }

    /// Whether it was ended for another.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Returns once it is ended for another.
    pub(super) fn over(&self) -> WaitForCancellationFutureOwned {
        self.over.clone().cancelled_owned()
    }
}

/// What is told of a body that was ended, or never had room.
pub(super) fn refusal() -> Status {
    let text = "too much is being sent by callers who are not known; try again later";
    let mut status = Status::unavailable(text);
    let wait = MetadataValue::from(WAIT.as_secs());
    status
        .metadata_mut()
        .insert(header::RETRY_AFTER.as_str(), wait);
    status
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.room.state().free(self.source, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::places::Places;

    /// A request from there.
    fn request(source: &str) -> Extensions {
        let mut request = Extensions::new();
        request.insert(Source(source.parse().unwrap()));
        request.insert(Arc::new(Places::new(1).take().ok().unwrap()));
        request
    }

    fn more(hold: &mut Hold, bytes: usize) -> bool {
        match hold.more(bytes - PIECE) {
            Ok(()) => true,
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unavailable);
                assert!(status.metadata().contains_key("retry-after"));
                false
            }
        }
    }

    /// Who of those that have something has nothing any more, by one more body.
    #[test]
    fn the_oldest_of_the_fullest_network_gives_way() {
        let three = [("192.0.2.1", 1000), ("192.0.2.1", 900), ("192.0.2.2", 500)];
        let full = [
            ("192.0.2.1", 2000),
            ("192.0.2.2", 400),
            ("192.0.2.2", 1500),
            ("192.0.2.3", 1990),
            ("192.0.2.4", 1990),
        ];
        for (description, before, source, known, bytes, fits, ended) in [
            (
                "room for it",
                &three[..],
                "192.0.2.1",
                false,
                0,
                true,
                &[][..],
            ),
            (
                "its network has too much",
                &three,
                "192.0.2.1",
                false,
                200,
                true,
                &[0],
            ),
            (
                "far too much",
                &three,
                "192.0.2.1",
                false,
                1500,
                true,
                &[0, 1],
            ),
            (
                "more than a network may have",
                &three,
                "192.0.2.1",
                false,
                2100,
                false,
                &[],
            ),
            (
                "of who is known there",
                &three,
                "192.0.2.1",
                true,
                9000,
                true,
                &[],
            ),
            (
                "another network",
                &three,
                "192.0.2.9",
                false,
                2000,
                true,
                &[],
            ),
            (
                "where all is held",
                &full,
                "192.0.2.9",
                false,
                200,
                true,
                &[0],
            ),
            (
                "and more",
                &full[1..],
                "2001:db8::1",
                false,
                2000,
                true,
                &[],
            ),
        ] {
            let room = Room::of(8000);
            let hold = |source: &str| room.hold(&request(source)).unwrap();
            let mut held: Vec<_> = before.iter().map(|(source, _)| hold(source)).collect();
            for (hold, (_, bytes)) in held.iter_mut().zip(before) {
                assert!(more(hold, *bytes), "{description}");
            }
            let asked = request(source);
            if known {
                crate::server::places::known(&asked, "ada");
            }
            let mut new = room.hold(&asked).unwrap();
            assert_eq!(more(&mut new, bytes.max(PIECE)), fits, "{description}");
            let over = held.iter().enumerate();
            let over: Vec<_> = over.filter(|(_, hold)| hold.over.is_cancelled()).collect();
            let over: Vec<_> = over.into_iter().map(|(at, _)| at).collect();
            assert_eq!(over, ended, "{description}");
            for at in over {
                assert!(!more(&mut held[at], PIECE), "{description}: it is over");
            }
            drop((held, new));
            let state = room.state();
            assert!(state.sources.is_empty() && state.held == 0, "{description}");
        }
        assert!(
            Room::of(1).hold(&Extensions::new()).is_none(),
            "no connection"
        );
    }
}
