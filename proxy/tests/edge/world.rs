//! Three namespaces, a daemon and what tests ask of them.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    netns::{self, End, Namespace},
    process::Process,
    wait_for, xdp,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::clients::client_hello;

pub(crate) const NODE: &str = "10.9.1.1";
pub(crate) const NODE6: &str = "fd09:1::1";
pub(crate) const CLIENT: &str = "10.9.1.2";
pub(crate) const BACKEND: &str = "10.9.2.2";

/// Dropped in this order: daemon, those that have taken over from it, runtimes, namespaces, files, pins.
pub(crate) struct World {
    daemon: Option<Process>,
    daemons: Daemons,
    pub(crate) client_runtime: Runtime,
    pub(crate) backend_runtime: Runtime,
    pub(crate) client: Namespace,
    pub(crate) backend: Namespace,
    pub(crate) node: Namespace,
    pub(crate) dir: TempDir,
    pins: Pins,
}

/// The daemons of a root: those that took over are no children of this process.
struct Daemons(PathBuf);

impl Daemons {
    fn pids(&self) -> Vec<Pid> {
        let root = self.0.as_os_str().as_bytes();
        let of_this_root = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|b| *b == 0);
            arguments.any(|a| a == root) && arguments.any(|a| a == b"server")
        };
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = processes.filter_map(|p| p.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(of_this_root).map(Pid::from_raw).collect()
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        // Or one could still pin what is removed next.
        let _ = wait_for("their end", || self.pids().is_empty().then_some(()));
    }
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl World {
    /// Namespaces and a configuration; the daemon is not started. `config` is added to the common part, which has
    /// `[firewall]` last, so that it may begin with further keys of that section.
    pub(crate) fn new(config: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let (client, node, backend) = (
            Namespace::new("c")?,
            Namespace::new("n")?,
            Namespace::new("b")?,
        );
        netns::veth(
            End {
                namespace: &client,
                interface: "eth0",
                addresses: &["10.9.1.2/24", "fd09:1::2/64"],
            },
            End {
                namespace: &node,
                interface: "c0",
                addresses: &["10.9.1.1/24", "fd09:1::1/64"],
            },
        )?;
        netns::veth(
            End {
                namespace: &backend,
                interface: "eth0",
                addresses: &["10.9.2.2/24", "fd09:2::2/64"],
            },
            End {
                namespace: &node,
                interface: "b0",
                addresses: &["10.9.2.1/24", "fd09:2::1/64"],
            },
        )?;
        // For the resets that XDP sends.
        xdp::pass(&client, "eth0")?;
        let dir = tempfile::tempdir()?;
        let pins = Pins(format!("/sys/fs/bpf/mc-edge-{}-{n}", std::process::id()).into());
        // Of a process that was killed and had this one's id.
        let _ = fs::remove_dir_all(&pins.0);
        let text = format!(
            "[metrics]\nlisten = \"127.0.0.1:9901\"\n[firewall]\npin_path = {:?}\ninterfaces = [\"c0\"]\n{config}",
            pins.0
        );
        fs::write(dir.path().join("mc-proxy.toml"), text)?;
        Ok(Self {
            daemon: None,
            daemons: Daemons(dir.path().to_owned()),
            client_runtime: client.runtime()?,
            backend_runtime: backend.runtime()?,
            client,
            backend,
            node,
            dir,
            pins,
        })
    }

    /// [`Self::new`] with the daemon running and one IPv4 and one IPv6 listener on 443.
    pub(crate) fn started(config: &str) -> Result<Self> {
        let mut world = Self::new(config)?;
        world.start()?;
        world.ctl(&["listener", "add", "0.0.0.0:443"])?;
        world.ctl(&["listener", "add", "[::]:443"])?;
        Ok(world)
    }

    /// Where a new daemon is installed, by [`Self::install`].
    pub(crate) fn installed(&self) -> PathBuf {
        self.dir.path().join("mc-proxy")
    }

    /// Installs the daemon as an operator does: a new file in the place of the old one, whose path the started daemons have.
    pub(crate) fn install(&self) -> Result<()> {
        let new = self.dir.path().join("mc-proxy.new");
        fs::copy(env!("CARGO_BIN_EXE_mc-proxy"), &new)?;
        Ok(fs::rename(new, self.installed())?)
    }

    /// Installs something else than the daemon.
    pub(crate) fn install_script(&self, text: &str) -> Result<()> {
        let new = self.dir.path().join("mc-proxy.new");
        fs::write(&new, text)?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        Ok(fs::rename(new, self.installed())?)
    }

    fn program(&self) -> PathBuf {
        match self.installed() {
            installed if installed.exists() => installed,
            _ => env!("CARGO_BIN_EXE_mc-proxy").into(),
        }
    }

    /// Every daemon that runs, draining ones and those to be included.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.daemons.pids()
    }

    /// kill -9 of one of [`Self::pids`], and waits for its end.
    pub(crate) fn kill9(&mut self, pid: Pid) -> Result<()> {
        if self.pid() == pid.as_raw().cast_unsigned() {
            return self.daemon().kill9().map(drop);
        }
        kill(pid, Signal::SIGKILL)?;
        // Its command line is gone before its sockets are; a zombie has neither.
        wait_for("the end of a daemon", || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = state.rsplit_once(") ").map_or("", |(_, rest)| rest);
            (state.is_empty() || state.starts_with(['Z', 'X'])).then_some(())
        })
    }

    /// Lets go of the daemon that was started, for another to be started beside it.
    pub(crate) fn take_daemon(&mut self) -> Process {
        self.daemon.take().expect("the daemon was started")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.node.command(self.program());
        command.arg("--root").arg(self.dir.path());
        command
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let mut command = self.command();
        self.start_as(command.arg("server"))
    }

    /// [`Self::start`] by a program that restricts itself and then runs its last arguments.
    pub(crate) fn start_under(
        &mut self,
        program: &str,
        args: &[&str],
        env: &[(&str, &Path)],
    ) -> Result<()> {
        let mut command = self.node.command(program);
        command
            .args(args)
            .arg(self.program())
            .arg("--root")
            .arg(self.dir.path())
            .arg("server")
            .envs(env.iter().copied());
        self.start_as(&mut command)
    }

    fn start_as(&mut self, command: &mut Command) -> Result<()> {
        let mut daemon = Process::start(command)?;
        daemon.wait_for_output("mc-proxy runs")?;
        self.daemon = Some(daemon);
        Ok(())
    }

    pub(crate) fn daemon(&mut self) -> &mut Process {
        self.daemon.as_mut().expect("the daemon was started")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon was started").id()
    }

    pub(crate) fn log(&self) -> String {
        self.daemon
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    pub(crate) fn pins(&self) -> &Path {
        &self.pins.0
    }

    /// The pin of a map or link.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        let layout = format!("v{}", mc_edge_common::LAYOUT_VERSION);
        self.pins.0.join(layout).join(name)
    }

    /// Where the daemon is programmed.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// mcproxyctl for this daemon.
    pub(crate) fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcproxyctl"));
        command.arg("--socket").arg(self.admin_socket()).args(args);
        command
    }

    fn ctl_output(&self, args: &[&str]) -> Result<Output> {
        let output = self.ctl_command(args).output();
        output.context("mcproxyctl does not run")
    }

    /// Runs mcproxyctl and returns what it printed.
    pub(crate) fn ctl(&self, args: &[&str]) -> Result<String> {
        let output = self.ctl_output(args)?;
        if !output.status.success() {
            bail!(
                "mcproxyctl {args:?}: {}\n{}\ndaemon: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr),
                self.log()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// [`Self::ctl`] with the words of a line.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.ctl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs mcproxyctl, which must fail; returns its exit code and what it complained.
    pub(crate) fn ctl_fails(&self, args: &[&str]) -> Result<(i32, String)> {
        let output = self.ctl_output(args)?;
        if output.status.success() {
            bail!(
                "mcproxyctl {args:?} should have failed: {}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok((
            output.status.code().unwrap_or(-1),
            String::from_utf8(output.stderr)?,
        ))
    }

    /// `mcproxyctl --json`.
    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.ctl(&[&["--json"], args].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("mcproxyctl --json {args:?} printed {text:?}"))
    }

    /// `mcproxyctl --json` whatever its exit code.
    pub(crate) fn json_even_if_it_fails(&self, args: &[&str]) -> Result<Value> {
        let output = self.ctl_output(&[&["--json"], args].concat())?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("mcproxyctl --json {args:?}: {output:?}"))
    }

    /// A backend that echoes and its route on port 443, with further options. Returns a ClientHello for it.
    pub(crate) fn echo_route(&self, name: &'static str, options: &str) -> Result<Vec<u8>> {
        let hello = client_hello(&Ca::new()?, name, KeyExchange::Classic)?;
        let backend = self.echo(hello.len())?;
        self.run(&format!("route add {name} --backend {backend} {options}"))?;
        Ok(hello)
    }

    /// The kernel maps hold what the database does.
    pub(crate) fn verified(&self) -> Result<()> {
        let verified = self.json_even_if_it_fails(&["maps", "verify"])?;
        let differences = verified["differences"].as_array();
        ensure!(differences.is_none_or(Vec::is_empty), "{verified}");
        Ok(())
    }

    /// What a new connection of the client meets: "pass", "drop" (no answer) or "reset".
    pub(crate) fn probe(&self) -> Result<&'static str> {
        let address = (NODE, 443)
            .to_socket_addrs()?
            .next()
            .context("an address")?;
        // A second is a retransmitted SYN: on a veth an answer takes microseconds.
        let connected = self
            .client
            .run(|| TcpStream::connect_timeout(&address, Duration::from_millis(1500)))?;
        Ok(match connected {
            Ok(_) => "pass",
            Err(e) if e.kind() == ErrorKind::TimedOut => "drop",
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => "reset",
            Err(e) => return Err(e).context("probing"),
        })
    }

    /// One scrape of the metrics.
    pub(crate) fn metrics(&self) -> Result<String> {
        let output = self
            .node
            .command("curl")
            .args(["-sSf", "http://127.0.0.1:9901/metrics"])
            .output()?;
        if !output.status.success() {
            bail!("scraping: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The value of the one sample that starts with `name` and has all `labels` (`key="value"`).
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let text = self.metrics()?;
        let found = text
            .lines()
            .filter(|l| l.starts_with(name) && labels.iter().all(|label| l.contains(label)))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        Ok(found)
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_metric(&self, name: &str, labels: &[&str], wanted: f64) -> Result<()> {
        wait_for(&format!("{name}{labels:?} = {wanted}"), || {
            self.metric(name, labels)
                .ok()
                .filter(|v| (v - wanted).abs() < 0.5)
        })
        .map(drop)
        .with_context(|| format!("daemon: {}", self.log()))
    }

    /// Runs a command in the client's namespace.
    pub(crate) fn client_command(&self, program: &str, args: &[&str]) -> Result<Output> {
        self.client
            .command(program)
            .args(args)
            .output()
            .with_context(|| format!("{program} does not run"))
    }
}
