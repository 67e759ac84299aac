//! The file, key by key.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use crate::spec::{EngineKind, L7, text};

/// The file as written. Unknown keys are refused by the loader.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Raw {
    pub(super) server: RawServer,
    pub(super) database: RawDatabase,
    pub(super) log: mcdsl::telemetry::LogConfig,
    pub(super) metrics: RawMetrics,
    pub(super) firewall: RawFirewall,
    pub(super) geoip: RawGeoip,
    pub(super) relay: RawRelay,
    pub(super) mcias: Option<RawMcias>,
    pub(super) listeners: Vec<RawListener>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) rules: Vec<RawRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawServer {
    pub(super) admin_socket: Option<PathBuf>,
    #[serde(deserialize_with = "text::de")]
    pub(super) drain_timeout: Option<Duration>,
    #[serde(deserialize_with = "text::de")]
    pub(super) upgrade_drain_timeout: Option<Duration>,
    pub(super) max_connections: Option<u32>,
    pub(super) max_connections_per_source: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawDatabase {
    pub(super) path: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawMetrics {
    #[serde(deserialize_with = "text::de")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawFirewall {
    pub(super) interfaces: Vec<String>,
    pub(super) pin_path: Option<PathBuf>,
    pub(super) unparsed: UnparsedPolicy,
    pub(super) log_sample: u32,
}

/// What happens to a packet that the firewall cannot parse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnparsedPolicy {
    /// Dropped.
    #[default]
    Drop,
    /// Passed to the kernel's stack.
    Pass,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawGeoip {
    pub(super) database: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawMcias {
    pub(super) server_url: String,
    pub(super) ca_cert: PathBuf,
    pub(super) token_file: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRelay {
    pub(super) engine: Option<RawEngine>,
    #[serde(deserialize_with = "text::de")]
    pub(super) client_hello_timeout: Option<Duration>,
    #[serde(deserialize_with = "text::de")]
    pub(super) connect_timeout: Option<Duration>,
    #[serde(deserialize_with = "text::de")]
    pub(super) idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "text::de")]
    pub(super) max_age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEngine {
    Copy,
    Sockmap,
}

impl From<RawEngine> for EngineKind {
    fn from(raw: RawEngine) -> Self {
        match raw {
            RawEngine::Copy => Self::Copy,
            RawEngine::Sockmap => Self::Sockmap,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawListener {
    #[serde(deserialize_with = "text::de")]
    pub(super) address: SocketAddr,
    #[serde(default, deserialize_with = "text::de")]
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) guarded: Option<bool>,
    pub(super) redirect: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawRoute {
    pub(super) hostname: String,
    pub(super) port: u16,
    #[serde(deserialize_with = "text::de")]
    pub(super) backends: Vec<SocketAddr>,
    pub(super) engine: Option<RawEngine>,
    pub(super) enabled: Option<bool>,
    #[serde(default)]
    pub(super) send_proxy: bool,
    #[serde(default, deserialize_with = "text::de")]
    pub(super) connect_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "text::de")]
    pub(super) idle_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "text::de")]
    pub(super) max_age: Option<Duration>,
    pub(super) max_connections: Option<u32>,
    pub(super) l7: Option<Box<L7>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawRule {
    pub(super) kind: RawRuleKind,
    #[serde(deserialize_with = "text::de")]
    pub(super) cidr: IpNet,
    #[serde(default)]
    pub(super) action: RawAction,
    #[serde(default)]
    pub(super) comment: String,
}

// A ban is temporary, so a seed cannot hold one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRuleKind {
    Allow,
    Block,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAction {
    #[default]
    Drop,
    Reset,
    Observe,
}
