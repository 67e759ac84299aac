//! Time, CPU and memory of a measurement.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Ticks per second in /proc, on every architecture that this runs on (USER_HZ).
const TICKS: f64 = 100.0;

/// A warm-up and then a window that counts.
pub(super) struct Window {
    begin: Instant,
    end: Instant,
    opened: Option<(Instant, f64)>,
}

/// What a window took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) seconds: f64,
    /// CPU seconds of the whole machine.
    pub(super) busy: f64,
}

/// Where in a window one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    /// The first look at the open window: counters begin at zero now.
    Opens,
    Open,
    Over,
}

impl Window {
    pub(super) fn new(warm_up: Duration, window: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self {
            begin,
            end: begin + window,
            opened: None,
        }
    }

    pub(super) fn phase(&mut self, now: Instant) -> Result<Phase> {
        Ok(match self.opened {
            None if now < self.begin => Phase::WarmUp,
            None => {
                self.opened = Some((now, busy()?));
                Phase::Opens
            }
            Some(_) if now < self.end => Phase::Open,
            Some(_) => Phase::Over,
        })
    }

    pub(super) fn took(&self) -> Result<Took> {
        let (start, before) = self.opened.context("the window never opened")?;
        Ok(Took {
            seconds: start.elapsed().as_secs_f64(),
            busy: busy()? - before,
        })
    }
}

/// CPU seconds that the machine has worked since boot, softirqs and kernel threads included.
fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_of(&text).context("/proc/stat has no CPU line")
}

/// All columns but idle, iowait and steal (proc_stat(5)); guest time is within user time.
fn busy_of(text: &str) -> Option<f64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .map(|&column| ticks.get(column))
        .sum::<Option<f64>>()?;
    Some(busy / TICKS)
}

/// Memory of processes in bytes: private pages and their share of shared ones. Sockets' memory is the kernel's, and alike for all.
pub(in crate::bench) fn memory(pids: &[u32]) -> Result<f64> {
    let mut total = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        total += kib.with_context(|| format!("{path} has no Pss line"))? * 1024.0;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_iowait_and_steal_are_not_busy() {
        let text = "cpu  100 20 300 9999 8888 40 50 7777 10 0\ncpu0 1 2 3\n";
        assert_eq!(busy_of(text), Some(5.1));
        assert_eq!(busy_of("intr 5\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(memory(&[std::process::id()]).unwrap() > 0.0);
    }
}
