//! Threads that serve connections: one per core, each with a single-threaded runtime of its own.
//!
//! A connection stays on one thread (one of HTTP from its TLS on), so that its two sockets, its task and its timers never cross
//! cores and no wake-up costs a futex. All threads accept from one listening socket: whoever is free takes the next
//! connection, and hands it on at once if it serves far more than another does ([`place`]): two busy connections
//! on one core would leave the other idle for as long as they last. One that turns out to be HTTP is placed once more, evenly: of 32
//! clients one core had up to 19, and its requests waited for each other (p99). Rejected: tokio's work-stealing runtime (fewer connections and requests per second on this path, see
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
    /// Connections that it serves now.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.connections.0.load(Relaxed)
    }
}

/// How unlike the workers' loads may become before a connection is moved.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Half as many again: a move costs about as much as a short connection.
    Rough,
    /// One more: what a move costs is nothing beside a TLS handshake, and the requests of a connection share its core for as long as it lasts.
    Even,
}

/// Which of `all` should serve a connection that is on the worker `here` and not yet in its load: the one with the fewest, if `here` has too many more.
#[must_use]
pub fn place(all: &[Worker], here: usize, spread: Spread) -> usize {
    let loads = || all.iter().map(Worker::load).enumerate();
    let Some((idlest, fewest)) = loads().min_by_key(|&(_, load)| load) else {
        return here;
    };
    let most = match spread {
        Spread::Rough => fewest + fewest / 2,
        Spread::Even => fewest,
    };
    if all[here].load() > most {
        idlest
    } else {
        here
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

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(loads: &[u64]) -> (tokio::runtime::Runtime, Vec<Worker>) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let worker = |&load: &u64| {
            let connections = Gauge::default();
            connections.0.store(load, Relaxed);
            let runtime = runtime.handle().clone();
            Worker {
                runtime,
                connections,
            }
        };
        let all = loads.iter().map(worker).collect();
        (runtime, all)
    }

    #[test]
    fn a_connection_moves_to_the_idlest_if_it_would_have_too_much_company() {
        for (what, loads, here, rough, even) in [
            ("nobody else", &[9][..], 0, 0, 0),
            ("nothing to do", &[0, 0], 1, 1, 1),
            ("a second beside none", &[1, 0], 0, 1, 1),
            ("as many", &[8, 8], 0, 0, 0),
            ("one more", &[9, 8], 0, 0, 1),
            ("half as many again", &[12, 8], 0, 0, 1),
            ("more than that", &[13, 8], 0, 1, 1),
            ("fewer", &[8, 13], 0, 0, 0),
            ("the idlest of several", &[20, 9, 3, 8], 0, 2, 2),
        ] {
            let (_runtime, all) = workers(loads);
            assert_eq!(place(&all, here, Spread::Rough), rough, "{what}, roughly");
            assert_eq!(place(&all, here, Spread::Even), even, "{what}, evenly");
        }
    }
}
