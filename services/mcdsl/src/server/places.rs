//! Places for connections: so many in all, and no source has most of them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One source has at most the fourth part of all places.
const SHARE: usize = 4;
/// Between lines of the log that tell of refusals: whoever is refused could fill it.
const LOG: Duration = Duration::from_secs(1);

/// The places of a server.
pub(super) struct Places {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: usize,
    /// Invariant: no more entries than places that are held.
    sources: HashMap<IpNet, usize>,
    refused: [u64; Refusal::ALL.len()],
    logged: Option<Instant>,
}

/// Why a connection is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// All places are held.
    #[error("too many connections")]
    Full,
    /// The source holds its share.
    #[error("too many connections of one source")]
    Source,
    /// A trusted proxy did not say for whom it comes.
    #[error("no PROXY header of a trusted proxy")]
    Header,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Full, Self::Source, Self::Header];

    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Source => "source",
            Self::Header => "proxy_header",
        }
    }
}

/// A place that is held.
pub(super) struct Place {
    places: Arc<Places>,
    source: Option<IpNet>,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Beyond the bound nobody is kept waiting: the client sees at once that it cannot be.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, Refusal> {
        let mut state = self.state();
        if state.held == self.max {
            return Err(Refusal::Full);
        }
        state.held += 1;
        Ok(Place {
            places: Arc::clone(self),
            source: None,
        })
    }

    /// Counts and logs it.
    pub(super) fn refused(&self, why: Refusal, peer: IpAddr) {
        let mut state = self.state();
        state.refused[why as usize] += 1;
        let now = Instant::now();
        if state.logged.is_none_or(|logged| now - logged >= LOG) {
            state.logged = Some(now);
            let refused: u64 = state.refused.iter().sum();
            tracing::warn!(%peer, reason = %why, refused, "a connection was refused");
        }
    }

    /// Prometheus' text of the refusals, without an end.
    pub(super) fn metrics(&self) -> String {
        let mut text = "# HELP connections_refused Connections that were not taken in.\n\
                        # TYPE connections_refused counter\n"
            .to_owned();
        let refused = self.state().refused;
        for why in Refusal::ALL {
            let (label, count) = (why.label(), refused[why as usize]);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "connections_refused_total{{reason=\"{label}\"}} {count}"
            );
        }
        text
    }
}

impl Place {
    /// Counts it as one of the source's, once that is known.
    pub(super) fn count(&mut self, source: IpAddr) -> Result<(), Refusal> {
        let source = network(source);
        let mut state = self.places.state();
        let share = (self.places.max / SHARE).max(1);
        let held = state.sources.entry(source).or_default();
        if *held >= share {
            return Err(Refusal::Source);
        }
        *held += 1;
        self.source = Some(source);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.held -= 1;
        let Some(source) = self.source else { return };
        if let Some(held) = state.sources.get_mut(&source) {
            *held -= 1;
            if *held == 0 {
                state.sources.remove(&source);
            }
        }
    }
}

/// What one client has: an address of IPv4 (mapped ones are), or a /64 of IPv6.
#[must_use]
pub fn network(source: IpAddr) -> IpNet {
    match source.to_canonical() {
        IpAddr::V4(v4) => Ipv4Net::from(v4).into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 64).trunc().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_source() {
        let places = Places::new(8);
        let take = |source: &str| {
            let mut place = places.take()?;
            place.count(source.parse().unwrap())?;
            Ok(place)
        };
        let mut held = Vec::new();
        for (description, source, wanted) in [
            ("the first", "192.0.2.1", None),
            ("the second, mapped", "::ffff:192.0.2.1", None),
            ("one too many of it", "192.0.2.1", Some(Refusal::Source)),
            ("its neighbour", "192.0.2.2", None),
            ("IPv6", "2001:db8::1", None),
            ("of the same /64", "2001:db8::2", None),
            ("and again", "2001:db8::3", Some(Refusal::Source)),
            ("another /64", "2001:db8:0:1::1", None),
            ("the seventh", "192.0.2.3", None),
            ("the eighth", "192.0.2.4", None),
            ("one too many", "192.0.2.5", Some(Refusal::Full)),
        ] {
            let got = take(source);
            assert_eq!(got.as_ref().err().copied(), wanted, "{description}");
            held.extend(got.ok());
        }
        drop(held);
        let state = places.state();
        assert_eq!((state.held, state.sources.len()), (0, 0));
    }

    #[test]
    fn refusals_are_counted() {
        let places = Places::new(1);
        let peer = IpAddr::from([192, 0, 2, 1]);
        for why in [Refusal::Full, Refusal::Header, Refusal::Full] {
            places.refused(why, peer);
        }
        let text = places.metrics();
        for line in ["full\"} 2", "source\"} 0", "proxy_header\"} 1"] {
            assert!(text.contains(line), "{text}");
        }
    }
}
