//! Which backend of a route is next.

use std::{
    cell::LazyCell,
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    SLOW_START, now,
    state::{self, Event, Standing, WHOLE},
};
use crate::{
    router::LiveRoute,
    stats::{Active, BackendGauge, BackendStats},
};

/// Why there is no backend for a connection or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Health checks say that those left are down, or there are none.
    Down,
    /// Each that could be used has as many requests as it may have.
    Full,
}

impl Unavailable {
    /// The label for counters and the log.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Down => "no_backend",
            Self::Full => "max_requests",
        }
    }
}

impl LiveRoute {
    /// How long a backend that came back gets less than its share.
    pub fn slow_start(&self) -> Duration {
        let l7 = self.route.l7.as_ref();
        l7.and_then(|l7| l7.slow_start).unwrap_or(SLOW_START)
    }

    /// The backend that [`Self::take`] would choose now: of those that are not in `tried` and have less than `most` under way, the one
    /// with the fewest for its share. Of equals the first, counting from a start that rotates, so that idle backends share. One
    /// that is ejected is better than none; one that is down is none.
    ///
    /// # Errors
    /// [`Unavailable`] if there is none.
    pub fn pick(&self, tried: &[SocketAddr], most: u64) -> Result<&Arc<BackendStats>, Unavailable> {
        self.pick_in(self.stats.turn.load(Relaxed), tried, most)
    }

    fn pick_in(
        &self,
        turn: u64,
        tried: &[SocketAddr],
        most: u64,
    ) -> Result<&Arc<BackendStats>, Unavailable> {
        let start = turn as usize % self.backends.len().max(1);
        let (before, after) = self.backends.split_at(start);
        let (now, slow_start) = (LazyCell::new(now), self.slow_start());
        let (mut best, mut none) = (None, Unavailable::Down);
        for backend in after.iter().chain(before) {
            if tried.contains(&backend.address) {
                continue;
            }
            let (ejected, share) = match backend.health.standing(|| *now, slow_start) {
                Standing::Down => continue,
                Standing::Ejected => (true, WHOLE),
                Standing::Share(share) => (false, share),
            };
            let active = backend.active.load(Relaxed);
            if active >= most {
                none = Unavailable::Full;
                continue;
            }
            let weighted = active.saturating_mul(WHOLE) / share;
            let rank = (ejected, weighted, out_of_turn(turn, share));
            if best.as_ref().is_none_or(|(first, _)| rank < *first) {
                best = Some((rank, backend));
            }
        }
        best.map(|(_, backend)| backend).ok_or(none)
    }

    /// How many more requests its backends may have: of those that are in use, or of all that are not down if none is.
    pub fn free(&self, most: u64) -> u64 {
        let now = LazyCell::new(now);
        let (mut used, mut rest) = (None, 0);
        for backend in &self.backends {
            let free = most.saturating_sub(backend.active.load(Relaxed));
            match backend.health.standing(|| *now, self.slow_start()) {
                Standing::Down => {}
                Standing::Ejected => rest += free,
                Standing::Share(_) => *used.get_or_insert(0) += free,
            }
        }
        used.unwrap_or(rest)
    }

    /// The backend for the next connection or request, or for its next attempt: [`Self::pick`], counted as under way.
    ///
    /// # Errors
    /// [`Unavailable`] if there is none.
    pub fn take(
        &self,
        tried: &[SocketAddr],
        most: u64,
    ) -> Result<Active<BackendGauge>, Unavailable> {
        // A further attempt is no turn, or of two backends one would have every first attempt while it fails.
        let turn = match tried {
            [] => self.stats.turn.fetch_add(1, Relaxed),
            _ => self.stats.turn.load(Relaxed),
        };
        // Another thread may take the last place of the one that was picked.
        for _ in 0..=self.backends.len() {
            let backend = self.pick_in(turn, tried, most)?;
            if let Some(taken) = Active::below(BackendGauge(Arc::clone(backend)), most) {
                return Ok(taken);
            }
        }
        Err(Unavailable::Full)
    }

