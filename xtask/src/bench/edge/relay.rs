//! The relay half: which figures of which relay, and the rows they make.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
use mc_testkit::wait_for;

use super::{
    Measurement, Plan,
    backend::Backend,
    build,
    load::{self, Target},
    median,
    meter::{self, Window},
    net::{self, Net},
    subject::{self, FEW_ROUTES, HOSTNAME, McProxy, Subject},
    xdp::XdpFilter,
};
use crate::bench::{Better, Row};

/// Bulk connections in each direction.
const BULK_EACH: usize = 2;
/// Connections with a request under way.
const REQUESTERS: usize = 8;
/// New connections at once.
const CONNECTORS: usize = 16;
/// Bits or bytes of a Gbit or GB.
const GIGA: f64 = 1e9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Figure {
    Bulk,
    Cpu,
    Requests,
    RequestP50,
    RequestP99,
    Connections,
    ConnectionP50,
    IdleMemory,
}

impl Figure {
    const ALL: [Self; 8] = [
        Self::Bulk,
        Self::Cpu,
        Self::Requests,
        Self::RequestP50,
        Self::RequestP99,
        Self::Connections,
        Self::ConnectionP50,
        Self::IdleMemory,
    ];

    fn describe(self) -> (&'static str, &'static str, Better) {
        match self {
            Self::Bulk => ("bulk", "Gbit/s", Better::Higher),
            Self::Cpu => ("cpu", "s/GB", Better::Lower),
            Self::Requests => ("rr", "1/s", Better::Higher),
            Self::RequestP50 => ("rr_p50", "us", Better::Lower),
            Self::RequestP99 => ("rr_p99", "us", Better::Lower),
            Self::Connections => ("conn", "1/s", Better::Higher),
            Self::ConnectionP50 => ("conn_p50", "us", Better::Lower),
            Self::IdleMemory => ("idle_memory", "B", Better::Lower),
        }
    }
}

type Samples = HashMap<(&'static str, Figure), Vec<f64>>;

/// Measured in every round, in this order.
const IN_ROUNDS: [Measurement; 3] = [
    Measurement::Bulk,
    Measurement::Requests,
    Measurement::Connections,
];

/// Ours beside a peer.
const PAIRS: [(&str, &str, &str); 7] = [
    // (variant in the row's name, ours, peer)
    ("copy", "copy", "haproxy"),
    ("copy_vs_nginx", "copy", "nginx"),
    ("sockmap", "sockmap", "haproxy"),
    ("sockmap_vs_nginx", "sockmap", "nginx"),
    ("copy_xdp", "copy_xdp", "haproxy_xdp"),
    ("routes_10k", "copy_10k", "copy"),
    // The peers beside one another: whether this machine is as the peers' users know it.
    ("haproxy_vs_nginx", "haproxy", "nginx"),
];

struct Bench<'a> {
    plan: Plan,
    net: &'a Net,
    backend: Backend,
    subjects: Vec<Subject>,
    hello: Vec<u8>,
    samples: Samples,
}

/// All rows of the relay half.
pub(super) fn run(plan: Plan, only: &[String], measure: &[Measurement]) -> Result<Vec<Row>> {
    let measured = |measurement| measure.is_empty() || measure.contains(&measurement);
    if ![Measurement::Idle]
        .into_iter()
        .chain(IN_ROUNDS)
        .any(measured)
    {
        return Ok(Vec::new());
    }
    let wanted = |key: &str| only.is_empty() || only.iter().any(|name| name == key);
    let directory = tempfile::Builder::new()
        .prefix("mc-bench-")
        .tempdir()
        .context("cannot make a directory")?;
    let net = Net::new()?;
    let _filter = XdpFilter::load(&net)?;
    let backend = Backend::start(&net.server, &net::backends())?;
    let subjects = start(plan, &net, directory.path(), &wanted)?;
    let hello = load::client_hello(HOSTNAME)?;
    let mut bench = Bench {
        plan,
        net: &net,
        backend,
        subjects,
        hello,
        samples: Samples::new(),
    };
    if measured(Measurement::Idle) {
        bench.idle_memory()?;
    }
    for round in 1..=plan.rounds {
        for measurement in IN_ROUNDS {
            if measured(measurement) {
                eprintln!("round {round} of {}: {measurement:?}", plan.rounds);
                bench.round(measurement)?;
            }
        }
    }
    Ok(bench.rows())
}

