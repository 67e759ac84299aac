//! Threads that serve connections: one per core, each with a single-threaded runtime of its own.
//!
//! A connection stays on the thread that accepted it, so that its two sockets, its task and its timers never cross
//! cores and no wake-up costs a futex. All threads accept from one listening socket: whoever is free takes the next
//! connection. Rejected: tokio's work-stealing runtime (fewer connections and requests per second on this path, see
//! `bench edge`); a socket per thread with SO_REUSEPORT (a connection waits for a busy thread while another idles, and
//! a second daemon could share the port unnoticed).

use std::{io, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// More than this share one listening socket badly: every one of them is woken for a connection.
const MAX_WORKERS: usize = 32;

/// Descriptors that a worker needs for itself: its runtime's, and of each of a handful of listeners a socket and a connection
/// that waits for its turn.
pub const DESCRIPTORS: u64 = 16;

/// How often an idle worker wakes, and closes idle connections to backends. A runtime's timer that is due before any other
/// costs a write to its wake-up descriptor and
/// a turn of its loop; with one that is always sooner than the timeouts of a new connection, none of these is.
const TICK: Duration = Duration::from_secs(1);

/// How many there are: one per core that the process may use.
#[must_use]
pub fn count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(MAX_WORKERS)
}

/// The threads; they end when this is dropped, and what still runs on them is dropped with them.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<(Handle, thread::JoinHandle<()>)>,
    stop: CancellationToken,
}

impl Workers {
    /// [`count`] of them.
    ///
    /// # Errors
    /// If the system refuses a thread or an epoll descriptor.
    pub fn start() -> io::Result<Self> {
        let mut workers = Self {
            threads: Vec::new(),
            stop: CancellationToken::new(),
        };
        for number in 0..count() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stop = workers.stop.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(stop.run_until_cancelled(tick()));
                })?;
            workers.threads.push((handle, thread));
        }
        Ok(workers)
    }

    /// Where to spawn: a runtime per thread.
    pub fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.threads.iter().map(|(handle, _)| handle)
    }
}

async fn tick() {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        crate::http::sweep();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
        for (_, thread) in self.threads.drain(..) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
