//! The L7 part: mc-proxy, HAProxy and nginx terminate TLS 1.3 with one ECDSA P-256 certificate before the same backend, an nginx
//! that answers from memory.
//!
//! Requests are h2load's, which h1 and h2 share; new connections are made by `proxy/examples/tls_load`, since h2load resumes
//! no session. Latency is measured at a fixed rate, the same for all: half of what HAProxy did in this run. At full load a queue
//! would be measured, and each relay's at another rate.

mod h2load;
mod handshakes;
mod subject;

use std::collections::HashMap;

use anyhow::{Context, Result};

use self::{
    h2load::{Load, Version},
    handshakes::Tickets,
};
use super::{
    Measurement, Plan, build, median,
    net::Net,
    subject::{HOSTNAME, Subject},
};
use crate::bench::{Better, Row};

/// Connections with a request under way.
const CLIENTS: usize = 32;
/// Requests under way on each of them, where there are many.
const STREAMS: usize = 16;
/// Windows of a latency in a round: where in each other's 10 ms h2load's clients ask is another in each of them, and so is what else
/// the machine does; a tail shows both.
const LATENCY_WINDOWS: usize = 12;
/// Windows of a rate in a round: on a machine that others share, one differs from the next by a fifth.
const RATE_WINDOWS: usize = 4;
/// Bytes of a large body.
const MEBIBYTE: f64 = 1_048_576.0;
/// Bits of a Gbit.
const GIGA: f64 = 1e9;

/// In this order in a round.
const MEASUREMENTS: [Measurement; 9] = [
    Measurement::H1Small,
    Measurement::H2Small,
    Measurement::H2Streams,
    Measurement::H1Mib,
    Measurement::H2Mib,
    Measurement::Full,
    Measurement::Resumed,
    Measurement::H1P99,
    Measurement::H2P99,
];

type Samples = HashMap<(&'static str, Measurement), Vec<f64>>;

struct Bench<'a> {
    plan: Plan,
    net: &'a Net,
    subjects: Vec<Subject>,
    /// Requests per second of the latencies' loads.
    rates: HashMap<Version, f64>,
    samples: Samples,
}

/// All rows of the L7 part.
pub(super) fn run(plan: Plan, only: &[String], measure: &[Measurement]) -> Result<Vec<Row>> {
    let wanted = |key: &str| only.is_empty() || only.iter().any(|name| name == key);
    let measured = |what: &Measurement| measure.is_empty() || measure.contains(what);
    let measurements: Vec<Measurement> = MEASUREMENTS.into_iter().filter(measured).collect();
    if measurements.is_empty() {
        return Ok(Vec::new());
    }
    build(&[
        "--package",
        "mc-proxy",
        "--bin",
        "mc-proxy",
        "--example",
        "tls_load",
    ])?;
    let directory = tempfile::Builder::new()
        .prefix("mc-bench-l7-")
        .tempdir()
        .context("cannot make a directory")?;
    let net = Net::new()?;
    let _backend = subject::backend(&net, directory.path())?;
    let subjects = subject::start(&net, directory.path(), &wanted)?;
    let mut bench = Bench {
        plan,
        net: &net,
        subjects,
        rates: HashMap::new(),
        samples: Samples::new(),
    };
    for round in 1..=plan.l7_rounds {
        for &measurement in &measurements {
            let (name, unit, _) = describe(measurement);
            eprintln!("round {round} of {}: {name} ({unit})", plan.l7_rounds);
            let windows = match measurement {
                Measurement::H1P99 | Measurement::H2P99 => LATENCY_WINDOWS,
                _ => RATE_WINDOWS,
            };
            for _ in 0..windows {
                bench.turn(measurement)?;
            }
        }
    }
    Ok(bench.rows())
}

fn describe(measurement: Measurement) -> (&'static str, &'static str, Better) {
    match measurement {
        Measurement::H1Small => ("l7.h1.small", "1/s", Better::Higher),
        Measurement::H2Small => ("l7.h2.small", "1/s", Better::Higher),
        Measurement::H2Streams => ("l7.h2.streams", "1/s", Better::Higher),
        Measurement::H1Mib => ("l7.h1.1mib", "Gbit/s", Better::Higher),
        Measurement::H2Mib => ("l7.h2.1mib", "Gbit/s", Better::Higher),
        Measurement::Full => ("l7.handshake.full", "1/s", Better::Higher),
        Measurement::Resumed => ("l7.handshake.resumed", "1/s", Better::Higher),
        Measurement::H1P99 => ("l7.p99.h1", "us", Better::Lower),
        Measurement::H2P99 => ("l7.p99.h2", "us", Better::Lower),
        Measurement::Idle
        | Measurement::Bulk
        | Measurement::Requests
        | Measurement::Connections => ("l4", "", Better::Higher),
    }
}

