//! What has been done, and what went wrong.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use serde::Serialize;

/// Failures that are shown; all are counted.
const SHOWN: usize = 8;

pub(crate) struct Tally {
    begun: Instant,
    work: Mutex<BTreeMap<&'static str, u64>>,
    refused: AtomicU64,
    reset: AtomicU64,
    failed: AtomicU64,
    first: Mutex<Vec<String>>,
}

/// A line of the output.
#[derive(Serialize)]
pub(crate) struct Report {
    seconds: f64,
    /// By kind.
    done: BTreeMap<&'static str, u64>,
    refused: u64,
    reset: u64,
    failed: u64,
    first: Vec<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            work: Mutex::default(),
            refused: AtomicU64::default(),
            reset: AtomicU64::default(),
            failed: AtomicU64::default(),
            first: Mutex::default(),
        }
    }

    pub(crate) fn done(&self, what: &'static str) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        *work.entry(what).or_default() += 1;
    }

    /// Counts its failure; says whether there was none.
    pub(crate) fn note(&self, what: &'static str, result: anyhow::Result<()>) -> bool {
        let Err(error) = result else {
            return true;
        };
        let kind = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
        let counter = match kind {
            Some(io::ErrorKind::ConnectionRefused) => &self.refused,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => &self.reset,
            _ => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < SHOWN {
            let at = self.begun.elapsed().as_secs_f64();
            first.push(format!("{at:.1} s: {what}: {error:#}"));
        }
        false
    }

    pub(crate) fn report(&self) -> Report {
        let lock = |first: &Mutex<Vec<String>>| {
            first.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        Report {
            seconds: self.begun.elapsed().as_secs_f64(),
            done: self
                .work
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            refused: self.refused.load(Relaxed),
            reset: self.reset.load(Relaxed),
            failed: self.failed.load(Relaxed),
            first: lock(&self.first),
        }
    }
}
