//! The firewall half of `cargo xtask bench edge`, which runs it in release and reads its JSON.
//!
//! An example of this crate and not part of xtask: it needs the daemon's own code to fill the tables and to load the
//! GeoIP database, compiled as the daemon is. Every figure is the CPU time of a `BPF_PROG_TEST_RUN` divided by its repetitions;
//! the kernel's own average is in whole nanoseconds, too coarse for programs that take a few dozen of them. The rounds of the
//! three programs are interleaved and the median counts. The repeated packet keeps its table entries in cache, for all of
//! them alike.
//!
//! xdp-filter is run as its `load` attaches it (libxdp leaves out the dispatcher where there is one program), by its pin, with its
//! IPv4 table full.

mod packet;
mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    TestRun, TestRunOptions, TestRunResult,
    programs::{SocketFilter, Xdp},
};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use tables::{Case, Peer, Tables};

/// Measurements of each program and case.
const ROUNDS: usize = 20;
/// Runs of a packet that the program rewrites, so that it cannot be repeated in one call.
const SINGLE_RUNS: usize = 2001;
/// `XDP_DROP` and `XDP_PASS` (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;

#[derive(Parser)]
enum Cli {
    /// Write a GeoIP database of the real size
    Mmdb {
        /// Where to
        file: PathBuf,
    },
    /// Measure
    Run {
        /// The GeoIP database
        #[arg(long)]
        mmdb: PathBuf,
        /// A directory on a bpffs, for this run
        #[arg(long)]
        pins: PathBuf,
        /// xdp-filter's pinned program
        #[arg(long)]
        filter: PathBuf,
        /// xdp-filter's pinned IPv4 map, holding one address
        #[arg(long)]
        filter_ipv4: PathBuf,
        /// Runs of a packet, all rounds together
        #[arg(long)]
        repeat: u32,
    },
}

/// A program that takes a packet.
trait Runs: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult> {}
impl Runs for Xdp {}
impl Runs for SocketFilter {}

/// ns per packet.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    ours: f64,
    /// xdp-filter doing the same kind of thing.
    filter: Option<f64>,
    empty: f64,
}

#[derive(Serialize)]
struct Report {
    packets: Vec<Figure>,
    geoip: tables::GeoIpLoad,
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Mmdb { file } => {
            let bytes = mc_testkit::mmdb::realistic(tables::NETWORKS_V4, tables::NETWORKS_V6, 1);
            fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
        }
        Cli::Run {
            mmdb,
            pins,
            filter,
            filter_ipv4,
            repeat,
        } => {
            let report = measure(&mmdb, &pins, &filter, &filter_ipv4, repeat)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
    }
}

fn measure(
    mmdb: &Path,
    pins: &Path,
    filter: &Path,
    filter_ipv4: &Path,
    repeat: u32,
) -> Result<Report> {
    let (tables, geoip) = Tables::fill(pins, mmdb)?;
    tables::fill_xdp_filter(filter_ipv4)?;
    // aya opens no pinned XDP program (its `from_pin` wants a private type); a test run only needs the descriptor.
    let filter = SocketFilter::from_pin(filter)
        .with_context(|| format!("cannot open {}", filter.display()))?;
    let mut packets = Vec::new();
    for case in tables.cases()? {
        tables.prepare(&case)?;
        packets.push(
            one(&tables, &filter, &case, repeat).with_context(|| format!("xdp.{}", case.name))?,
        );
    }
    Ok(Report { packets, geoip })
}

fn one(tables: &Tables, filter: &SocketFilter, case: &Case, repeat: u32) -> Result<Figure> {
    let (ours, empty) = (tables.program("firewall")?, tables.program("empty")?);
    if case.rewrites {
        let packet = &case.packets[0];
        let ours = single(ours, packet, case.want)? - single(empty, packet, PASS)?;
        let empty = repeated(empty, packet, PASS, repeat)?;
        return Ok(Figure {
            name: case.name,
            ours: ours + empty,
            filter: None,
            empty,
        });
    }
    let each = (repeat / ROUNDS as u32).max(1);
    let (peer_packets, peer_verdict) = match case.peer {
        Peer::Same => (&case.packets, PASS),
        Peer::Drop => (&tables.blocked, DROP),
    };
    let mut samples: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        let packet = &case.packets[round % case.packets.len()];
        let peer_packet = &peer_packets[round % peer_packets.len()];
        samples[0].push(repeated(ours, packet, case.want, each)?);
        samples[1].push(repeated(filter, peer_packet, peer_verdict, each)?);
        samples[2].push(repeated(empty, packet, PASS, each)?);
    }
    let [ours, filter, empty] = samples.map(median);
    Ok(Figure {
        name: case.name,
        ours,
        filter: Some(filter),
        empty,
    })
}

fn repeated(program: &impl Runs, packet: &[u8], want: u32, repeat: u32) -> Result<f64> {
    let begun = cpu_time()?;
    run(program, packet, want, repeat)?;
    Ok((cpu_time()? - begun).as_nanos() as f64 / f64::from(repeat))
}

/// Of this thread: a neighbour's time slice is not the program's.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("cannot read the CPU clock")?
        .into())
}

/// The kernel's figure: the call around a single run costs far more than the run.
fn single(program: &impl Runs, packet: &[u8], want: u32) -> Result<f64> {
    let runs = (0..SINGLE_RUNS)
        .map(|_| run(program, packet, want, 1))
        .collect::<Result<Vec<_>>>()?;
    Ok(median(runs))
}

fn run(program: &impl Runs, packet: &[u8], want: u32, repeat: u32) -> Result<f64> {
    let options = TestRunOptions {
        data_in: Some(packet),
        repeat,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    ensure!(
        result.return_value == want,
        "the verdict is {}, not {want}",
        result.return_value
    );
    Ok(result.duration.as_nanos() as f64)
}

/// One run, whatever the verdict.
fn spend(program: &impl Runs, packet: &[u8]) -> Result<()> {
    let options = TestRunOptions {
        data_in: Some(packet),
        ..TestRunOptions::default()
    };
    program
        .test_run(options)
        .map(drop)
        .context("BPF_PROG_TEST_RUN")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The program of that name, loaded.
fn xdp<'a>(ebpf: &'a mut aya::Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let Some(program) = ebpf.program_mut(name) else {
        bail!("the eBPF object has no program {name}")
    };
    Ok(program.try_into()?)
}
