//! `cargo xtask bench edge`: mc-proxy (each engine, and its L7 routes) beside HAProxy and nginx, its firewall beside xdp-filter and
//! an empty program.
//!
//! Three namespaces, client - node - server, joined by veth, all on this machine's cores: both sides of every comparison
//! pay for the generator and the backend alike, so ratios carry over to other machines and absolute figures do not.
//! Peers are measured in interleaved rounds (A B C A B C …) and the median counts, so that a neighbour's burst does not fall on one
//! of them. The generator of the L4 rows speaks a real post-quantum ClientHello and then plain bytes: an L4 relay never sees more of TLS, and
//! cryptography would only dilute what is measured. Rejected: `wrk`/`iperf3` (no SNI without TLS, no hold of 10,000
//! idle connections), and cgroup or per-process CPU (blind to what sockmap and splice do in softirqs and kworkers).

mod backend;
mod l7;
mod load;
mod meter;
mod net;
mod relay;
mod socket;
mod subject;
mod xdp;

use std::{env, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(super) use self::meter::memory;
use super::Row;
use crate::setup::{self, Need};

/// Descriptors of this process and its children: 10,000 idle connections are 20,000 here and 20,000 in a relay.
const DESCRIPTORS: u64 = 32_768;
/// Descriptors left for anything but relayed connections, where [`DESCRIPTORS`] cannot be had.
const SPARE_DESCRIPTORS: u64 = 400;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A smoke run: one short round, 500 idle connections; its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only one part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Only these, e.g. `copy,haproxy` or `l7,haproxy`; rows without both sides are left out
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<String>,
    /// Only these of the relays' and the L7 routes' measurements
    #[arg(long, value_enum, value_delimiter = ',')]
    measure: Vec<Measurement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// L4: relays
    Relay,
    /// L7: TLS and HTTP
    L7,
    /// XDP: firewalls, and GeoIP loading
    Xdp,
}

/// What is measured in a round; each gives one or more figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
enum Measurement {
    /// Memory of connections that do nothing
    Idle,
    /// Throughput
    Bulk,
    /// 200 bytes there and back
    Requests,
    /// New connections
    Connections,
    /// Requests, HTTP/1.1
    #[value(name = "l7.h1.small")]
    H1Small,
    /// Requests, HTTP/2
    #[value(name = "l7.h2.small")]
    H2Small,
    /// Requests, HTTP/2, many at once on each connection
    #[value(name = "l7.h2.streams")]
    H2Streams,
    /// Downloads, HTTP/1.1
    #[value(name = "l7.h1.1mib")]
    H1Mib,
    /// Downloads, HTTP/2
    #[value(name = "l7.h2.1mib")]
    H2Mib,
    /// New connections without a ticket
    #[value(name = "l7.handshake.full")]
    Full,
    /// New connections with a ticket
    #[value(name = "l7.handshake.resumed")]
    Resumed,
    /// Latency at half of HAProxy's rate, HTTP/1.1
    #[value(name = "l7.p99.h1")]
    H1P99,
    /// Latency at half of HAProxy's rate, HTTP/2
    #[value(name = "l7.p99.h2")]
    H2P99,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    /// Not counted: connections, caches and allocators settle.
    warm_up: Duration,
    window: Duration,
    idle: usize,
    routes: usize,
    /// Runs of a packet through an XDP program.
    repeat: u32,
    l7_rounds: usize,
    l7_window: Duration,
}

impl Plan {
    fn new(quick: bool) -> Self {
        let ms = Duration::from_millis;
        if quick {
            Self {
                rounds: 1,
                warm_up: ms(50),
                window: ms(200),
                idle: 500,
                routes: 1000,
                repeat: 10_000,
                l7_rounds: 1,
                l7_window: ms(500),
            }
        } else {
            Self {
                rounds: 9,
                warm_up: ms(150),
                window: ms(600),
                idle: 10_000,
                routes: 10_000,
                repeat: 1_000_000,
                l7_rounds: 5,
                l7_window: ms(1500),
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Vec<Row>> {
    setup::ensure(&[Need::Build, Need::Run, Need::Bench])?;
    let mut plan = Plan::new(args.quick);
    plan.idle = plan.idle.min(connections_allowed()?);
    let mut rows = Vec::new();
    let wanted = |part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Relay) {
        rows.extend(relay::run(plan, &args.subjects, &args.measure)?);
    }
    if wanted(Part::L7) {
        rows.extend(l7::run(plan, &args.subjects, &args.measure)?);
    }
    if wanted(Part::Xdp) {
        rows.extend(xdp::run(plan)?);
    }
    Ok(rows)
}

/// Raises the limit of open files, and says how many relayed connections it allows.
fn connections_allowed() -> Result<usize> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    let limit = match setrlimit(
        Resource::RLIMIT_NOFILE,
        hard.max(DESCRIPTORS),
        hard.max(DESCRIPTORS),
    ) {
        Ok(()) => hard.max(DESCRIPTORS),
        // Without CAP_SYS_RESOURCE: as far as one may.
        Err(_) => setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .map(|()| hard)
            .context("cannot raise the number of open files; run as root")?,
    };
    let allowed = limit.saturating_sub(SPARE_DESCRIPTORS) / 2;
    usize::try_from(allowed).context("the limit of open files")
}

/// `cargo build --release <what>` with the cargo that runs us.
pub(super) fn build(what: &[&str]) -> Result<()> {
    eprintln!("building {} (release)", what.join(" "));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release"])
        .args(what)
        .current_dir(crate::workspace())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build --release {} failed ({status})", what.join(" "));
    }
    Ok(())
}

/// First line of what `program` says of its version: some write it to stderr.
fn version(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("cannot run {program}; `cargo xtask setup` installs it"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (what, values, want) in [
            ("none", vec![], None),
            ("one", vec![3.0], Some(3.0)),
            ("odd, unsorted", vec![9.0, 1.0, 5.0], Some(5.0)),
            ("even", vec![4.0, 1.0, 2.0, 9.0], Some(3.0)),
        ] {
            assert_eq!(median(values), want, "{what}");
        }
    }
}