    /// Notes that an attempt at a backend failed by the backend's fault.
    pub fn failed(&self, backend: &BackendStats, why: &'static str) {
        backend.failures.fetch_add(1, Relaxed);
        let guard = self.stats.ejecting.lock();
        let _alone = guard.unwrap_or_else(PoisonError::into_inner);
        let ejected =
            |b: &&Arc<BackendStats>| b.health.standing(now, Duration::ZERO) == Standing::Ejected;
        let ejected = self.backends.iter().filter(ejected).count();
        let room = state::room(ejected, self.backends.len());
        if let Some(Event::Ejected(time, _)) = backend.health.request_failed(why.into(), room) {
            tracing::warn!(
                route = %self.route.key.hostname,
                port = self.route.key.port,
                backend = %backend.address,
                seconds = time.as_secs(),
                why,
                "a backend is ejected: its requests fail"
            );
        }
    }
}

/// Whether a backend with a partial share gives way in this turn to those that are as busy as it. Idle backends are all equally
/// busy: without this, one would get its whole share of few requests. Golden-ratio steps spread its turns evenly.
fn out_of_turn(turn: u64, share: u64) -> bool {
    let point = u64::from((turn as u32).wrapping_mul(0x9E37_79B9));
    share < WHOLE && (point * WHOLE) >> 32 >= share
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::spec::{L7, Route, RouteId};

    const ALL: u64 = u64::MAX;

    fn route(backends: u8, slow_start: Duration) -> LiveRoute {
        let addresses: Vec<SocketAddr> = (1..=backends)
            .map(|i| SocketAddr::from(([10, 0, 0, i], 1)))
            .collect();
        let l7 = L7 {
            slow_start: Some(slow_start),
            ..toml::from_str("certificate = \"/c\"\nkey = \"/k\"").unwrap()
        };
        let stats = |a: &SocketAddr| Arc::new(BackendStats::new(*a));
        LiveRoute {
            tls: None,
            superseded: CancellationToken::new(),
            stats: Arc::default(),
            backends: addresses.iter().map(stats).collect(),
            route: Route {
                id: 1,
                key: RouteId {
                    port: 443,
                    hostname: "a.example".parse().unwrap(),
                },
                backends: addresses,
                engine: None,
                enabled: true,
                send_proxy: false,
                connect_timeout: None,
                idle_timeout: None,
                max_age: None,
                max_connections: None,
                l7: Some(Box::new(l7)),
            },
        }
    }

    fn eject(route: &LiveRoute, backend: usize) {
        for _ in 0..state::EJECT_AFTER {
            route.failed(&route.backends[backend], "backend_refused");
        }
    }

    fn take_down(route: &LiveRoute, backend: usize) {
        let health = &route.backends[backend].health;
        let watch = health.watch();
        for _ in 0..state::FALL {
            health.checked(watch, Err("timeout".into()));
        }
    }

    /// The last byte of the picked one's address.
    fn picked(route: &LiveRoute, tried: &[SocketAddr], most: u64) -> Result<u8, Unavailable> {
        let picked = route.pick(tried, most)?;
        let SocketAddr::V4(address) = picked.address else {
            unreachable!()
        };
        Ok(address.ip().octets()[3])
    }

    #[test]
    fn least_connections_with_rotation_and_exclusion() {
        let route = route(3, SLOW_START);
        let addresses = &route.route.backends;
        assert_eq!(picked(&route, &[], ALL), Ok(1), "all idle: the first");
        route.stats.turn.store(2, Relaxed);
        assert_eq!(picked(&route, &[], ALL), Ok(3), "all idle: in turn");
        route.backends[1].active.store(2, Relaxed);
        route.backends[2].active.store(1, Relaxed);
        assert_eq!(picked(&route, &[], ALL), Ok(1), "fewest connections");
        let tried = &addresses[..1];
        assert_eq!(picked(&route, tried, ALL), Ok(3), "not what was tried");
        assert_eq!(picked(&route, addresses, ALL), Err(Unavailable::Down));
    }

    /// Whatever counts as what: a connection of one request, of many, or none.
    #[test]
    fn idle_backends_take_turns() {
        for backends in [2, 3] {
            let route = route(backends, SLOW_START);
            let mut taken = vec![0; usize::from(backends)];
            for _ in 0..10 * backends {
                route.stats.connections.fetch_add(1, Relaxed);
                route.stats.http.requests.fetch_add(1, Relaxed);
                let first = route.take(&[], ALL).unwrap();
                let address = first.of().0.address;
                taken[route
                    .route
                    .backends
                    .iter()
                    .position(|b| *b == address)
                    .unwrap()] += 1;
                let second = route.take(&[address], ALL).unwrap();
                assert_ne!(second.of().0.address, address, "a further attempt");
            }
            assert_eq!(taken, vec![10; usize::from(backends)]);
        }
    }

    #[test]
    fn a_full_backend_gives_way_to_one_with_room() {
        let route = route(2, SLOW_START);
        let held: Vec<_> = (0..4).map(|_| route.take(&[], 2).unwrap()).collect();
        for backend in &route.backends {
            assert_eq!(backend.active.load(Relaxed), 2, "{}", backend.address);
        }
        assert_eq!(route.take(&[], 2).err(), Some(Unavailable::Full));
        drop(held);
        // The one with the fewest is full where the other, ejected, is not.
        eject(&route, 0);
        let _held = route.take(&[], 1).unwrap();
        assert_eq!(picked(&route, &[], 1), Ok(1), "rather than none");
    }

    #[test]
    fn what_is_down_is_not_used_and_what_is_ejected_only_if_need_be() {
        let route = route(4, SLOW_START);
        eject(&route, 0);
        eject(&route, 1);
        eject(&route, 2);
        let ejected =
            |n: usize| route.backends[n].health.standing(now, Duration::ZERO) == Standing::Ejected;
        assert!(ejected(0) && ejected(1) && !ejected(2), "at most half");
        route.backends[2].active.store(7, Relaxed);
        route.backends[3].active.store(6, Relaxed);
        assert_eq!(picked(&route, &[], ALL), Ok(4), "ejected ones are idle");
        take_down(&route, 2);
        take_down(&route, 3);
        assert_eq!(picked(&route, &[], ALL), Ok(1), "better than none");
        take_down(&route, 0);
        take_down(&route, 1);
        assert_eq!(picked(&route, &[], ALL), Err(Unavailable::Down));
    }

    #[test]
    fn a_lone_backend_is_never_ejected() {
        let route = route(1, SLOW_START);
        eject(&route, 0);
        eject(&route, 0);
        assert_eq!(route.backends[0].health.ejections.load(Relaxed), 0);
        assert_eq!(route.backends[0].failures.load(Relaxed), 10);
        assert_eq!(picked(&route, &[], ALL), Ok(1));
    }

    #[test]
    fn one_that_comes_back_begins_with_little() {
        // So long that its share is the first one throughout.
        let route = route(2, Duration::from_secs(1_000_000));
        let health = &route.backends[1].health;
        take_down(&route, 1);
        let watch = health.watch();
        for result in [
            Err("x".into()),
            Err("x".into()),
            Err("x".into()),
            Ok(()),
            Ok(()),
        ] {
            health.checked(watch, result);
        }
        let count = |route: &LiveRoute| {
            let turns = (0..1000).filter(|turn| {
                route.stats.turn.store(*turn, Relaxed);
                picked(route, &[], ALL) == Ok(2)
            });
            turns.count()
        };
        // A twentieth of its half.
        assert!((20..=30).contains(&count(&route)), "{}", count(&route));
        route.backends[0].active.store(19, Relaxed);
        route.backends[1].active.store(1, Relaxed);
        assert_eq!(count(&route), 0, "busy: a twentieth of what others carry");
        route.backends[0].active.store(21, Relaxed);
        assert_eq!(count(&route), 1000);
    }

    #[test]
    fn turns_are_as_many_as_the_share() {
        for share in [50, 333, 500, 999, WHOLE] {
            let turns = (0..10_000).filter(|turn| !out_of_turn(*turn, share));
            let expected = 10 * share as usize;
            let count = turns.count();
            assert!(count.abs_diff(expected) <= 20, "{count} for {expected}");
        }
    }
}
