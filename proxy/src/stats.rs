//! Live counters. Written on the connection path with relaxed atomics, read when scraped.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    health::{Health, budget::Budget},
    relay::Traffic,
    sources::Sources,
};

/// Counters by one label or several. Labels are static strings, so the map is bounded by the program text; or ports, so by the operator.
#[derive(Debug)]
pub struct Reasons<K = &'static str>(Mutex<BTreeMap<K, u64>>);

impl<K> Default for Reasons<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Reasons<K> {
    /// Counts one.
    pub fn count(&self, reason: K) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    /// A copy.
    pub fn snapshot(&self) -> BTreeMap<K, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Upper bounds of the buckets of [`Histogram`], in seconds: from a loopback connect to the longest timeout.
pub const BUCKETS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// A histogram of durations with fixed buckets. prometheus-client's takes a lock per observation.
#[derive(Debug, Default)]
pub struct Histogram {
    // The last counts what is above every bound.
    counts: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|b| seconds <= *b)
            .unwrap_or(BUCKETS.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }

    /// (sum in seconds, count, (upper bound, count in the bucket) per bucket; the last bound is `f64::INFINITY`).
    pub fn snapshot(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let buckets: Vec<_> = BUCKETS
            .iter()
            .copied()
            .chain([f64::INFINITY])
            .zip(self.counts.iter().map(|c| c.load(Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        (self.nanoseconds.load(Relaxed) as f64 / 1e9, count, buckets)
    }
}

/// Counters of an L7 route's requests.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Requests begun.
    pub requests: AtomicU64,
    /// Requests ended, by the first digit of their status; at 0 those without a response.
    pub classes: [AtomicU64; 6],
    /// ClientHello to the end of TLS's handshake.
    pub handshake: Histogram,
    /// Request to response headers.
    pub response: Histogram,
    /// What may be sent again.
    pub budget: Budget,
    /// Requests sent again that a backend may have seen.
    pub retries: AtomicU64,
    /// Those that were not, for want of budget.
    pub retries_denied: AtomicU64,
    /// Requests under way by client.
    pub clients: Arc<Sources>,
}

impl HttpStats {
    /// Counts the end of a request.
    pub fn count(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or(0) / 100);
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// Counters of a route. They belong to its key (port and hostname), so that replacing a route keeps them.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Connections that were routed here.
    pub connections: AtomicU64,
    /// Of these, open now.
    pub active: AtomicU64,
    /// Bytes moved.
    pub traffic: Arc<Traffic>,
    /// Connections that ended in an error.
    pub errors: Reasons,
    /// Connections by engine, and by why another than the asked one was used.
    pub engines: Reasons<(&'static str, &'static str)>,
    /// Accept to complete ClientHello.
    pub client_hello: Histogram,
    /// Connecting to a backend, failed attempts included.
    pub connect: Histogram,
    /// Requests, for an L7 route.
    pub http: HttpStats,
    /// Choices of a backend, for those that are equal to take turns.
    pub(crate) turn: AtomicU64,
    /// Held while one of its backends is ejected or not: how many may be depends on the others.
    pub(crate) ejecting: Mutex<()>,
}

/// Counters and health of one backend of one route.
#[derive(Debug)]
pub struct BackendStats {
    /// Its address.
    pub address: SocketAddr,
    /// Connections open now, of an L7 route requests under way: what least-connections compares.
    pub active: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Whether it lives.
    pub health: Health,
}

impl BackendStats {
    /// A backend that nothing was sent to yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            active: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            health: Health::default(),
        }
    }
}

/// Raises a gauge while it lives.
#[derive(Debug)]
pub struct Active<T: AsRef<AtomicU64>>(T);

impl<T: AsRef<AtomicU64>> Active<T> {
    /// Raises it by one.
    pub fn new(gauge: T) -> Self {
        gauge.as_ref().fetch_add(1, Relaxed);
        Self(gauge)
    }

    /// Raises it by one unless it stands at `limit`.
    pub fn below(gauge: T, limit: u64) -> Option<Self> {
        gauge
            .as_ref()
            .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1))
            .is_ok()
            .then(|| Self(gauge))
    }

    /// What it is the gauge of.
    pub fn of(&self) -> &T {
        &self.0
    }
}

impl<T: AsRef<AtomicU64>> Drop for Active<T> {
    fn drop(&mut self) {
        self.0.as_ref().fetch_sub(1, Relaxed);
    }
}

/// The `active` gauge of a route.
#[derive(Clone, Debug)]
pub struct RouteGauge(pub Arc<RouteStats>);

impl AsRef<AtomicU64> for RouteGauge {
    fn as_ref(&self) -> &AtomicU64 {
        &self.0.active
    }
}

/// The `active` gauge of a backend.
#[derive(Clone, Debug)]
pub struct BackendGauge(pub Arc<BackendStats>);

impl AsRef<AtomicU64> for BackendGauge {
    fn as_ref(&self) -> &AtomicU64 {
        &self.0.active
    }
}

/// A gauge of its own.
#[derive(Clone, Debug, Default)]
pub struct Gauge(pub Arc<AtomicU64>);

impl AsRef<AtomicU64> for Gauge {
    fn as_ref(&self) -> &AtomicU64 {
        &self.0
    }
}
