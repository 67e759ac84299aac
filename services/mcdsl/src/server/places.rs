//! Places for connections: so many in all, and neither a source nor an account has most of them. Nobody keeps them by doing nothing: once there
//! are no more, in all or for a source, the connection ends that can best be done without ([`Activity::standing`]), and the new one has its
//! place. That may be a stranger's with a request under way; it is refused only where all others work for somebody who is known. An account
//! that has its share makes room itself, if need be by its oldest that works: it could hold all places from a few addresses otherwise.

use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::http::Extensions;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    access::Source,
    idle::{Activity, Dispensable},
};
use crate::db::Asker;

/// One source has at most the fourth part of all places, and one account.
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
    /// And each account, alike.
    accounts: HashMap<Arc<str>, usize>,
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
    /// Who showed first who he is.
    account: Option<Arc<str>>,
}

/// For whom there is to be room.
#[derive(Clone, Copy)]
enum Newcomer<'a> {
    Anybody,
    Source(IpNet),
    Account(&'a str),
}

impl Newcomer<'_> {
    /// Whether that connection may be ended for it.
    fn may_end(self, held: &Held, how: Dispensable) -> bool {
        match self {
            Self::Anybody => how < Dispensable::Working,
            Self::Source(source) => how < Dispensable::Working && held.source == Some(source),
            Self::Account(account) => held.account.as_deref() == Some(account),
        }
    }
}

impl State {
    /// Ends the connection that can best be done without. Whether there is one.
    fn displace(&mut self, newcomer: Newcomer<'_>) -> bool {
        let found = (self.held.iter())
            .map(|(id, held)| (held.activity.standing(), *id, held))
            .filter(|((how, _), _, held)| newcomer.may_end(held, *how))
            .map(|(standing, id, _)| (standing, id))
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
        let Some(left) = self.held.remove(&id) else {
            return;
        };
        if let Some(source) = left.source {
            less(&mut self.sources, &source);
        }
        if let Some(account) = left.account {
            less(&mut self.accounts, &account);
        }
    }
}

/// One fewer.
fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(held) = counts.get_mut(key) {
        *held -= 1;
        if *held == 0 {
            counts.remove(key);
        }
    }
}

/// Why a connection is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// All places are held, and all connections work for somebody who is known.
    #[error("too many connections")]
    Full,
    /// The source holds its share, alike.
    #[error("too many connections of one source")]
    Source,
    /// A trusted proxy did not say for whom it comes.
    #[error(
        "no PROXY header from an address of server.trusted_proxies; what is no proxy there has to come through the proxy, or from another address"
    )]
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
    /// Who showed first who he is.
    account: Arc<OnceLock<Arc<str>>>,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
        })
    }

    /// Of one source, or one account.
    fn share(&self) -> usize {
        (self.max / SHARE).max(1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Beyond the bound nobody is kept waiting: the client sees at once that it cannot be.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, Refusal> {
        let mut state = self.state();
        if state.held.len() >= self.max && !state.displace(Newcomer::Anybody) {
            return Err(Refusal::Full);
        }
        state.begun += 1;
        let (id, activity) = (state.begun, Activity::new());
        let held = Held {
            activity: Arc::clone(&activity),
            source: None,
            account: None,
        };
        state.held.insert(id, held);
        Ok(Place {
            places: Arc::clone(self),
            id,
            activity,
            account: Arc::default(),
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
            "# HELP connections_displaced Connections that ended to make room for others.\n\
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
        let share = self.places.share();
        let has = state.sources.get(&source).copied().unwrap_or_default();
        if has >= share && !state.displace(Newcomer::Source(source)) {
            return Err(Refusal::Source);
        }
        // It may have made room for others meanwhile.
        let held = state.held.get_mut(&self.id).ok_or(Refusal::Full)?;
        held.source = Some(source);
        *state.sources.entry(source).or_default() += 1;
        Ok(())
    }

    /// Who showed first who he is.
    pub(super) fn account(&self) -> Option<Arc<str>> {
        self.account.get().cloned()
    }

    /// Somebody showed who he is: by a token that is good, or by a page's session. Counts it as one of the account's, who makes room for
    /// it if he has his share already.
    pub(super) fn known(&self, account: &str) {
        // Of one connection for several the first is the one.
        if !self.activity.known() {
            return;
        }
        let mut guard = self.places.state();
        let state = &mut *guard;
        let has = state.accounts.get(account).copied().unwrap_or_default();
        if has >= self.places.share() {
            state.displace(Newcomer::Account(account));
        }
        // It may have made room for others meanwhile.
        let Some(held) = state.held.get_mut(&self.id) else {
            return;
        };
        let account: Arc<str> = account.into();
        held.account = Some(Arc::clone(&account));
        // Nobody was before him.
        let _ = self.account.set(Arc::clone(&account));
        *state.accounts.entry(account).or_default() += 1;
    }
}

/// For whom the database is asked by a request; `None` if no connection brought it.
pub(super) fn asker(request: &Extensions) -> Option<Asker> {
    let place = request.get::<Arc<Place>>()?;
    let source = request.get::<Source>()?;
    Some(Asker {
        network: network(source.0),
        account: Arc::clone(&place.account),
    })
}

/// What brought a request, if that is a connection.
#[derive(Clone)]
pub(crate) struct Connection(Option<Arc<Place>>);

impl Connection {
    pub(crate) fn of(request: &Extensions) -> Self {
        Self(request.get().cloned())
    }

    /// The request is of that account.
    pub(crate) fn known(&self, account: &str) {
        if let Some(place) = &self.0 {
            place.known(account);
        }
    }
}

/// The request is of that account; its connection is told, if it has one.
pub(super) fn known(request: &Extensions, account: &str) {
    Connection::of(request).known(account);
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
