//! Requests that an HTTP/2 client takes back before they are answered (CVE-2023-44487, "rapid reset").
//!
//! h2 bounds those that were reset before hyper saw them. A client that waits until then costs a backend a request, and often a connection,
//! for each pair of frames, and its limit on streams never holds it back. So a connection may take back only so many more than are
//! answered, and one more each second; then it ends with GOAWAY. What it waits for is still answered, so that a browser that cancels a lot
//! loses nothing; further requests are refused, since a client may ignore GOAWAY.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::exchange::End;

/// Requests that may be taken back in a row. A browser that leaves a page cancels all its streams: twice that of the default limit.
pub(super) const MOST: u32 = 256;
/// What one costs, where a call whose time is over costs one: its client said when, and its backend may be at it still.
const TAKEN_BACK: u32 = 4;
const EXPIRED: u32 = 1;

/// The account of a connection.
#[derive(Debug)]
pub(super) struct Resets {
    spent: AtomicU32,
    began: Instant,
    /// Of the seconds since then, those that were paid back.
    repaid: AtomicU64,
    exceeded: CancellationToken,
    /// Of the connection.
    requests: TaskTracker,
}

/// A request that is not answered yet.
pub(super) struct Pending(Option<Arc<Resets>>);

impl Resets {
    /// `requests` is closed when it is too much: none begins then.
    pub(super) fn new(requests: TaskTracker) -> Self {
        Self {
            spent: AtomicU32::new(0),
            began: Instant::now(),
            repaid: AtomicU64::new(0),
            exceeded: CancellationToken::new(),
            requests,
        }
    }

    /// A request begins.
    pub(super) fn pending(self: &Arc<Self>) -> Pending {
        Pending(Some(Arc::clone(self)))
    }

    /// Returns when it is too much.
    pub(super) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }

    fn spend(&self, cost: u32) {
        let now = self.began.elapsed().as_secs();
        let passed = now.saturating_sub(self.repaid.fetch_max(now, Relaxed));
        self.repay(u32::try_from(passed).map_or(u32::MAX, |s| s.saturating_mul(TAKEN_BACK)));
        if self.spent.fetch_add(cost, Relaxed) + cost > MOST * TAKEN_BACK {
            self.requests.close();
            self.exceeded.cancel();
        }
    }

    fn repay(&self, units: u32) {
        let less = |spent: u32| (spent > 0).then(|| spent.saturating_sub(units));
        // Fails only if nothing is owed.
        let _ = self.spent.fetch_update(Relaxed, Relaxed, less);
    }
}

impl Pending {
    /// Its client can no longer take it back.
    pub(super) fn ended(mut self, end: End) {
        let Some(resets) = self.0.take() else {
            return;
        };
        match end {
            End::Answered => resets.repay(TAKEN_BACK),
            // It cost nothing, and pays for nothing.
            End::Refused => {}
            End::Expired => resets.spend(EXPIRED),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(resets) = &self.0 {
            resets.spend(TAKEN_BACK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_exceeds_the_answers_counts() {
        use End::{Answered, Expired, Refused};
        for (description, rounds, each, ends, seconds, exceeds) in [
            ("as many as allowed", MOST, 1, &[][..], 0, false),
            ("one more", MOST + 1, 1, &[], 0, true),
            ("as many answered", 10 * MOST, 1, &[Answered], 0, false),
            (
                "answered in advance pays nothing",
                MOST,
                1,
                &[Answered; 2],
                0,
                false,
            ),
            ("refusals pay for nothing", MOST + 1, 1, &[Refused], 0, true),
            ("refusals cost nothing", 10 * MOST, 0, &[Refused], 0, false),
            ("calls that expired", 4 * MOST, 0, &[Expired], 0, false),
            ("one more of these", 4 * MOST + 1, 0, &[Expired], 0, true),
            ("one each second", 10 * MOST, 1, &[], 1, false),
            ("two each second", 2 * MOST + 2, 2, &[], 1, true),
        ] {
            let resets = Arc::new(Resets::new(TaskTracker::new()));
            for _ in 0..rounds {
                for _ in 0..each {
                    drop(resets.pending());
                }
                for end in ends {
                    resets.pending().ended(*end);
                }
                advance(Duration::from_secs(seconds)).await;
            }
            assert_eq!(resets.exceeded.is_cancelled(), exceeds, "{description}");
            assert_eq!(resets.requests.is_closed(), exceeds, "{description}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_saved_is_bounded() {
        let resets = Arc::new(Resets::new(TaskTracker::new()));
        advance(Duration::from_secs(86_400)).await;
        for n in 0..=MOST {
            assert!(!resets.exceeded.is_cancelled(), "after {n}");
            drop(resets.pending());
        }
        assert!(resets.exceeded.is_cancelled());
    }
}
