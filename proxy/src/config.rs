//! `mc-proxy.toml`: raw keys in, one typed [`Config`] out. Listeners, routes and rules in it only seed an empty
//! database; after that the database rules and a difference is reported.

// By path: the fuzz targets have this file as a module without the directory.
#[path = "config/raw.rs"]
mod raw;
#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mc_edge_common::route::MAX_BACKENDS;

use self::raw::{RawAction, RawRoute, RawRuleKind};
use crate::spec::{Action, EngineKind, Listener, Route, RouteId, Rule, RuleKind};

pub use self::raw::{Raw, UnparsedPolicy};

/// A value in the file that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {key}: {reason}")]
pub struct InvalidConfig {
    file: String,
    key: String,
    reason: String,
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
    /// [`InvalidConfig`] names the file, the key and what is wrong.
    pub fn check(raw: Raw, file: &Path, root: &Path) -> Result<Self, InvalidConfig> {
        let invalid = |key: &str, reason: String| InvalidConfig {
            file: file.display().to_string(),
            key: key.to_owned(),
            reason,
        };
        if let Some(listen) = raw.metrics.listen.filter(|l| !l.ip().is_loopback()) {
            return Err(invalid(
                "metrics.listen",
                format!(
                    "{listen} is not a loopback address; use 127.0.0.1 and let the scraper reach it there"
                ),
            ));
        }
        let durations = [
            ("relay.client_hello_timeout", raw.relay.client_hello_timeout),
            ("relay.connect_timeout", raw.relay.connect_timeout),
            ("relay.idle_timeout", raw.relay.idle_timeout),
            ("relay.max_age", raw.relay.max_age),
        ];
        if let Some((key, _)) = durations
            .iter()
            .find(|(_, d)| d.is_some_and(|d| d.is_zero()))
        {
            return Err(invalid(
                key,
                "must be above zero; leave it out for the default".into(),
            ));
        }
        let whole = [
            ("relay.idle_timeout", raw.relay.idle_timeout),
            ("relay.max_age", raw.relay.max_age),
        ];
        if let Some((key, _)) = whole.iter().find(|(_, d)| d.is_some_and(broken)) {
            return Err(invalid(key, WHOLE.to_owned()));
        }
        raw.log
            .filter()
            .map_err(|e| invalid("log.level", mcdsl::cli::chain(&e)))?;
        if let Some(path) = raw.firewall.pin_path.as_ref().filter(|p| !p.is_absolute()) {
            let reason = format!(
                "{} is not an absolute path on a BPF file system, like {PIN_PATH}",
                path.display()
            );
            return Err(invalid("firewall.pin_path", reason));
        }
        let limits = [
            ("server.max_connections", raw.server.max_connections),
            (
                "server.max_connections_per_source",
                raw.server.max_connections_per_source,
            ),
        ];
        if let Some((key, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
            return Err(invalid(key, "must be above zero".into()));
        }
        if let Some(name) = raw
            .firewall
            .interfaces
            .iter()
            .find(|n| n.is_empty() || n.len() > 15)
        {
            return Err(invalid(
                "firewall.interfaces",
                format!("{name:?} is not an interface name"),
            ));
        }
        let seed = check_seed(&raw, root).map_err(|(key, reason)| invalid(&key, reason))?;
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

fn check_seed(raw: &Raw, root: &Path) -> Result<Seed, (String, String)> {
    let mut seed = Seed::default();
    for (i, l) in raw.listeners.iter().enumerate() {
        let listener = Listener {
            id: 0,
            address: l.address,
            trusted_proxies: l.trusted_proxies.clone(),
            redirect: l.redirect,
            guarded: l.guarded.unwrap_or(true),
        };
        validate_listener(&listener)
            .map_err(|(key, reason)| (format!("listeners[{i}].{key}"), reason))?;
        if seed
            .listeners
            .iter()
            .any(|other: &Listener| other.address == listener.address)
        {
            return Err((
                format!("listeners[{i}].address"),
                format!("{} is there twice", l.address),
            ));
        }
        seed.listeners.push(listener);
    }
    for (i, r) in raw.routes.iter().enumerate() {
        let route =
            check_route(r, root).map_err(|(key, reason)| (format!("routes[{i}].{key}"), reason))?;
        if seed.routes.iter().any(|other| other.key == route.key) {
            return Err((
                format!("routes[{i}].hostname"),
                format!("{} port {} is there twice", r.hostname, r.port),
            ));
        }
        seed.routes.push(route);
    }
    for (i, r) in raw.rules.iter().enumerate() {
        let rule = Rule {
            id: 0,
            kind: match r.kind {
                RawRuleKind::Allow => RuleKind::Allow,
                RawRuleKind::Block => RuleKind::Block,
            },
            cidr: r.cidr,
            action: match r.action {
                RawAction::Drop => Action::Drop,
                RawAction::Reset => Action::Reset,
                RawAction::Observe => Action::Observe,
            },
            expires: None,
            comment: r.comment.clone(),
            created: SystemTime::now(),
        };
        crate::firewall::check_prefix(rule.kind, rule.cidr)
            .map_err(|e| (format!("rules[{i}].cidr"), e.to_string()))?;
        if seed
            .rules
            .iter()
            .any(|other| (other.kind, other.cidr) == (rule.kind, rule.cidr))
        {
            return Err((
                format!("rules[{i}].cidr"),
                format!("{} is there twice", rule.cidr),
            ));
        }
        seed.rules.push(rule);
    }
    Ok(seed)
}

fn check_route(raw: &RawRoute, root: &Path) -> Result<Route, (String, String)> {
    let hostname = raw
        .hostname
        .parse()
        .map_err(|e| ("hostname".to_owned(), format!("{}: {e}", raw.hostname)))?;
    let route = Route {
        id: 0,
        key: RouteId {
            port: raw.port,
            hostname,
        },
        backends: raw.backends.clone(),
        engine: raw.engine.map(Into::into),
        enabled: raw.enabled.unwrap_or(true),
        send_proxy: raw.send_proxy,
        connect_timeout: raw.connect_timeout,
        idle_timeout: raw.idle_timeout,
        max_age: raw.max_age,
        max_connections: raw.max_connections.filter(|n| *n > 0),
        l7: raw.l7.clone().map(|mut l7| {
            l7.resolve(root);
            l7
        }),
    };
    validate_route(&route)?;
    Ok(route)
}

/// The rules that hold for a listener wherever it comes from (config, admin API).
///
/// # Errors
/// The field and what is wrong with it.
pub fn validate_listener(listener: &Listener) -> Result<(), (String, String)> {
    if listener.address.port() == 0 {
        return Err(("address".into(), "needs a port other than 0".into()));
    }
    Ok(())
}

/// The rules that hold for a route wherever it comes from (config, admin API).
///
/// # Errors
/// The field and what is wrong with it.
pub fn validate_route(route: &Route) -> Result<(), (String, String)> {
    if route.key.port == 0 {
        return Err(("port".into(), "must be a listener's port, not 0".into()));
    }
    if route.backends.is_empty() || route.backends.len() > MAX_BACKENDS {
        return Err((
            "backends".into(),
            format!(
                "a route has 1 to {MAX_BACKENDS} backends, this one {}",
                route.backends.len()
            ),
        ));
    }
    for (i, backend) in route.backends.iter().enumerate() {
        if backend.port() == 0 || backend.ip().is_unspecified() || backend.ip().is_multicast() {
            return Err((
                "backends".into(),
                format!("{backend} cannot be connected to"),
            ));
        }
        if route.backends[..i].contains(backend) {
            return Err(("backends".into(), format!("{backend} is there twice")));
        }
    }
    for (key, duration) in [
        ("connect_timeout", route.connect_timeout),
        ("idle_timeout", route.idle_timeout),
        ("max_age", route.max_age),
    ] {
        if duration.is_some_and(|d| d.is_zero()) {
            return Err((
                key.into(),
                "must be above zero; leave it out for the default".into(),
            ));
        }
    }
    for (key, duration) in [
        ("idle_timeout", route.idle_timeout),
        ("max_age", route.max_age),
    ] {
        if duration.is_some_and(broken) {
            return Err((key.into(), WHOLE.into()));
        }
    }
    route.l7.as_ref().map_or(Ok(()), |l7| l7.validate(route))
}
