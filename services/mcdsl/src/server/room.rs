//! Room for the bodies of strangers' requests: each is bounded, but of connections and their streams there are many. Who showed who he is
//! needs none of it, so that strangers who send and never end keep out strangers alone, and no network keeps out the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{Extensions, header};
use ipnet::IpNet;
use tonic::{Status, metadata::MetadataValue};

use super::{
    access::Source,
    places::{Place, network},
};

/// Bytes for all of them together.
const MOST: usize = 64 << 20;
/// One network has at most the fourth part.
const SHARE: usize = 4;
/// After which who found none may try again.
const WAIT: Duration = Duration::from_secs(5);

/// What there is, and who has it.
pub(super) struct Room {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: usize,
    /// Invariant: no more entries than bodies that hold bytes.
    sources: HashMap<IpNet, usize>,
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
            bytes: 0,
        })
    }
}

/// What a body takes, until it is dropped.
pub(super) struct Hold {
    room: Arc<Room>,
    place: Arc<Place>,
    source: IpNet,
    bytes: usize,
}

impl Hold {
    /// For so many bytes more.
    ///
    /// # Errors
    /// If they are a stranger's, and there is no room.
    pub(super) fn more(&mut self, bytes: usize) -> Result<(), Status> {
        if self.place.activity.is_known() {
            return Ok(());
        }
        let mut state = self.room.state();
        let of_source = state.sources.get(&self.source).copied().unwrap_or_default();
        if state.held + bytes > self.room.max || of_source + bytes > self.room.max / SHARE {
            let text = "too much is being sent by callers who are not known; try again later";
            let mut status = Status::unavailable(text);
            let wait = MetadataValue::from(WAIT.as_secs());
            status
                .metadata_mut()
                .insert(header::RETRY_AFTER.as_str(), wait);
            return Err(status);
        }
        state.held += bytes;
        *state.sources.entry(self.source).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.held -= self.bytes;
        if let Some(held) = state.sources.get_mut(&self.source) {
            *held -= self.bytes;
            if *held == 0 {
                state.sources.remove(&self.source);
            }
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

    #[test]
    fn strangers_share_what_there_is() {
        let room = Room::of(40);
        let mut held = Vec::new();
        let mut add = |description: &str, source: &str, known: bool, bytes, fits: bool| {
            let request = request(source);
            if known {
                crate::server::places::known(&request, "ada");
            }
            let mut hold = room.hold(&request).unwrap();
            let got = hold.more(bytes);
            assert_eq!(got.is_ok(), fits, "{description}");
            if let Err(status) = got {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{description}");
                assert!(
                    status.metadata().contains_key("retry-after"),
                    "{description}"
                );
            }
            held.push(hold);
        };
        add("a share", "192.0.2.1", false, 10, true);
        add("one byte more", "192.0.2.1", false, 1, false);
        add("of who is known there", "192.0.2.1", true, 1000, true);
        add("another address", "192.0.2.2", false, 9, true);
        add(
            "more of it, together too much",
            "192.0.2.2",
            false,
            2,
            false,
        );
        add("what is left of that", "192.0.2.2", false, 1, true);
        add("a network of IPv6", "2001:db8::1", false, 10, true);
        add("the same network", "2001:db8::2", false, 1, false);
        add("the last there is", "192.0.2.3", false, 10, true);
        add("a stranger where all is held", "192.0.2.4", false, 1, false);
        add(
            "who is known, where all is held",
            "192.0.2.4",
            true,
            1000,
            true,
        );
        held.clear();
        assert!(room.state().sources.is_empty() && room.state().held == 0);
        assert!(room.hold(&Extensions::new()).is_none(), "no connection");
    }
}
