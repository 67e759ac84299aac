//! Requests that an HTTP/2 client takes back before they are answered (CVE-2023-44487, "rapid reset").
//!
//! h2 bounds those that were reset before hyper saw them. A client that waits until then costs a backend a request, and often a connection,
//! for each pair of frames, and its limit on streams never holds it back. So a connection may take back only so many more than are
//! answered; then it ends with GOAWAY. What it waits for is still answered, so that a browser that cancels a lot loses nothing;
//! further requests are not, since a client may ignore GOAWAY.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio_util::sync::CancellationToken;

/// Requests that may be taken back in a row. A browser that leaves a page cancels all its streams: twice that of the default limit.
pub(super) const MOST: u32 = 256;

/// The account of a connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    taken_back: AtomicU32,
    exceeded: CancellationToken,
}

/// A request that is not answered yet.
pub(super) struct Pending(Option<Arc<Resets>>);

impl Resets {
    /// A request begins; none does when it was too much.
    pub(super) async fn pending(self: &Arc<Self>) -> Pending {
        if self.exceeded.is_cancelled() {
            std::future::pending::<()>().await;
        }
        Pending(Some(Arc::clone(self)))
    }

    /// Returns when it is too much.
    pub(super) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }
}

impl Pending {
    /// Pays for one that was taken back.
    pub(super) fn answered(mut self) {
        if let Some(resets) = self.0.take() {
            let less = |n: u32| n.checked_sub(1);
            let _ = resets.taken_back.fetch_update(Relaxed, Relaxed, less);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(resets) = &self.0
            && resets.taken_back.fetch_add(1, Relaxed) >= MOST
        {
            resets.exceeded.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn only_what_exceeds_the_answers_counts() {
        for (description, rounds, answered, exceeds) in [
            ("as many as allowed", MOST, 0, false),
            ("one more", MOST + 1, 0, true),
            ("as many answered", 10 * MOST, 1, false),
            ("answered in advance pays nothing", MOST, 2, false),
        ] {
            let resets = Arc::new(Resets::default());
            let pending = || resets.pending().now_or_never().unwrap();
            for _ in 0..rounds {
                drop(pending());
                for _ in 0..answered {
                    pending().answered();
                }
            }
            assert_eq!(resets.exceeded.is_cancelled(), exceeds, "{description}");
            let further = resets.pending().now_or_never();
            assert_eq!(further.is_none(), exceeds, "{description}");
        }
    }
}