fn start(
    plan: Plan,
    net: &Net,
    directory: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    if wanted("haproxy") {
        let haproxy = subject::haproxy(net, directory, 4431)?;
        subjects.push(haproxy.over("haproxy_xdp", net::XDP_FILTER, " behind xdp-filter"));
        subjects.push(haproxy);
    }
    if wanted("nginx") {
        subjects.push(subject::nginx(net, directory, 4432)?);
    }
    let ours = [
        ("copy", "copy", FEW_ROUTES, &[][..]),
        ("sockmap", "sockmap", FEW_ROUTES, &[]),
        ("copy_10k", "copy", plan.routes, &[]),
        ("copy_xdp", "copy", FEW_ROUTES, &[net::FIREWALL_INTERFACE]),
    ];
    if ours.iter().any(|(key, ..)| wanted(key)) {
        build(&["--package", "mc-proxy", "--bin", "mc-proxy"])?;
    }
    for ((key, engine, routes, interfaces), port) in ours.into_iter().zip(4433..) {
        if wanted(key) {
            let proxy = McProxy {
                key,
                port,
                engine,
                routes,
                interfaces,
            }
            .start(net, directory)?;
            let over_xdp = (!interfaces.is_empty()).then(|| proxy.over(key, net::FIREWALL, ""));
            subjects.push(over_xdp.unwrap_or(proxy));
        }
    }
    Ok(subjects)
}

impl Bench<'_> {
    fn window(&self) -> Window {
        Window::new(self.plan.warm_up, self.plan.window)
    }

    fn target<'b>(&'b self, subject: &Subject) -> Target<'b> {
        Target {
            client: &self.net.client,
            relay: subject.address,
            hello: &self.hello,
        }
    }

    fn record(&mut self, key: &'static str, figures: &[(Figure, f64)]) {
        let said: Vec<String> = figures
            .iter()
            .map(|(figure, value)| format!("{} {value:.1}", figure.describe().0))
            .collect();
        eprintln!("  {key:<12} {}", said.join(", "));
        for &(figure, value) in figures {
            self.samples.entry((key, figure)).or_default().push(value);
        }
    }

    /// Nothing of the last measurement may go on while the next one runs.
    fn quiet(&self, key: &str) -> Result<()> {
        wait_for(&format!("{key} to close its connections"), || {
            (self.backend.open() == 0).then_some(())
        })
    }

    /// First of all, on processes that have relayed nothing yet: what an allocator keeps from a burst would hide it.
    fn idle_memory(&mut self) -> Result<()> {
        eprintln!("{} idle connections", self.plan.idle);
        for subject in self.subjects.clone() {
            if matches!(subject.key, "haproxy_xdp" | "copy_xdp" | "copy_10k") {
                continue;
            }
            let pids = subject.pids()?;
            let before = meter::memory(&pids)?;
            let connections = self.target(&subject).idle(self.plan.idle)?;
            let each = (meter::memory(&pids)? - before) / self.plan.idle as f64;
            drop(connections);
            self.quiet(subject.key)?;
            self.record(subject.key, &[(Figure::IdleMemory, each)]);
        }
        Ok(())
    }

    fn round(&mut self, measurement: Measurement) -> Result<()> {
        for subject in self.subjects.clone() {
            let only_connections = matches!(subject.key, "haproxy_xdp" | "copy_xdp" | "copy_10k");
            if only_connections && measurement != Measurement::Connections {
                continue;
            }
            let figures = self
                .measure(&subject, measurement)
                .with_context(|| format!("{measurement:?} of {}", subject.title))?;
            self.quiet(subject.key)?;
            self.record(subject.key, &figures);
        }
        Ok(())
    }

    fn measure(&self, subject: &Subject, measurement: Measurement) -> Result<Vec<(Figure, f64)>> {
        let target = self.target(subject);
        Ok(match measurement {
            Measurement::Bulk => {
                let (bytes, took) = target.bulk(BULK_EACH, self.window())?;
                vec![
                    (Figure::Bulk, bytes * 8.0 / GIGA / took.seconds),
                    (Figure::Cpu, took.busy / (bytes / GIGA)),
                ]
            }
            Measurement::Requests => {
                let cycles = target.requests(REQUESTERS, self.window())?;
                vec![
                    (Figure::Requests, cycles.per_second()),
                    (Figure::RequestP50, cycles.percentile(50)),
                    (Figure::RequestP99, cycles.percentile(99)),
                ]
            }
            Measurement::Connections => {
                let cycles = target.connections(CONNECTORS, self.window())?;
                vec![
                    (Figure::Connections, cycles.per_second()),
                    (Figure::ConnectionP50, cycles.percentile(50)),
                ]
            }
            // Not per round (see `idle_memory`), or not a relay's.
            _ => Vec::new(),
        })
    }

    fn rows(&self) -> Vec<Row> {
        let value = |key, figure| {
            self.samples
                .get(&(key, figure))
                .and_then(|samples| median(samples.clone()))
        };
        let title = |key| {
            self.subjects
                .iter()
                .find(|subject| subject.key == key)
                .map_or(key, |subject| subject.title.as_str())
        };
        let mut rows = Vec::new();
        for figure in Figure::ALL {
            let (name, unit, better) = figure.describe();
            for (variant, ours, peer) in PAIRS {
                if let (Some(our), Some(their)) = (value(ours, figure), value(peer, figure)) {
                    let name = format!("l4.{name}.{variant}");
                    rows.push(Row::alone(&name, unit, our, better).against(title(peer), their));
                }
            }
        }
        rows
    }
}
