//! What an operator declares, parsed once: listeners, routes, firewall rules, country policy, rate limits.
//! SQLite stores these, the kernel maps are derived from them, the admin API converts to and from them.

mod l7;
pub mod text;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use crate::hostname::HostPattern;

pub use l7::{Check, HealthCheck, L7, Protocol};

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Row id; 0 before it is stored.
    pub id: u64,
    /// Where it listens. IPv6 listeners are `IPV6_V6ONLY`.
    pub address: SocketAddr,
    /// Sources whose PROXY header is required and believed; empty = plain TCP, no PROXY header.
    pub trusted_proxies: Vec<IpNet>,
    /// Rate and country rules judge its port.
    pub guarded: bool,
    /// Speaks plain HTTP and sends clients to https on this port, instead of routing TLS.
    pub redirect: Option<u16>,
}

/// What identifies a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// The listener port.
    pub port: u16,
    /// Exact name or `*.` parent.
    pub hostname: HostPattern,
}

/// How the bytes of a connection are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Userland copy.
    Copy,
    /// sk_skb redirect in the kernel.
    Sockmap,
}

impl EngineKind {
    /// As in config, CLI and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Sockmap => "sockmap",
        }
    }
}

/// A route: a hostname on a port, and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Row id; 0 before it is stored. Never reused.
    pub id: u64,
    /// Port and hostname.
    pub key: RouteId,
    /// One to [`mc_edge_common::route::MAX_BACKENDS`] addresses.
    pub backends: Vec<SocketAddr>,
    /// `None` = the daemon's default.
    pub engine: Option<EngineKind>,
    /// A disabled route denies; it does not fall through to a wildcard.
    pub enabled: bool,
    /// Sends a PROXY v2 header to the backend.
    pub send_proxy: bool,
    /// `None` = the daemon's default, here and below.
    pub connect_timeout: Option<Duration>,
    /// No byte in either direction for this long ends the connection.
    pub idle_timeout: Option<Duration>,
    /// No connection lives longer.
    pub max_age: Option<Duration>,
    /// Concurrent connections.
    pub max_connections: Option<u32>,
    /// TLS ends here and HTTP is proxied; `None` = bytes are relayed.
    pub l7: Option<Box<L7>>,
}

/// What a firewall rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Silently.
    Drop,
    /// TCP: an RST from XDP; anything else is dropped.
    Reset,
    /// Counts and samples what would have been dropped; evaluation goes on.
    Observe,
}

/// The three kinds of address rules, in order of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// Passes whatever later rules say.
    Allow,
    /// Denies new connections and non-TCP.
    Block,
    /// Temporary; denies every packet, established flows included.
    Ban,
}

impl RuleKind {
    /// As in config, CLI and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Ban => "ban",
        }
    }
}

/// An address rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Slot of its counters, [`FIRST_RULE_ID`]` ..`; 0 before it is stored. (kind, cidr) is unique.
    pub id: u32,
    /// Allow, block or ban.
    pub kind: RuleKind,
    /// Host bits zero. A ban is an IPv4 /32 or an IPv6 /64.
    pub cidr: IpNet,
    /// Meaningless for `Allow`.
    pub action: Action,
    /// Bans only: when it ends.
    pub expires: Option<SystemTime>,
    /// The operator's note.
    pub comment: String,
    /// When it was made.
    pub created: SystemTime,
}

/// Ids below are the built-in rules' ([`mc_edge_common`]).
pub const FIRST_RULE_ID: u32 = 16;

/// ISO 3166-1 alpha-2, upper case; `??` = unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode(pub [u8; 2]);

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or("??"))
    }
}

/// Which countries may open connections to guarded ports.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CountryPolicy {
    /// `None`: the listed countries get their action, all others pass. `Some(action)`: the listed pass, all
    /// others get `action`.
    pub others: Option<Action>,
    /// Country to action (ignored when `others` is set).
    pub listed: BTreeMap<CountryCode, Action>,
}

/// A token bucket per source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Events per second, finite and above 0.
    pub per_second: f64,
    /// Events at once, 1 or more.
    pub burst: u32,
    /// What happens to those above.
    pub action: Action,
}

/// Rate limits per source; `None` = off.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RateLimits {
    /// New TCP connections to guarded ports.
    pub connections: Option<RateLimit>,
    /// TCP SYNs and non-TCP packets to guarded ports.
    pub packets: Option<RateLimit>,
}

/// One entry of a kernel map, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Map name.
    pub map: String,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// How full a kernel map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Map name.
    pub map: String,
    /// Entries in use.
    pub used: u64,
    /// Entries at most.
    pub capacity: u64,
}
