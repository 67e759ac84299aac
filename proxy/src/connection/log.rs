//! Log lines about connections. Counters count all; of these there are so many per second at most.

use std::{fmt, net::SocketAddr, num::NonZeroU32};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::{router::LiveRoute, spec::RouteId};

const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Bounds the lines of one kind.
#[derive(Debug)]
pub struct Sampled(DefaultDirectRateLimiter);

impl Default for Sampled {
    fn default() -> Self {
        Self(RateLimiter::direct(Quota::per_second(PER_SECOND)))
    }
}

impl Sampled {
    /// Whether there may be another.
    pub(crate) fn next(&self) -> bool {
        self.0.check().is_ok()
    }

    /// A connection to a backend that failed.
    pub(crate) fn failed(&self, route: &LiveRoute, backend: SocketAddr, error: &dyn fmt::Display) {
        if self.next() {
            let RouteId { hostname, port } = &route.route.key;
            tracing::warn!(route = %hostname, port, %backend, %error, "a backend failed");
        }
    }
}
