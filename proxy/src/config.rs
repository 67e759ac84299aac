//! `mc-proxy.toml`: raw keys in, one typed [`Config`] out. Listeners, routes and rules in it only seed an empty
//! database; after that the database rules and a difference is reported.

// By path: the fuzz targets have this file as a module without the directory.
#[path = "config/raw.rs"]
mod raw;
#[path = "config/seed.rs"]
mod seed;
#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::spec::{EngineKind, Listener, Route, Rule};

pub use self::{
    raw::{Raw, UnparsedPolicy},
    seed::{validate_listener, validate_route},
};

/// A key, and why its value cannot be.
pub type Problem = (String, String);

/// Values in the file that cannot be.
#[derive(Debug, thiserror::Error)]
pub struct InvalidConfig {
    file: String,
    problems: Vec<Problem>,
}

/// A line for each.
impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, reason)) in self.problems.iter().enumerate() {
            let between = if i == 0 { "" } else { "\n" };
            write!(f, "{between}{}: {key}: {reason}", self.file)?;
        }
        Ok(())
    }
}

/// The daemon's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from, for messages.
    pub file: PathBuf,
    /// The admin API's Unix socket.
    pub admin_socket: PathBuf,
    /// SQLite.
    pub database: PathBuf,
    /// Held while a daemon runs, so that two never share a root.
    pub lock: PathBuf,
    /// Log level and format.
    pub log: mcdsl::telemetry::LogConfig,
    /// Prometheus endpoint (loopback); `None` = off.
    pub metrics: Option<SocketAddr>,
    /// Interfaces that the firewall is attached to.
    pub interfaces: Vec<String>,
    /// Below which maps, programs and links are pinned.
    pub pin_path: PathBuf,
    /// What cannot be parsed.
    pub unparsed: UnparsedPolicy,
    /// One in so many firewall events reaches the debug log; 0 = none.
    pub log_sample: u32,
    /// GeoIP country database (.mmdb).
    pub geoip: Option<PathBuf>,
    /// Connections of all listeners at once; above it new ones wait.
    pub max_connections: u32,
    /// Connections open at once from one source (IPv4 address, IPv6 /64).
    pub max_connections_per_source: Option<u32>,
    /// How long a stop waits for open connections.
    pub drain_timeout: Duration,
    /// How long a daemon that was replaced waits for them.
    pub upgrade_drain_timeout: Duration,
    /// Default engine.
    pub engine: EngineKind,
    /// Accept to complete ClientHello (and PROXY header).
    pub client_hello_timeout: Duration,
    /// One attempt at one backend.
    pub connect_timeout: Duration,
    /// No byte for this long ends a connection.
    pub idle_timeout: Duration,
    /// No connection lives longer; `None` = for ever.
    pub max_age: Option<Duration>,
    /// Whose bans are put in force; `None` = nobody's.
    pub mcias: Option<Mcias>,
    /// For an empty database.
    pub seed: Seed,
    /// The file as it was read; `None` = there was none.
    pub contents: Option<Vec<u8>>,
    /// What did not come as configured, for the status.
    pub warnings: Vec<String>,
}

/// An MCIAS whose bans are put in force.
#[derive(Clone, Debug)]
pub struct Mcias {
    /// Its gRPC, `https://`.
    pub server_url: String,
    /// What its certificate leads to, PEM.
    pub ca_cert: PathBuf,
    /// Holds the token of this node's system account.
    pub token_file: PathBuf,
}

/// What an empty database starts with.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Allow and block rules.
    pub rules: Vec<Rule>,
}

