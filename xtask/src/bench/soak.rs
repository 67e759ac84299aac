//! `cargo xtask bench soak`: mc-proxy at half of what it can do, replaced again and again, for as long as one likes. What fails or grows
//! meanwhile makes it exit with an error.
//!
//! The clients ([`proxy/examples/soak`]) are at both engines and at L7 routes over both versions of HTTP, with short connections, kept
//! ones, transfers whose sums are compared, and tunnels. Transfers are shorter than the drain deadline: a longer one may be cut.
//!
//! Memory is compared between daemons of the same age, just before each is replaced, as every one begins anew: a line is laid through
//! the second half of these, and its rise must not be more than [`GROWTH`]. The first half is for caches to fill. With few upgrades it is
//! laid through all samples.

mod samples;
mod world;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use self::{samples::Series, world::World};
use super::{Better, Row, edge};
use crate::setup::{self, Need};

/// Rise of the daemon's memory over the second half: of its mean, and at least so many MiB.
const GROWTH: (f64, f64) = (0.10, 4.0);
/// Descriptors that the second half may add: those of connections come and go.
const DESCRIPTORS: f64 = 64.0;
/// Seconds at full load, to know what half is.
const CALIBRATION: u64 = 3;
/// Between samples.
const PERIOD: Duration = Duration::from_secs(1);
/// Seconds of a transfer on a machine that keeps up. The world's drain deadline is many times that: one that is cut is a failure.
const TRANSFER: u64 = 15;

/// How long, and how often it is replaced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Between upgrades: seconds, `90s` or `2m`
    #[arg(long, default_value = "60s", value_parser = seconds)]
    upgrade_every: Duration,
}

/// A line of the clients'.
#[derive(Clone, Debug, Deserialize)]
struct Clients {
    seconds: f64,
    done: std::collections::BTreeMap<String, u64>,
    refused: u64,
    reset: u64,
    failed: u64,
    first: Vec<String>,
}

impl Clients {
    fn total(&self) -> u64 {
        self.done.values().sum()
    }
}

/// Rows, and what of them is not as it must be.
pub(crate) fn run(args: &Args) -> Result<(Vec<Row>, Vec<String>)> {
    setup::ensure(&[Need::Build, Need::Run])?;
    edge::build(&["--package", "mc-proxy", "--bins", "--example", "soak"])?;
    let world = World::new()?;
    let most = clients(&world.load(CALIBRATION, None, None)?.finish()?)?;
    let rate = most.total() as f64 / most.seconds / 2.0;
    eprintln!("half load: {rate:.0} requests and connections per second");

    let length = Duration::from_secs(60 * args.minutes);
    let mut load = world.load(length.as_secs(), Some(rate), Some(TRANSFER))?;
    let begun = Instant::now();
    let mut series = Series::default();
    let (mut upgrades, mut next) = (0_u32, args.upgrade_every);
    let mut complaints = Vec::new();
    while load.runs() && begun.elapsed() < length {
        thread::sleep(PERIOD);
        let sample = world.sample(begun.elapsed(), upgrades)?;
        if begun.elapsed() >= next {
            match world.upgrade() {
                Ok(()) => upgrades += 1,
                Err(error) => {
                    eprintln!("{error:#}\n{}", world.log());
                    complaints.push(format!("{error:#}"));
                }
            }
            next = begun.elapsed() + args.upgrade_every;
            let seen = clients(&load.output()).map(|c| (c.total(), c.refused + c.reset + c.failed));
            let (done, bad) = seen.unwrap_or_default();
            eprintln!(
                "{:>6.0} s: upgrade {upgrades}, {:.1} MiB and {} descriptors before it; {done} done, {bad} failed",
                begun.elapsed().as_secs_f64(),
                sample.memory,
                sample.descriptors,
            );
        }
        series.push(sample);
    }
    let said = clients(&load.finish()?)?;
    ensure!(said.total() > 0, "the clients did nothing: {said:?}");
    world.alone()?;
    complaints.extend(world.complaints()?);
    let (rows, more) = judge(&said, &series, upgrades);
    complaints.extend(more);
    Ok((rows, complaints))
}

/// The last line of the clients'.
fn clients(output: &str) -> Result<Clients> {
    let lines = output.lines().rev();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .next()
        .with_context(|| format!("the clients said:\n{output}"))
}

fn judge(said: &Clients, series: &Series, upgrades: u32) -> (Vec<Row>, Vec<String>) {
    let row = |name: &str, unit: &str, value: f64, better| {
        Row::alone(&format!("soak.{name}"), unit, value, better)
    };
    let mut rows = Vec::new();
    for (what, count) in &said.done {
        let name = format!("done.{}", what.replace(' ', "_"));
        rows.push(row(&name, "", *count as f64, Better::Higher));
    }
    rows.push(row("upgrades", "", f64::from(upgrades), Better::Higher));
    let mean = series.memory();
    let allowed = (mean * GROWTH.0).max(GROWTH.1);
    let mut complaints = said.first.clone();
    for (name, unit, value, bound) in [
        ("refused", "", said.refused as f64, 0.0),
        ("reset", "", said.reset as f64, 0.0),
        ("failed", "", said.failed as f64, 0.0),
        ("memory.growth", "MiB", series.growth(|s| s.memory), allowed),
        (
            "descriptors.growth",
            "",
            series.growth(|s| s.descriptors as f64),
            DESCRIPTORS,
        ),
    ] {
        rows.push(row(name, unit, value, Better::Lower).against("bound", bound));
        if value > bound {
            complaints.push(format!("soak.{name} is {value:.1}, more than {bound:.1}"));
        }
    }
    rows.push(row("memory.mean", "MiB", mean, Better::Lower));
    rows.push(row(
        "memory.rss_max",
        "MiB",
        series.max(|s| s.rss),
        Better::Lower,
    ));
    let all = series.max(|s| s.memory_of_all);
    rows.push(row("memory.with_draining_max", "MiB", all, Better::Lower));
    let daemons = series.max(|s| s.daemons as f64);
    rows.push(row("daemons_max", "", daemons, Better::Lower));
    let descriptors = series.max(|s| s.descriptors as f64);
    rows.push(row("descriptors_max", "", descriptors, Better::Lower));
    let fill = series.max(|s| s.fill);
    rows.push(row("map_fill_max", "%", fill, Better::Lower));
    (rows, complaints)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match digits.parse::<u64>() {
        Ok(n @ 1..) => Ok(Duration::from_secs(n * unit)),
        _ => Err(format!("{text:?} is no time such as 90s or 2m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("20s", Some(20)),
            ("90", Some(90)),
            ("2m", Some(120)),
            ("0s", None),
            ("soon", None),
        ] {
            assert_eq!(seconds(text).ok().map(|d| d.as_secs()), want, "{text}");
        }
    }

    #[test]
    fn the_last_whole_line_counts_and_failures_are_complaints() {
        let line = |failed| {
            format!(
                r#"{{"seconds":2.0,"done":{{"new":8}},"refused":0,"reset":0,"failed":{failed},"first":[]}}"#
            )
        };
        let said = clients(&format!("{}\n{}\n{{\"sec", line(0), line(3))).unwrap();
        assert_eq!((said.failed, said.total()), (3, 8));
        let (rows, complaints) = judge(&said, &Series::default(), 1);
        assert!(rows.iter().any(|row| row.name == "soak.failed"));
        assert_eq!(complaints, ["soak.failed is 3.0, more than 0.0"]);
    }
}
