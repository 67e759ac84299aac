//! The demo's machines: a node, two clients in two countries, two backends that speak HTTPS and, for the route whose
//! TLS ends at the node, HTTP. All are network namespaces; their
//! traffic stays inside them.
//!
//! ```text
//! mc-demo-de (DE) 192.0.2.10 ----- c0 \                / b0 ----- 10.77.1.2 mc-demo-alpha (nginx)
//!                                      > mc-demo-node <
//! mc-demo-us (US) 198.51.100.10 -- c1 /                \ b1 ----- 10.77.2.2 mc-demo-beta (nginx)
//! ```

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use mc_testkit::{
    ca::Ca,
    mmdb,
    netns::{End, Namespace, delete, veth},
    process::Process,
    xdp,
};
use nix::sys::signal::Signal;

use super::{
    mcias::MCIAS_GRPC,
    state::{PATH, Started, State},
};
use crate::command::{output, remove};

/// Where the demo pins, apart from an installed daemon's pins.
const PINS: &str = "/sys/fs/bpf/mc-demo";
/// Where the daemon serves its metrics, inside the node.
const METRICS: &str = "127.0.0.1:9901";
const DAEMON: &str = "mc-proxy";
pub(super) const NODE: &str = "mc-demo-node";
/// Whose word MCIAS takes for who asks.
pub(super) const MCIAS_NODE: &str = "10.77.1.1/32";
const BACKENDS: &[Backend] = &[
    Backend {
        name: "alpha",
        link: "b0",
        node: ["10.77.1.1/24", "fd77:1::1/64"],
        address: ["10.77.1.2/24", "fd77:1::2/64"],
    },
    Backend {
        name: "beta",
        link: "b1",
        node: ["10.77.2.1/24", "fd77:2::1/64"],
        address: ["10.77.2.2/24", "fd77:2::2/64"],
    },
];
pub(super) const CLIENTS: &[Client] = &[
    Client {
        name: "de",
        country: "DE",
        link: "c0",
        node: ["192.0.2.1", "2001:db8:de::1"],
        address: ["192.0.2.10", "2001:db8:de::10"],
        networks: ["192.0.2.0/24", "2001:db8:de::/48"],
    },
    Client {
        name: "us",
        country: "US",
        link: "c1",
        node: ["198.51.100.1", "2001:db8:75::1"],
        address: ["198.51.100.10", "2001:db8:75::10"],
        networks: ["198.51.100.0/24", "2001:db8:75::/48"],
    },
];

