//! Threads that serve connections: one per core, each with a single-threaded runtime of its own.
//!
//! A connection stays on one thread, so that its two sockets, its task and its timers never cross
//! cores and no wake-up costs a futex. All threads accept from one listening socket: whoever is free takes the next
//! connection, and hands it on at once if it serves far more than another does ([`Worker::relief`]): two busy connections
//! on one core would leave the other idle for as long as they last. Rejected: tokio's work-stealing runtime (fewer connections and requests per second on this path, see
//! `bench edge`); a socket per thread with SO_REUSEPORT (a connection waits for a busy thread while another idles, and
//! a second daemon could share the port unnoticed).

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::stats::Gauge;

/// More than this share one listening socket badly: every one of them is woken for a connection.
const MAX_WORKERS: usize = 32;

/// Descriptors that a worker needs for itself: its runtime's, and of each of a handful of listeners a socket and a connection
/// that waits for its turn.
pub const DESCRIPTORS: u64 = 16;

/// How often an idle worker wakes, and closes idle connections to backends. A runtime's timer that is due before any other
/// costs a write to its wake-up descriptor and a turn of its loop; with one that is always sooner than the timeouts of a new
/// connection, none of these is.
const TICK: Duration = Duration::from_secs(1);

/// How many there are: one per core that the process may use.
#[must_use]
pub fn count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(MAX_WORKERS)
}

/// A thread as those who give it work see it.
#[derive(Debug)]
pub struct Worker {
    /// Where to spawn.
    pub runtime: Handle,
    /// Connections that it serves now.
    pub connections: Gauge,
}

impl Worker {
    fn load(&self) -> u64 {
        self.connections.0.load(Relaxed)
    }

    /// The worker of `all` that should serve a connection which `self` accepted, unless that is `self`: the one with the
    /// fewest, if `self` has more than half as many again.
    #[must_use]
    pub fn relief<'a>(&self, all: &'a [Self]) -> Option<&'a Self> {
        let idlest = all.iter().min_by_key(|w| w.load())?;
        let fewest = idlest.load();
        (self.load() > fewest + fewest / 2).then_some(idlest)
    }
}

/// The threads; they end when this is dropped, and what still runs on them is dropped with them.
#[derive(Debug)]
pub struct Workers {
    all: Arc<[Worker]>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: CancellationToken,
}

impl Workers {
    /// [`count`] of them.
    ///
    /// # Errors
    /// If the system refuses a thread or an epoll descriptor.
    pub fn start() -> io::Result<Self> {
        let mut workers = Self {
            all: Arc::new([]),
            threads: Vec::new(),
            stop: CancellationToken::new(),
        };
        let mut all = Vec::new();
        for number in 0..count() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            all.push(Worker {
                runtime: runtime.handle().clone(),
                connections: Gauge::default(),
            });
            let stop = workers.stop.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(stop.run_until_cancelled(tick()));
                })?;
            workers.threads.push(thread);
        }
        workers.all = all.into();
        Ok(workers)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &Arc<[Worker]> {
        &self.all
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
        for thread in self.threads.drain(..) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
