//! How many requests of a route may be sent again.
//!
//! A backend that fails under its load gets no better by each request coming three times. So retries draw from a budget: every request
//! pays a fifth of one in, and there is a reserve, for routes with few requests. What never left for a backend costs nothing: it adds
//! to no backend's load. It has no clock, as gRPC's (A6) and unlike Finagle's: a busy route fills it in seconds, and at one that is
//! not, the reserve alone is no load.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests that pay for one retry.
const PRICE: u64 = 5;
/// Retries that it holds at most, and at the start.
const RESERVE: u64 = 100;

/// The budget of a route, in requests that have paid in.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(RESERVE * PRICE))
    }
}

impl Budget {
    /// A request begins.
    pub fn pay_in(&self) {
        let more = |n: u64| (n < RESERVE * PRICE).then_some(n + 1);
        let _ = self.0.fetch_update(Relaxed, Relaxed, more);
    }

    /// Takes a retry; whether there was one.
    pub fn draw(&self) -> bool {
        let less = |n: u64| n.checked_sub(PRICE);
        self.0.fetch_update(Relaxed, Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_a_reserve() {
        for (description, requests, wanted) in [
            ("before any", 0, RESERVE),
            ("what is full takes no more", 1000, RESERVE),
        ] {
            let budget = Budget::default();
            (0..requests).for_each(|_| budget.pay_in());
            let drawn = (0..=wanted).take_while(|_| budget.draw()).count() as u64;
            assert_eq!(drawn, wanted, "{description}");
        }
        let budget = Budget::default();
        while budget.draw() {}
        let drawn = (0..1000).filter(|_| {
            budget.pay_in();
            budget.draw()
        });
        assert_eq!(drawn.count(), 200);
    }
}