/// A client machine. Pairs are IPv4 and IPv6.
pub(super) struct Client {
    pub(super) name: &'static str,
    country: &'static str,
    /// The node's interface to it.
    link: &'static str,
    /// The node's addresses on that link.
    pub(super) node: [&'static str; 2],
    /// Its own.
    pub(super) address: [&'static str; 2],
    /// What the GeoIP database knows as its country's.
    networks: [&'static str; 2],
}

/// A backend's machine. Pairs are IPv4 and IPv6.
struct Backend {
    name: &'static str,
    link: &'static str,
    node: [&'static str; 2],
    address: [&'static str; 2],
}

/// The demo's files, and what runs.
pub(super) struct World {
    pub(super) directory: PathBuf,
    state: State,
}

impl World {
    /// Makes the machines, starts the backends and writes the daemon's configuration. The daemon is not started.
    pub(super) fn build() -> Result<Self> {
        let directory = directory();
        fs::create_dir_all(directory.join("root"))
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let state = State {
            directory: directory.clone(),
            processes: Vec::new(),
        };
        state.write(Path::new(PATH))?;
        let mut world = Self { directory, state };
        let mut node = Namespace::named(NODE)?;
        node.keep();
        for client in CLIENTS {
            let mut namespace = Namespace::named(&client.namespace())?;
            namespace.keep();
            let [v4, v6] = client.node.map(with_prefix);
            let [own4, own6] = client.address.map(with_prefix);
            veth(
                End {
                    namespace: &node,
                    interface: client.link,
                    addresses: &[&v4, &v6],
                },
                End {
                    namespace: &namespace,
                    interface: "eth0",
                    addresses: &[&own4, &own6],
                },
            )?;
            // For the resets that XDP sends.
            xdp::pass(&namespace, "eth0")?;
        }
        let ca = Ca::new()?;
        world.write("ca.crt", &ca.pem())?;
        world.private("ca.key", &ca.key_pem())?;
        // For an hour, as long as Metacrypt has certified nobody. By its address each is asked by the node itself.
        for name in ["auth", "crypt"] {
            let name_there = format!("{name}.example.org");
            ca.issue_until(&[&name_there, "fd77:1::2"], 3600)?
                .write(&world.directory, name)?;
        }
        for backend in BACKENDS {
            world.backend(&node, &ca, backend)?;
        }
        world.configure()?;
        world.scripts()?;
        Ok(world)
    }

    fn backend(&mut self, node: &Namespace, ca: &Ca, backend: &Backend) -> Result<()> {
        let name = backend.name;
        let mut namespace = Namespace::named(&format!("mc-demo-{name}"))?;
        namespace.keep();
        veth(
            End {
                namespace: node,
                interface: backend.link,
                addresses: &backend.node,
            },
            End {
                namespace: &namespace,
                interface: "eth0",
                addresses: &backend.address,
            },
        )?;
        let hostname = format!("{name}.example.org");
        let (certificate, key) = ca
            .issue(&[&hostname, &format!("*.{hostname}")])?
            .write(&self.directory, name)?;
        let directory = self.directory.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {directory}/{name}-{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {directory}/{name}.pid;\nevents {{}}\nhttp {{\n  access_log off;\n{temporary}  \
             server {{\n    listen 8443 ssl;\n    ssl_protocols TLSv1.3;\n    ssl_certificate {};\n    \
             ssl_certificate_key {};\n    location / {{ return 200 \"this is {name}, asked for $ssl_server_name\\n\"; }}\n  }}\n  \
             server {{\n    listen 8080;\n    location / {{ return 200 \"this is {name}, asked by $http_x_forwarded_for\\n\"; }}\n  \
             }}\n}}\n",
            certificate.display(),
            key.display(),
        );
        let config = self.write(&format!("{name}.conf"), &config)?;
        let log = self.directory.join(format!("{name}.log"));
        let mut command = namespace.command("nginx");
        command.arg("-e").arg(&log).arg("-c").arg(config);
        let address = format!("{}:8443", bare(backend.address[0]));
        let answers = || node.run(|| TcpStream::connect(&address)).ok()?.ok();
        self.start(&format!("nginx ({name})"), &mut command, &log, answers)
    }

    /// Starts a process that outlives us, records it and waits until it `answers`.
    pub(super) fn start<T>(
        &mut self,
        what: &str,
        command: &mut Command,
        log: &Path,
        answers: impl FnMut() -> Option<T>,
    ) -> Result<()> {
        let mut process = Process::start_logged(command, log)?;
        self.state.add(Path::new(PATH), what, process.id())?;
        process.wait_for("it answers", answers)?;
        let _ = process.detach();
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let networks = CLIENTS
            .iter()
            .flat_map(|client| client.networks.map(|network| (network, client.country)));
        let database = self.directory.join("demo.mmdb");
        let bytes = mmdb::small(&networks.collect::<Vec<_>>());
        fs::write(&database, bytes)
            .with_context(|| format!("cannot write {}", database.display()))?;
        let interfaces: Vec<&str> = CLIENTS.iter().map(|client| client.link).collect();
        let config = format!(
            "[server]\nadmin_socket = {:?}\n\n[firewall]\ninterfaces = {interfaces:?}\npin_path = {PINS:?}\n\n[geoip]\ndatabase = \
             {database:?}\n\n[metrics]\nlisten = {METRICS:?}\n\n[mcias]\nserver_url = \"https://{MCIAS_GRPC}\"\nca_cert = \
             {:?}\ntoken_file = {:?}\n\n[log]\nlevel = \"info\"\n",
            self.socket(),
            self.directory.join("ca.crt"),
            self.node_token(),
        );
        self.write("mc-proxy.toml", &config).map(drop)
    }

    /// What a person types in the demo, as short commands.
    fn scripts(&self) -> Result<()> {
        let ctl = crate::binary("mcproxyctl");
        self.script(
            "ctl",
            &format!("{:?} --socket {:?} \"$@\"", ctl, self.socket()),
        )?;
        self.mciasctl_script()?;
        self.script(
            "metrics",
            &format!("ip netns exec {NODE} curl -sS http://{METRICS}/metrics"),
        )?;
        let ca = self.directory.join("ca.crt");
        for client in CLIENTS {
            let [v4, v6] = client.node;
            for (suffix, node) in [("", v4.to_owned()), ("6", format!("[{v6}]"))] {
                let curl = format!(
                    "ip netns exec {} curl -sS -m 2 --cacert {ca:?} --connect-to '::{node}:' \"$@\"",
                    client.namespace()
                );
                self.script(&format!("{}{suffix}", client.name), &curl)?;
            }
        }
        Ok(())
    }

    /// Starts the daemon in the node and waits until it answers.
    pub(super) fn start_daemon(&mut self) -> Result<()> {
        let node = Namespace::existing(NODE)?;
        let log = self.directory.join("mc-proxy.log");
        let mut command = node.command(crate::binary("mc-proxy"));
        command
            .args(["server", "--config"])
            .arg(self.directory.join("mc-proxy.toml"));
        command.arg("--root").arg(self.directory.join("root"));
        let ctl = self.directory.join("ctl");
        let answers = || output(Command::new(&ctl).args(["status", "--json"])).ok();
        self.start(DAEMON, &mut command, &log, answers)
    }

    /// Kills the daemon without notice.
    pub(super) fn kill_daemon(&self) -> Result<()> {
        self.state
            .processes
            .iter()
            .filter(|process| process.what == DAEMON)
            .try_for_each(|p| p.end(Signal::SIGKILL))
    }

    /// Those that run now.
    pub(super) fn processes(&self) -> Vec<Started> {
        let all = self.state.processes.iter();
        all.filter(|one| one.is_running()).cloned().collect()
    }

    /// The end of the daemon's log, for the report of a failure.
    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 15;
        let log = fs::read_to_string(self.directory.join("mc-proxy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the daemon's log ends:\n{}\n",
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        )
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub(super) fn script(&self, name: &str, line: &str) -> Result<()> {
        let path = self.write(name, &format!("#!/bin/sh\nexec {line}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))
    }
}

impl Client {
    fn namespace(&self) -> String {
        format!("mc-demo-{}", self.name)
    }
}

/// The directory of an earlier `up` whose daemon still runs.
pub(super) fn up_in() -> Result<Option<PathBuf>> {
    let state = State::read(Path::new(PATH))?.unwrap_or_default();
    let up = state
        .processes
        .iter()
        .any(|process| process.what == DAEMON && process.is_running());
    Ok(up.then_some(state.directory))
}

/// Removes all that `build` and `start_daemon` made; any of it may be missing. Goes on after a failure, and reports the first.
pub(super) fn tear_down() -> Result<()> {
    let state = State::read(Path::new(PATH))?.unwrap_or_default();
    let mut results = Vec::new();
    for process in state.processes.iter().rev() {
        results.push(
            process
                .end(Signal::SIGTERM)
                .or_else(|_| process.end(Signal::SIGKILL)),
        );
    }
    let (program, config) = (
        crate::binary("mc-proxy"),
        state.directory.join("mc-proxy.toml"),
    );
    if Path::new(PINS).exists() && program.exists() && config.exists() {
        results.push(
            output(
                Command::new(program)
                    .arg("detach")
                    .arg("--config")
                    .arg(config),
            )
            .map(drop),
        );
    }
    let names = CLIENTS
        .iter()
        .map(|client| client.name)
        .chain(BACKENDS.iter().map(|backend| backend.name));
    for name in names
        .map(|name| format!("mc-demo-{name}"))
        .chain([NODE.to_owned()])
    {
        results.push(delete(&name));
    }
    // The pins again: there may have been no program to detach with.
    results.extend([Path::new(PINS), &directory(), &state.directory].map(remove));
    let result: Result<()> = results.into_iter().collect();
    // Kept after a failure, for another `down`.
    result.and_then(|()| remove(Path::new(PATH)))
}

pub(super) fn directory() -> PathBuf {
    crate::target_dir().join("demo")
}

/// The namespace of the first one.
pub(super) fn first_backend() -> String {
    format!("mc-demo-{}", BACKENDS[0].name)
}

fn with_prefix(address: &str) -> String {
    let length = if address.contains(':') { 64 } else { 24 };
    format!("{address}/{length}")
}

fn bare(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}
