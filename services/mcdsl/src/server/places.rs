//! Places for connections: so many in all, and no source has most of them. Nobody keeps them by doing nothing: once there are no more, in all
//! or for a source, the connection ends that can be done without and has been so for the longest ([`Activity::dispensable`]), and the new
//! one has its place. It is refused only where all others work.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::idle::Activity;

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
    /// Invariant: at most as many as there are places.
    held: HashMap<u64, Held>,
    /// How many there were.
    begun: u64,
    /// How many each has.
    /// Invariant: no more entries than places that are held.
    sources: HashMap<IpNet, usize>,
    refused: [u64; Refusal::ALL.len()],
    /// Connections that were ended for others.
    displaced: u64,
    logged: Option<Instant>,
}

/// A connection that has a place.
struct Held {
    activity: Arc<Activity>,
    /// `None`: it is not known yet.
    source: Option<IpNet>,
}

impl State {
    /// Ends a connection that can be done without, of that source if one is given. Whether there is one.
    fn displace(&mut self, source: Option<IpNet>) -> bool {
        let ours = |held: &Held| source.is_none() || held.source == source;
        let found = (self.held.iter())
            .filter(|(_, held)| ours(held))
            .filter_map(|(id, held)| Some((held.activity.dispensable()?, *id)))
            .min();
        let Some((_, id)) = found else { return false };
        if let Some(held) = self.held.get(&id) {
            held.activity.end();
        }
        self.leave(id);
        self.displaced += 1;
        true
    }

    /// Frees a place, if it was not freed before.
    fn leave(&mut self, id: u64) {
        let left = self.held.remove(&id);
        let Some(source) = left.and_then(|held| held.source) else {
            return;
        };
        if let Some(held) = self.sources.get_mut(&source) {
            *held -= 1;
            if *held == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// Why a connection is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// All places are held, and no connection can be done without.
    #[error("too many connections")]
    Full,
    /// The source holds its share, alike.
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
    id: u64,
    pub(super) activity: Arc<Activity>,
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
        if state.held.len() >= self.max && !state.displace(None) {
            return Err(Refusal::Full);
        }
        state.begun += 1;
        let (id, activity) = (state.begun, Activity::new());
        let held = Held {
            activity: Arc::clone(&activity),
            source: None,
        };
        state.held.insert(id, held);
        Ok(Place {
            places: Arc::clone(self),
            id,
            activity,
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

    /// Prometheus' text of the refusals and of what made room, without an end.
    pub(super) fn metrics(&self) -> String {
        let mut text = "# HELP connections_refused Connections that were not taken in.\n\
                        # TYPE connections_refused counter\n"
            .to_owned();
        let state = self.state();
        let (refused, displaced) = (state.refused, state.displaced);
        drop(state);
        for why in Refusal::ALL {
            let (label, count) = (why.label(), refused[why as usize]);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "connections_refused_total{{reason=\"{label}\"}} {count}"
            );
        }
        let _ = write!(
            text,
            "# HELP connections_displaced Connections that did nothing and ended for others.\n\
             # TYPE connections_displaced counter\n\
             connections_displaced_total {displaced}\n"
        );
        text
    }
}

impl Place {
    /// Counts it as one of the source's, once that is known.
    pub(super) fn count(&self, source: IpAddr) -> Result<(), Refusal> {
        let source = network(source);
        let mut guard = self.places.state();
        let state = &mut *guard;
        let share = (self.places.max / SHARE).max(1);
        let has = state.sources.get(&source).copied().unwrap_or_default();
        if has >= share && !state.displace(Some(source)) {
            return Err(Refusal::Source);
        }
        // It may have made room for others meanwhile.
        let held = state.held.get_mut(&self.id).ok_or(Refusal::Full)?;
        held.source = Some(source);
        *state.sources.entry(source).or_default() += 1;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state().leave(self.id);
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
mod tests;
