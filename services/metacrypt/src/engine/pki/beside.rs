//! What takes a processor for a while: beside the threads of requests and those of the database, as much at once as there are cores.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use mcdsl::db::StoreError;
use tokio::sync::Semaphore;

use crate::engine::EngineError;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(cores))
});

/// Does it; `held` is dropped behind it: what holds the seal open.
///
/// # Errors
/// Those of `work`.
pub(super) async fn beside<H: Send + 'static, T: Send + 'static>(
    held: H,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    #[cfg(test)]
    let waiting = Waiting::new();
    // It is never closed.
    let turn = Arc::clone(&TURNS).acquire_owned().await;
    #[cfg(test)]
    drop(waiting);
    let turn = turn.map_err(|_| EngineError::Busy)?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop((held, turn));
        done
    });
    done.await.map_err(|_| StoreError::Thread)?
}

#[cfg(test)]
static WAITING: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Counts who waits for a turn.
#[cfg(test)]
struct Waiting;

#[cfg(test)]
impl Waiting {
    fn new() -> Self {
        WAITING.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Self
    }
}

#[cfg(test)]
impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Whether somebody waits.
#[cfg(test)]
pub(super) fn waits() -> bool {
    WAITING.load(std::sync::atomic::Ordering::SeqCst) > 0
}

/// All turns: nobody else has one while they are held.
#[cfg(test)]
pub(super) async fn all() -> tokio::sync::OwnedSemaphorePermit {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let all = u32::try_from(cores).unwrap();
    Arc::clone(&TURNS).acquire_many_owned(all).await.unwrap()
}
