//! What an operator declares about a route whose TLS ends here. One definition for the seed (TOML) and the database (JSON).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Route, text};
use crate::hostname::Hostname;

/// Settings of an L7 route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L7 {
    /// Certificate chain, PEM: the leaf first, then every intermediate; the root may be left out.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// What the backends speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// CA certificates, PEM, that the backends' certificates must lead to. For [`Protocol::H2`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ca: Option<PathBuf>,
    /// The name that the backends' certificates must be for; by default the route's hostname. For [`Protocol::H2`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_name: Option<Hostname>,
    /// CA certificates, PEM: clients need a certificate of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Bytes of a request's body; `None` = no limit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::size"
    )]
    pub max_body: Option<u64>,
    /// Request sent to response headers received; `None` = the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::de",
        serialize_with = "humantime_serde::serialize"
    )]
    pub response_timeout: Option<Duration>,
    /// Requests at once on an HTTP/2 connection; `None` = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
    /// Requests under way at one backend; above it others are used, or 503. `None` = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Attempts after the first, for what is safe to retry; `None` = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How backends are asked whether they live; `None` = they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// How long a backend that came back gets less than its share; `None` = the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::de",
        serialize_with = "humantime_serde::serialize"
    )]
    pub slow_start: Option<Duration>,
    /// One in so many requests is logged; 0 = none.
    #[serde(default = "every")]
    pub access_log: u32,
}

const fn every() -> u32 {
    1
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 in plain text.
    #[default]
    Http1,
    /// HTTP/2 in plain text, with prior knowledge (RFC 9113 §3.3).
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl L7 {
    /// Its files, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [
            ("certificate", Some(&self.certificate)),
            ("key", Some(&self.key)),
            ("backend_ca", self.backend_ca.as_ref()),
            ("client_ca", self.client_ca.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
    }

    /// Relative paths are below `root`.
    pub fn resolve(&mut self, root: &Path) {
        for path in [&mut self.certificate, &mut self.key]
            .into_iter()
            .chain(&mut self.backend_ca)
            .chain(&mut self.client_ca)
        {
            *path = root.join(&path);
        }
    }

    /// What of it cannot be, as far as that shows without its files: keys of the route, and why.
    #[must_use]
    pub fn problems(&self, route: &Route) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if route.send_proxy {
            problems.push((
                "send_proxy".to_owned(),
                "is for relayed routes; an L7 route tells its backends in Forwarded".to_owned(),
            ));
        }
        if route.engine.is_some() {
            problems.push(("engine".to_owned(), "is for relayed routes".to_owned()));
        }
        let mut invalid =
            |key: &str, reason: &str| problems.push((format!("l7.{key}"), reason.to_owned()));
        for (key, path) in self.files() {
            // It is printed to terminals.
            if path.to_string_lossy().contains(char::is_control) {
                let reason = format!("{path:?} has a control character; name the file otherwise");
                invalid(key, &reason);
            }
        }
        for (key, path) in self.files().filter(|(_, path)| !path.is_absolute()) {
            invalid(key, &format!("{} is not an absolute path", path.display()));
        }
        if (self.protocol == Protocol::H2) != self.backend_ca.is_some() {
            invalid("backend_ca", "is needed for protocol h2, and only for it");
        }
        if self.protocol == Protocol::H2
            && self.backend_name.is_none()
            && route.key.hostname.as_str().starts_with('*')
        {
            invalid(
                "backend_name",
                "is needed: the route's hostname is a wildcard",
            );
        }
        let health = self.health.as_ref();
        for (key, duration) in [
            ("response_timeout", self.response_timeout),
            ("health.interval", health.and_then(|h| h.interval)),
            ("health.timeout", health.and_then(|h| h.timeout)),
        ] {
            if duration.is_some_and(|d| d.is_zero()) {
                invalid(key, "must be above zero; leave it out for the default");
            }
            // Clocks are added to it.
            if duration.is_some_and(|d| d > LONGEST) {
                invalid(key, "must be 365d at most");
            }
        }
        for (key, number) in [
            ("max_streams", self.max_streams),
            ("max_requests", self.max_requests),
        ] {
            if number == Some(0) {
                invalid(key, "must be above zero; leave it out for the default");
            }
        }
        if self.retries.is_some_and(|n| n > MAX_RETRIES) {
            invalid("retries", "is more than 15, the other backends of a route");
        }
        if self.protocol == Protocol::Http1 && health.is_some_and(|h| h.check == Check::Grpc) {
            invalid("health.check", "grpc needs protocol h2c or h2");
        }
        for (key, reason) in health.into_iter().flat_map(HealthCheck::problems) {
            invalid(key, reason);
        }
        problems
    }
}

/// Of a backend's timeouts.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// [`mc_edge_common::route::MAX_BACKENDS`] less the first.
const MAX_RETRIES: u32 = 15;

impl HealthCheck {
    fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if self.path.is_some() && self.check != Check::Http {
            problems.push(("health.path", "is for check http"));
        }
        if self.service.is_some() && self.check != Check::Grpc {
            problems.push(("health.service", "is for check grpc"));
        }
        let path =
            |path: &String| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        if !self.path.as_ref().is_none_or(path) {
            problems.push(("health.path", "begins with / and has no spaces"));
        }
        problems
    }
}

impl Protocol {
    /// As in config, CLI and log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::H2 => "h2",
        }
    }
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: [routes.l7.health] with check = \"tcp\", \"http\" or \"grpc\""
)]
pub struct HealthCheck {
    /// What is asked.
    pub check: Check,
    /// For [`Check::Http`]: from `/` on; `None` = `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For [`Check::Grpc`]; `None` = the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Between two checks; `None` = the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::de",
        serialize_with = "humantime_serde::serialize"
    )]
    pub interval: Option<Duration>,
    /// For one check; `None` = the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::de",
        serialize_with = "humantime_serde::serialize"
    )]
    pub timeout: Option<Duration>,
}

/// What a health check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Does it accept a connection (and speak TLS, for [`Protocol::H2`])?
    Tcp,
    /// Does GET answer 2xx or 3xx?
    Http,
    /// Does `grpc.health.v1.Health/Check` answer SERVING?
    Grpc,
}