/// Default of `relay.client_hello_timeout`: a slow client on a bad line needs one or two seconds.
const CLIENT_HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `relay.connect_timeout`: two SYN retransmissions.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Default of `relay.idle_timeout`: above the keep-alive of common WebSocket and gRPC clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Default of `server.drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Default of `server.upgrade_drain_timeout`: an upgrade is to cut nobody, and no old daemon is to stay for good.
const UPGRADE_DRAIN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Default of `server.max_connections`.
const MAX_CONNECTIONS: u32 = 100_000;
/// Default of `server.max_connections_per_source`, a part of all: room for many people behind one address.
const PER_SOURCE: u32 = 10;
/// Of durations that the admin API has in seconds.
const WHOLE: &str = "must be whole seconds, 1s or more, like 90s or 10m";

/// Of durations that have a default.
const ABOVE_ZERO: &str = "must be above zero; leave it out for the default";

/// Not whole seconds.
fn broken(duration: Duration) -> bool {
    duration.subsec_nanos() != 0
}

/// Default of `firewall.pin_path`.
pub const PIN_PATH: &str = "/sys/fs/bpf/mc-proxy";

impl Config {
    /// Checks a raw configuration; relative paths are below `root`.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the file, and each key with what is wrong with it.
    pub fn check(raw: Raw, file: &Path, root: &Path) -> Result<Self, InvalidConfig> {
        let mut problems = problems(&raw);
        let seed = seed::check(&raw, root, &mut problems);
        if !problems.is_empty() {
            let file = file.display().to_string();
            return Err(InvalidConfig { file, problems });
        }
        let under_root = |path: Option<PathBuf>, default: &str| {
            root.join(path.unwrap_or_else(|| default.into()))
        };
        Ok(Self {
            file: file.to_owned(),
            admin_socket: under_root(raw.server.admin_socket, "admin.sock"),
            database: under_root(raw.database.path, "mc-proxy.db"),
            lock: root.join("mc-proxy.lock"),
            log: raw.log,
            metrics: raw.metrics.listen,
            interfaces: raw.firewall.interfaces,
            pin_path: raw.firewall.pin_path.unwrap_or_else(|| PIN_PATH.into()),
            unparsed: raw.firewall.unparsed,
            log_sample: raw.firewall.log_sample,
            geoip: raw.geoip.database.map(|p| root.join(p)),
            max_connections: raw.server.max_connections.unwrap_or(MAX_CONNECTIONS),
            max_connections_per_source: raw.server.max_connections_per_source,
            drain_timeout: raw.server.drain_timeout.unwrap_or(DRAIN_TIMEOUT),
            upgrade_drain_timeout: raw
                .server
                .upgrade_drain_timeout
                .unwrap_or(UPGRADE_DRAIN_TIMEOUT),
            engine: raw.relay.engine.map_or(EngineKind::Copy, Into::into),
            client_hello_timeout: raw
                .relay
                .client_hello_timeout
                .unwrap_or(CLIENT_HELLO_TIMEOUT),
            connect_timeout: raw.relay.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: raw.relay.idle_timeout.unwrap_or(IDLE_TIMEOUT),
            max_age: raw.relay.max_age,
            mcias: raw.mcias.map(|mcias| Mcias {
                server_url: mcias.server_url,
                ca_cert: root.join(mcias.ca_cert),
                token_file: root.join(mcias.token_file),
            }),
            seed,
            contents: None,
            warnings: Vec::new(),
        })
    }

    /// Connections that one source may hold: by default a part of all that there may be, also where these were cut.
    #[must_use]
    pub fn per_source(&self) -> u32 {
        let part = (self.max_connections / PER_SOURCE).max(1);
        self.max_connections_per_source.unwrap_or(part)
    }
}

/// What is wrong besides the seed.
fn problems(raw: &Raw) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut invalid = |key: &str, reason: String| problems.push((key.to_owned(), reason));
    if let Some(listen) = raw.metrics.listen.filter(|l| !l.ip().is_loopback()) {
        let reason = format!(
            "{listen} is not a loopback address; use 127.0.0.1 and let the scraper reach it there"
        );
        invalid("metrics.listen", reason);
    }
    let (idle, age) = (raw.relay.idle_timeout, raw.relay.max_age);
    for (key, duration) in [
        ("relay.client_hello_timeout", raw.relay.client_hello_timeout),
        ("relay.connect_timeout", raw.relay.connect_timeout),
        ("relay.idle_timeout", idle),
        ("relay.max_age", age),
    ] {
        if duration.is_some_and(|d| d.is_zero()) {
            invalid(key, ABOVE_ZERO.to_owned());
        }
    }
    for (key, duration) in [("relay.idle_timeout", idle), ("relay.max_age", age)] {
        if duration.is_some_and(broken) {
            invalid(key, WHOLE.to_owned());
        }
    }
    if let Err(error) = raw.log.filter() {
        invalid("log.level", mcdsl::cli::chain(&error));
    }
    if let Some(path) = raw.firewall.pin_path.as_ref().filter(|p| !p.is_absolute()) {
        let reason = format!(
            "{} is not an absolute path on a BPF file system, like {PIN_PATH}",
            path.display()
        );
        invalid("firewall.pin_path", reason);
    }
    for (key, limit) in [
        ("server.max_connections", raw.server.max_connections),
        (
            "server.max_connections_per_source",
            raw.server.max_connections_per_source,
        ),
    ] {
        if limit == Some(0) {
            invalid(key, "must be above zero".to_owned());
        }
    }
    let named = |name: &&String| name.is_empty() || name.len() > 15;
    for name in raw.firewall.interfaces.iter().filter(named) {
        let reason = format!("{name:?} is not an interface name");
        invalid("firewall.interfaces", reason);
    }
    problems
}
