//! client - node - server, the daemon with its routes, and what is asked of it.

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mc_testkit::{
    ca::Ca,
    netns::{End, Namespace, veth},
    process::Process,
    wait_for, xdp,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::samples::Sample;
use crate::{bench::edge::memory, command::output};

const NODE: &str = "10.78.1.1";
const SERVER: &str = "10.78.2.2";
const PORT: u16 = 443;
const HTTP: &str = "www.soak.example.org";
/// Engine and name of the relayed routes.
const RELAYED: [(&str, &str); 2] = [
    ("copy", "copy.soak.example.org"),
    ("sockmap", "sockmap.soak.example.org"),
];
/// Many times a transfer's length, so that only what hangs is cut.
const DRAIN: &str = "2m";
/// Clients that take so much longer than they were told to hang.
const GRACE: u64 = 60;
const MIB: f64 = 1_048_576.0;

/// Dropped in this order.
pub(super) struct World {
    daemons: Daemons,
    _daemon: Process,
    _backend: Process,
    client: Namespace,
    _node: Namespace,
    _server: Namespace,
    _pins: Pins,
    directory: TempDir,
}

/// Those of a root, each of them a child of the one before it.
struct Daemons(PathBuf);

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Daemons {
    fn pids(&self) -> Vec<Pid> {
        let root = self.0.as_os_str().as_bytes();
        let ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.any(|word| word == root) && words.any(|word| word == b"server")
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|p| p.file_name().to_str()?.parse().ok());
        pids.filter(ours).map(Pid::from_raw).collect()
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for pid in self.pids() {
            // It may have ended meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The clients at work.
pub(super) struct Load(Process);

impl Load {
    pub(super) fn runs(&mut self) -> bool {
        self.0.is_running()
    }

    /// All they have said so far.
    pub(super) fn output(&self) -> String {
        self.0.output()
    }

    /// Waits for their end; returns all they have said.
    pub(super) fn finish(mut self) -> Result<String> {
        // The last transfer may end later than a condition is waited for.
        while self.0.is_running() {
            std::thread::sleep(Duration::from_millis(100));
        }
        let status = self.0.wait_exit()?;
        ensure!(status.success(), "{status}: {}", self.0.output());
        Ok(self.0.output())
    }
}

fn release(name: &str) -> PathBuf {
    crate::target_dir().join("release").join(name)
}

impl World {
    /// Everything runs.
    pub(super) fn new() -> Result<Self> {
        let (client, node, server) = (
            Namespace::new("client")?,
            Namespace::new("node")?,
            Namespace::new("server")?,
        );
        let end = |namespace, interface, address| (namespace, interface, [address]);
        for (far, near) in [
            (
                end(&client, "eth0", "10.78.1.2/24"),
                end(&node, "c0", "10.78.1.1/24"),
            ),
            (
                end(&server, "eth0", "10.78.2.2/24"),
                end(&node, "b0", "10.78.2.1/24"),
            ),
        ] {
            let [far, near] = [&far, &near].map(|(namespace, interface, addresses)| End {
                namespace,
                interface,
                addresses,
            });
            veth(far, near)?;
        }
        // For the resets that XDP sends.
        xdp::pass(&client, "eth0")?;
        for namespace in [&client, &node] {
            namespace
                .run(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"))??;
        }
        let directory = tempfile::Builder::new()
            .prefix("mc-soak-")
            .tempdir()
            .context("cannot make a directory")?;
        let pins = Pins(format!("/sys/fs/bpf/mc-soak-{}", std::process::id()).into());
        configure(directory.path(), &pins.0)?;
        let backend = Process::start(server.command(release("examples/soak")).args([
            "serve",
            "--http",
            &format!("{SERVER}:8080"),
            "--echo",
            &format!("{SERVER}:8443"),
        ]))?;
        let mut command = node.command(release("mc-proxy"));
        command.arg("--root").arg(directory.path()).arg("server");
        let mut daemon = Process::start_logged(&mut command, &directory.path().join("log"))?;
        daemon.wait_for_output("mc-proxy runs")?;
        Ok(Self {
            daemons: Daemons(directory.path().to_owned()),
            _daemon: daemon,
            _backend: backend,
            client,
            _node: node,
            _server: server,
            _pins: pins,
            directory,
        })
    }

    /// The clients, for so many seconds.
    pub(super) fn load(
        &self,
        seconds: u64,
        rate: Option<f64>,
        transfers: Option<u64>,
    ) -> Result<Load> {
        let mut command = self.client.command("timeout");
        command
            .arg((seconds + GRACE).to_string())
            .arg(release("examples/soak"))
            .args(["load", "--address", &format!("{NODE}:{PORT}")])
            .args(["--http", HTTP, "--seconds", &seconds.to_string()])
            .arg("--ca")
            .arg(self.directory.path().join("ca.pem"));
        for (_, name) in RELAYED {
            command.args(["--relayed", name]);
        }
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(transfers) = transfers {
            command.args(["--transfers", &transfers.to_string()]);
        }
        Process::start(&mut command).map(Load)
    }

    fn ctl(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(release("mcproxyctl"));
        command
            .arg("--socket")
            .arg(self.directory.path().join("admin.sock"))
            .arg("--json")
            .args(args);
        let text = output(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("mcproxyctl {args:?} printed {text}"))
    }

    pub(super) fn upgrade(&self) -> Result<()> {
        self.ctl(&["upgrade"]).map(drop)
    }

    pub(super) fn sample(&self, after: Duration, upgrades: u32) -> Result<Sample> {
        let status = self.ctl(&["status"])?;
        let pid = status["pid"].as_u64().context("the status has no pid")?;
        let pid = u32::try_from(pid).context("a pid")?;
        let pids = self.daemons.pids();
        let each = |pid: &Pid| memory(&[pid.as_raw().cast_unsigned()]).unwrap_or(0.0);
        let all: f64 = pids.iter().map(each).sum();
        let open = format!("/proc/{pid}/fd");
        let descriptors = fs::read_dir(&open).with_context(|| format!("cannot read {open}"))?;
        let fill = status["maps"].as_array().map_or(0.0, |maps| {
            let fills = maps
                .iter()
                .filter_map(|map| Some(100.0 * map["used"].as_f64()? / map["capacity"].as_f64()?));
            fills.filter(|fill| fill.is_finite()).fold(0.0, f64::max)
        });
        Ok(Sample {
            seconds: after.as_secs_f64(),
            upgrades,
            memory: memory(&[pid])? / MIB,
            rss: resident(pid)? / MIB,
            memory_of_all: all / MIB,
            daemons: pids.len(),
            descriptors: descriptors.count(),
            fill,
        })
    }

    /// Waits until those that drain have ended: their connections have.
    pub(super) fn alone(&self) -> Result<()> {
        wait_for("the end of the draining daemons", || {
            (self.daemons.pids().len() == 1).then_some(())
        })
        .with_context(|| self.log())
    }

    /// What daemons logged as errors, connections that a deadline cut, and where kernel maps are not what the database is.
    pub(super) fn complaints(&self) -> Result<Vec<String>> {
        let verified = self.ctl(&["maps", "verify"])?;
        let differences = verified["differences"].as_array();
        let differs = differences.is_some_and(|all| !all.is_empty());
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let bad = |line: &&str| {
            ["ERROR", "panicked", "were cut"]
                .iter()
                .any(|b| line.contains(b))
        };
        let lines = log.lines().filter(bad).map(str::to_owned);
        Ok(differs
            .then(|| format!("maps verify: {verified}"))
            .into_iter()
            .chain(lines)
            .collect())
    }

    /// The end of the daemons' log.
    pub(super) fn log(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log
            .lines()
            .filter(|l| !l.contains("mc_proxy::access"))
            .collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmRSS line"))? * 1024.0)
}

fn configure(directory: &Path, pins: &Path) -> Result<()> {
    let ca = Ca::new()?;
    let (certificate, key) = ca.issue(&[HTTP])?.write(directory, "www")?;
    let relayed: String = RELAYED
        .iter()
        .map(|(engine, name)| {
            format!("[[routes]]\nhostname = \"{name}\"\nport = {PORT}\nbackends = [\"{SERVER}:8443\"]\nengine = \"{engine}\"\n")
        })
        .collect();
    // Every 100th request logged: a log that is kept is no leak.
    let config = format!(
        "[server]\ndrain_timeout = \"{DRAIN}\"\n[firewall]\ninterfaces = [\"c0\"]\npin_path = {pins:?}\n[[listeners]]\naddress = \"0.0.0.0:{PORT}\"\n{relayed}\
         [[routes]]\nhostname = \"{HTTP}\"\nport = {PORT}\nbackends = [\"{SERVER}:8080\"]\n\
         [routes.l7]\ncertificate = {certificate:?}\nkey = {key:?}\naccess_log = 100\n"
    );
    for (file, text) in [("ca.pem", ca.pem()), ("mc-proxy.toml", config)] {
        let path = directory.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
