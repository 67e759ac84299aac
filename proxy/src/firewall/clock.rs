//! The program's clock, and the wall clock beside it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_getres, clock_gettime},
};

use crate::spec::Rule;

/// What time it is to people: [`SystemTime::now`], or a test's.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The program's clock (`bpf_ktime_get_coarse_ns`): `CLOCK_MONOTONIC` as of the last tick, which no hardware has to be
/// asked for.
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;

/// Now on the program's clock, ns.
#[must_use]
pub fn ktime() -> u64 {
    nanoseconds(clock_gettime(CLOCK))
}

/// How long the program's clock stands still, ns.
pub(super) fn tick() -> u64 {
    nanoseconds(clock_getres(CLOCK))
}

fn nanoseconds(time: nix::Result<TimeSpec>) -> u64 {
    let time = Duration::from(time.unwrap_or(TimeSpec::new(0, 0)));
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A ban's end on the program's clock, converted by the wall clock. No clock makes a ban longer than it was when it was
/// made: before that it cannot be.
pub(super) fn end_of(rule: &Rule, now: SystemTime) -> u64 {
    let Some(end) = rule.expires else {
        return u64::MAX;
    };
    let ns = |by: Duration| u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    match end.duration_since(now.max(rule.created)) {
        Ok(left) => ktime().saturating_add(ns(left)),
        Err(over) => ktime().saturating_sub(ns(over.duration())),
    }
}