impl Bench<'_> {
    /// Each subject once; next time in the opposite order, since the second finds the machine as the first left it.
    fn turn(&mut self, measurement: Measurement) -> Result<()> {
        self.subjects.reverse();
        for subject in self.subjects.clone() {
            let value = self
                .measure(&subject, measurement)
                .with_context(|| format!("{} of {}", describe(measurement).0, subject.title))?;
            eprintln!("  {:<12} {value:.1}", subject.key);
            let samples = self.samples.entry((subject.key, measurement)).or_default();
            samples.push(value);
        }
        Ok(())
    }

    fn measure(&mut self, subject: &Subject, measurement: Measurement) -> Result<f64> {
        let small = |version| self.load(subject, version);
        Ok(match measurement {
            Measurement::H1Small => small(Version::H1).run()?.per_second,
            Measurement::H2Small => small(Version::H2).run()?.per_second,
            Measurement::H2Streams => {
                let streams = STREAMS;
                let load = Load {
                    streams,
                    ..small(Version::H2)
                };
                load.run()?.per_second
            }
            Measurement::H1Mib => self.large(subject, Version::H1)?,
            Measurement::H2Mib => self.large(subject, Version::H2)?,
            Measurement::Full => self.handshakes(subject, Tickets::Unused)?,
            Measurement::Resumed => self.handshakes(subject, Tickets::Used)?,
            Measurement::H1P99 => self.latency(subject, Version::H1)?,
            Measurement::H2P99 => self.latency(subject, Version::H2)?,
            Measurement::Idle
            | Measurement::Bulk
            | Measurement::Requests
            | Measurement::Connections => f64::NAN,
        })
    }

    fn load(&self, subject: &Subject, version: Version) -> Load<'_> {
        Load {
            client: &self.net.client,
            address: subject.address,
            host: HOSTNAME,
            path: subject::SMALL,
            version,
            clients: CLIENTS,
            streams: 1,
            window: self.plan.l7_window,
        }
    }

    fn large(&self, subject: &Subject, version: Version) -> Result<f64> {
        let path = subject::LARGE;
        let load = Load {
            path,
            ..self.load(subject, version)
        };
        Ok(load.run()?.per_second * MEBIBYTE * 8.0 / GIGA)
    }

    fn handshakes(&self, subject: &Subject, tickets: Tickets) -> Result<f64> {
        let window = self.plan.l7_window;
        handshakes::run(&self.net.client, subject.address, tickets, window)
    }

    fn latency(&mut self, subject: &Subject, version: Version) -> Result<f64> {
        let rate = match self.rates.get(&version) {
            Some(&rate) => rate,
            None => {
                let rate = self.half_load(version)?;
                self.rates.insert(version, rate);
                rate
            }
        };
        self.load(subject, version).p99(rate)
    }

    /// Half of what HAProxy can do, or whoever is first where it is left out.
    fn half_load(&self, version: Version) -> Result<f64> {
        let haproxy = self.subjects.iter().find(|s| s.key == "haproxy");
        let subject = haproxy
            .or(self.subjects.first())
            .context("nothing is measured")?;
        let rate = self.load(subject, version).run()?.per_second / 2.0;
        eprintln!(
            "  at {rate:.0} requests per second, half of {}",
            subject.title
        );
        Ok(rate)
    }

    fn rows(&self) -> Vec<Row> {
        let value = |key, measurement| {
            let samples = self.samples.get(&(key, measurement))?;
            median(samples.clone())
        };
        let mut rows = Vec::new();
        for measurement in MEASUREMENTS {
            let (name, unit, better) = describe(measurement);
            let Some(ours) = value(subject::OURS, measurement) else {
                continue;
            };
            for peer in &self.subjects {
                if let Some(theirs) = value(peer.key, measurement)
                    && peer.key != subject::OURS
                {
                    rows.push(Row::alone(name, unit, ours, better).against(&peer.title, theirs));
                }
            }
        }
        rows
    }
}
