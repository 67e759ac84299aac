//! Streams that anybody may have, for as long as he likes: of one source there are only so many.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{idle, places::network, streams};

/// Of one source: a program that watches the health of a service has one.
const MOST: usize = 16;
/// Of all sources. Beyond it the oldest of the source that has most ends, so that no number of strangers keeps out who watches.
const MOST_IN_ALL: usize = 1024;

/// Those that there are.
#[derive(Default)]
pub(super) struct PublicStreams(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many there were.
    begun: u64,
    /// The oldest first. Invariant: at most [`MOST_IN_ALL`].
    streams: BTreeMap<u64, Held>,
}

struct Held {
    source: IpNet,
    over: CancellationToken,
}

/// One of them.
struct Stream {
    all: Arc<PublicStreams>,
    number: u64,
    over: CancellationToken,
}

impl State {
    /// Ends the oldest stream of the source that has most.
    fn make_room(&mut self) {
        let mut counts: HashMap<IpNet, usize> = HashMap::new();
        for held in self.streams.values() {
            *counts.entry(held.source).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let of_the_fullest = |(_, held): &(&u64, &Held)| counts.get(&held.source).copied() == most;
        let oldest = self.streams.iter().find(of_the_fullest);
        let oldest = oldest.map(|(number, _)| *number);
        if let Some(held) = oldest.and_then(|number| self.streams.remove(&number)) {
            held.over.cancel();
        }
    }
}

impl PublicStreams {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, source: IpAddr) -> Result<Stream, Status> {
        let source = network(source);
        let mut state = self.state();
        let same = state.streams.values().filter(|held| held.source == source);
        if same.count() >= MOST {
            let text = format!("more than {MOST} streams of one address; end one of them first");
            return Err(Status::resource_exhausted(text));
        }
        if state.streams.len() >= MOST_IN_ALL {
            state.make_room();
        }
        state.begun += 1;
        let (number, over) = (state.begun, CancellationToken::new());
        let held = Held {
            source,
            over: over.clone(),
        };
        state.streams.insert(number, held);
        let all = Arc::clone(self);
        Ok(Stream { all, number, over })
    }

    /// Answers a request for one; it is counted until the end of its response.
    pub(super) async fn answer(
        self: &Arc<Self>,
        source: IpAddr,
        request: Request,
        next: Next,
    ) -> Response {
        let stream = match self.begin(source) {
            Ok(stream) => stream,
            Err(status) => return status.into_http(),
        };
        idle::is_public_stream(request.extensions());
        let over = stream.over.clone();
        let ended = async move {
            over.cancelled().await;
            Status::unavailable("the stream made room for others; begin it again")
        };
        let response = streams::until(next.run(request).await, ended);
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &stream;
                frame
            }))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.all.state().streams.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many() {
        let all = Arc::new(PublicStreams::default());
        let begin = |source: &str| all.begin(source.parse().unwrap());
        let mut held: Vec<Stream> = (0..MOST).map(|_| begin("192.0.2.1").unwrap()).collect();
        for (description, source, fits) in [
            ("one too many", "192.0.2.1", false),
            ("mapped", "::ffff:192.0.2.1", false),
            ("a neighbour", "192.0.2.2", true),
        ] {
            let got = begin(source).map_err(|status| status.code());
            let wanted = if fits {
                Ok(())
            } else {
                Err(tonic::Code::ResourceExhausted)
            };
            assert_eq!(got.map(drop), wanted, "{description}");
        }
        held.pop();
        held.push(begin("192.0.2.1").unwrap());
        drop(held);
        assert!(all.state().streams.is_empty());
    }

    #[test]
    fn in_all_there_are_so_many() {
        let all = Arc::new(PublicStreams::default());
        let begin = |n: usize| all.begin(IpAddr::from([192, 0, (n >> 8) as u8, n as u8]));
        // Of the first source one, then two, of the others one.
        let begun = [0, 1, 1].into_iter().chain(2..MOST_IN_ALL - 1);
        let held: Vec<Stream> = begun.map(|n| begin(n).unwrap()).collect();
        assert_eq!(held.len(), MOST_IN_ALL);
        let mut newcomers = Vec::new();
        for (description, source, ended) in [
            ("one of who has two", MOST_IN_ALL, 1),
            ("the oldest", MOST_IN_ALL + 1, 0),
        ] {
            assert!(!held[ended].over.is_cancelled(), "{description}");
            let newcomer = begin(source).unwrap();
            assert!(held[ended].over.is_cancelled(), "{description}");
            assert_eq!(all.state().streams.len(), MOST_IN_ALL, "{description}");
            newcomers.push(newcomer);
        }
        let over = held.iter().filter(|held| held.over.is_cancelled());
        assert_eq!(over.count(), 2);
    }
}
