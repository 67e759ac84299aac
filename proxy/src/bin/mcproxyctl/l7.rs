//! The options of `mcproxyctl route add` that make a route an L7 route.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::human;

use crate::parse;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP (TLS ends at the proxy)")]
pub(crate) struct L7 {
    /// Certificate, PEM: the leaf, then every intermediate; makes it an L7 route
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// What the backends speak
    #[arg(long, default_value = "http1", requires = "certificate")]
    protocol: Protocol,
    /// CA certificates that the backends' must lead to; for h2
    #[arg(long, value_name = "FILE", requires = "certificate")]
    backend_ca: Option<PathBuf>,
    /// Name in the backends' certificates [default: the route's hostname]; for h2
    #[arg(long, value_name = "NAME", requires = "certificate")]
    backend_name: Option<String>,
    /// Clients need a certificate of one of these CAs
    #[arg(long, value_name = "FILE", requires = "certificate")]
    client_ca: Option<PathBuf>,
    /// Bytes of a request's body, e.g. 10MiB [default: unlimited]
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes, requires = "certificate")]
    max_body: Option<u64>,
    /// Request sent to response begun [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse::milliseconds, requires = "certificate")]
    response_timeout: Option<u32>,
    /// Requests at once on an HTTP/2 connection [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "certificate")]
    max_streams: Option<u32>,
    /// Requests under way at one backend; one client may have as many as are free [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "certificate")]
    max_requests: Option<u32>,
    /// Further attempts, for what is safe to send again [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=15), requires = "certificate")]
    retries: Option<u32>,
    /// Asks backends whether they live [default: it does not]
    #[arg(long, requires = "certificate")]
    health: Option<Check>,
    /// For an http check [default: /]
    #[arg(long, value_name = "PATH", requires = "health")]
    health_path: Option<String>,
    /// For a grpc check [default: the server as a whole]
    #[arg(long, value_name = "SERVICE", requires = "health")]
    health_service: Option<String>,
    /// Between two checks [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse::milliseconds, requires = "health")]
    health_interval: Option<u32>,
    /// For one check [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = parse::milliseconds, requires = "health")]
    health_timeout: Option<u32>,
    /// A backend that came back gets less than its share for so long; 0s = at once all of it [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse::milliseconds_or_none, requires = "certificate")]
    slow_start: Option<u32>,
    /// Logs one in so many requests; 0 = none [default: 1]
    #[arg(long, value_name = "N", requires = "certificate")]
    access_log: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// HTTP/1.1, plain
    Http1,
    /// HTTP/2, plain
    H2c,
    /// HTTP/2 over TLS 1.3
    H2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Check {
    /// Accepts a connection
    Tcp,
    /// GET answers 2xx or 3xx
    Http,
    /// grpc.health.v1 answers SERVING
    Grpc,
}

impl L7 {
    /// `None` without a certificate: then nothing else of it can be given.
    pub(crate) fn message(&self) -> Option<pb::L7> {
        let certificate = self.certificate.as_deref()?;
        let optional = |path: &Option<PathBuf>| path.as_deref().map(absolute).unwrap_or_default();
        Some(pb::L7 {
            certificate: absolute(certificate),
            key: optional(&self.key),
            protocol: match self.protocol {
                Protocol::Http1 => pb::BackendProtocol::Http1,
                Protocol::H2c => pb::BackendProtocol::H2c,
                Protocol::H2 => pb::BackendProtocol::H2,
            }
            .into(),
            backend_ca: optional(&self.backend_ca),
            backend_name: self.backend_name.clone().unwrap_or_default(),
            client_ca: optional(&self.client_ca),
            max_body_bytes: self.max_body,
            response_timeout_ms: self.response_timeout.unwrap_or(0),
            max_streams: self.max_streams.unwrap_or(0),
            max_requests: self.max_requests.unwrap_or(0),
            retries: self.retries,
            health: self.health.map(|check| pb::HealthCheck {
                check: match check {
                    Check::Tcp => pb::Check::Tcp,
                    Check::Http => pb::Check::Http,
                    Check::Grpc => pb::Check::Grpc,
                }
                .into(),
                path: self.health_path.clone().unwrap_or_default(),
                service: self.health_service.clone().unwrap_or_default(),
                interval_ms: self.health_interval.unwrap_or(0),
                timeout_ms: self.health_timeout.unwrap_or(0),
            }),
            slow_start_ms: self.slow_start,
            access_log: self.access_log,
            certificate_status: None,
        })
    }
}

/// The daemon has another working directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

/// What of it is not the default, for tables.
pub(crate) fn options(l7: &pb::L7) -> Vec<String> {
    let milliseconds = |ms: u32| human::duration(Duration::from_millis(ms.into()));
    let some = |ms: u32| (ms > 0).then(|| milliseconds(ms));
    let check = |h: &pb::HealthCheck| match h.check() {
        pb::Check::Http => "http",
        pb::Check::Grpc => "grpc",
        pb::Check::Tcp | pb::Check::Unspecified => "tcp",
    };
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let number = |n: u32| (n > 0).then(|| n.to_string());
    let health = l7.health.as_ref();
    [
        ("backend-ca", given(&l7.backend_ca)),
        ("backend-name", given(&l7.backend_name)),
        ("client-ca", given(&l7.client_ca)),
        ("max-body", l7.max_body_bytes.map(|bytes| bytes.to_string())),
        ("response-timeout", some(l7.response_timeout_ms)),
        ("max-streams", number(l7.max_streams)),
        ("max-requests", number(l7.max_requests)),
        ("retries", l7.retries.map(|n| n.to_string())),
        ("health", health.map(|h| check(h).to_owned())),
        ("health-path", health.and_then(|h| given(&h.path))),
        ("health-service", health.and_then(|h| given(&h.service))),
        ("health-interval", health.and_then(|h| some(h.interval_ms))),
        ("health-timeout", health.and_then(|h| some(h.timeout_ms))),
        ("slow-start", l7.slow_start_ms.map(milliseconds)),
        (
            "access-log",
            l7.access_log.filter(|n| *n != 1).map(|n| n.to_string()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
    .collect()
}
