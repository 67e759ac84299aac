//! A service's server: TLS 1.3, gRPC and REST from one definition, pages, health, metrics; who may call what is decided here
//! ([`access`]), and what clients may hold is bounded in number and time: connections, streams, heads, bodies, and how long an answer
//! waits to be taken.
//!
//! Both ports answer alike, and tell gRPC from the rest by its Content-Type: two are a convention of deployment, not of code. Connections are
//! axum-server's. Rejected: tonic's own server, which knows neither other routes nor a certificate that changes.

mod accept;
mod access;
mod api;
mod bearer;
mod bodies;
mod body;
mod check;
mod disk;
mod failures;
mod head;
mod health;
mod host;
mod idle;
mod linger;
mod local;
mod places;
mod plain;
mod prefix;
mod probe;
mod public;
mod public_streams;
mod record;
mod reflection;
mod rest;
mod status;
mod streams;
mod tls;
mod unproxied;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::Request};
use axum_server::{
    Handle as Connections, accept::Accept, service::SendService, tls_rustls::RustlsAcceptor,
};
use hyper::body::Incoming;
use ipnet::IpNet;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use access::{About, Attempt, Caller, Source};
pub use api::api;
pub use bearer::{NotOne, bearer};
pub use body::status as body_status;
pub use check::{Checked, Examined, needs_capability};
pub use disk::{Scarce, little_left};
pub use failures::{Failures, Untold};
pub use local::Local;
#[cfg(feature = "web")]
pub(crate) use places::Connection;
pub use places::network;
pub use probe::Found;
pub use public::public;
pub use record::{Audit, Recorder};
pub(crate) use rest::code_name;
pub use rest::refusal;
pub use status::{REASON, UNFIT, UNWRITTEN};
pub use tls::{State as TlsState, TlsError};

use self::{api::Built, bodies::Bodies, health::Causes, places::Places};
use crate::{
    auth::Authenticator,
    cidr,
    config::{ConfigError, SettingError, with_port},
    shutdown::Shutdown,
    telemetry::{self, TelemetryError},
};

/// Connections at once.
const MAX_CONNECTIONS: usize = 4096;
/// Open files that are not for connections: databases, what is listened on, connections to others.
const RESERVED_FILES: usize = 128;
/// Streams of a connection at once.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's head.
const MAX_HEADERS: u32 = 32 * 1024;
/// For the head of a request over HTTP/1.1 to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between HTTP/2 pings: a client that does not answer is gone.
const PING: Duration = Duration::from_secs(60);
/// For requests under way when the service stops.
const GRACE: Duration = Duration::from_secs(10);

/// `[server]`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// HTTPS: pages and REST.
    pub listen: SocketAddr,
    /// gRPC.
    pub grpc_listen: SocketAddr,
    /// Certificate and its chain, PEM.
    pub tls_cert: PathBuf,
    /// Its private key, PEM.
    pub tls_key: PathBuf,
    /// What the chain must lead to, PEM. Without it any CA will do.
    pub tls_ca: Option<PathBuf>,
    /// Prometheus' endpoint; loopback only.
    pub metrics_listen: Option<SocketAddr>,
    /// Networks of proxies that tell the client's address (PROXY protocol, version 1 or 2), which they must.
    #[serde(default, deserialize_with = "cidr::list")]
    pub trusted_proxies: Vec<IpNet>,
}

impl Config {
    /// Makes its paths the root's, and takes the ports of `$PORT` (HTTPS) and `$PORT_GRPC`.
    ///
    /// # Errors
    /// [`ConfigError::Port`].
    pub fn settle(
        &mut self,
        root: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        self.listen = with_port(self.listen, None, &env)?;
        self.grpc_listen = with_port(self.grpc_listen, Some("grpc"), &env)?;
        let paths = [&mut self.tls_cert, &mut self.tls_key];
        for path in paths.into_iter().chain(self.tls_ca.as_mut()) {
            *path = root.join(&*path);
        }
        Ok(())
    }
}

/// What a service is.
pub struct App {
    /// Its package, e.g. `metacircular.mcias.v1`.
    pub package: &'static str,
    /// The implementations of its methods.
    pub grpc: Routes,
    /// Pages, and what no definition has.
    pub web: Router,
    /// What is below `/v1/` beside REST and has no definition: media types of their own, for anybody. Their bodies are as short as those of public methods.
    pub plain: Router,
    /// Knows tokens.
    pub authenticator: Arc<dyn Authenticator>,
    /// Writes down what the methods have not. `None` only if no method of the package is audited.
    pub audit: Option<Arc<dyn Audit>>,
    /// Whether methods that need an unsealed service are refused.
    pub sealed: watch::Receiver<bool>,
    /// Prometheus' text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration; see [`Config::check`].
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No metrics.
    #[error(transparent)]
    Metrics(#[from] TelemetryError),
    /// Calls would have no record.
    #[error(
        "methods of {0} are audited, and there is nothing to write it: give App.audit a Recorder"
    )]
    Audit(&'static str),
    /// The definitions that this program was built with.
    #[error("the definitions of the service cannot be used: {0}")]
    Definition(String),
}

/// A server that runs.
pub struct Handle {
    /// Where HTTPS is.
    pub address: SocketAddr,
    /// Where gRPC is.
    pub grpc: SocketAddr,
    /// Where metrics are.
    pub metrics: Option<SocketAddr>,
    tls: Arc<tls::Tls>,
    serving: watch::Sender<bool>,
    /// Whether the disk takes what is written.
    writable: watch::Sender<bool>,
    scarce: Arc<disk::Scarce>,
    grpc_router: Router,
}

impl Handle {
    /// Has `local` answer as this server does.
    pub fn answer(&self, local: &Local) {
        local.set(self.grpc_router.clone());
    }

    /// Whether the service takes calls, as far as it knows itself; from the start it does. Health and `/healthz` say so while it is neither
    /// sealed nor stopping, and its disk ([`Self::follow_disk`]) has room.
    pub fn set_serving(&self, serving: bool) {
        self.serving.send_replace(serving);
    }

    /// How the last load of the certificate went.
    #[must_use]
    pub fn tls(&self) -> TlsState {
        self.tls.state()
    }

    /// Reads the certificate again (SIGHUP); off the async threads, since it reads files.
    pub fn reload(&self) {
        self.tls.reload(true);
    }
}

/// [`App::sealed`] of a service that never is.
#[must_use]
pub fn never_sealed() -> watch::Receiver<bool> {
    watch::channel(false).1
}

/// Starts it; it stops with `shutdown`.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config, app: App, shutdown: &Shutdown) -> Result<Handle, StartError> {
    start_checked(config.check()?, app, shutdown).await
}

/// [`start`], of a configuration that was checked before.
///
/// # Errors
/// [`StartError`].
pub async fn start_checked(
    checked: Checked,
    app: App,
    shutdown: &Shutdown,
) -> Result<Handle, StartError> {
    start_with(checked, app, shutdown, most_connections(), Bodies::new()).await
}

/// With so many connections at once, and so much memory for bodies.
async fn start_with(
    checked: Checked,
    app: App,
    shutdown: &Shutdown,
    connections: usize,
    for_bodies: Arc<Bodies>,
) -> Result<Handle, StartError> {
    let Checked { config, tls } = checked;
    let tls = Arc::new(tls);
    let metrics = match config.metrics_listen {
        Some(address) => Some(telemetry::bind_metrics(address, false).await?),
        None => None,
    };
    let (serving, serves) = watch::channel(true);
    let (writable, is_writable) = watch::channel(true);
    let Built {
        router,
        grpc: grpc_router,
        metrics: render,
        mut health,
        access,
    } = api::router(app, shutdown, for_bodies)?;
    let sealed = access.sealed.clone();
    let is_sealed = *sealed.borrow();
    health.say(true, is_sealed).await;
    let draining = CancellationToken::new();
    let places = Places::new(connections);
    let door = accept::Door {
        places: Arc::clone(&places),
        proxies: config.trusted_proxies.clone().into(),
    };
    let acceptor = accept::Acceptor {
        door,
        tls: RustlsAcceptor::new(tls.config()),
    };
    let mut addresses = [config.listen, config.grpc_listen];
    for address in &mut addresses {
        let failed = |source| StartError::Listen {
            address: *address,
            source,
        };
        let listener = TcpListener::bind(*address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let server = axum_server::Server::<SocketAddr>::from_listener(listener);
        let server = server.acceptor(acceptor.clone());
        serve(server, router.clone(), draining.clone(), shutdown);
        *address = bound;
    }
    let handle = Handle {
        address: addresses[0],
        grpc: addresses[1],
        metrics: metrics.as_ref().and_then(|m| m.local_addr().ok()),
        tls: Arc::clone(&tls),
        serving,
        writable,
        scarce: Arc::clone(&access.scarce),
        grpc_router,
    };
    let scarce = Arc::clone(&access.scarce);
    let causes = Causes {
        serving: serves,
        writable: is_writable,
        sealed,
    };
    let stop = shutdown.token().clone();
    shutdown.spawn("health", health.watch(causes, stop, draining));
    if let Some(listener) = metrics {
        let token = shutdown.token().clone();
        shutdown.spawn("metrics", async move {
            let render = move || {
                let own = format!("{}{}", places.metrics(), scarce.metrics());
                Ok::<_, std::convert::Infallible>(with(&render(), &own))
            };
            if let Err(error) = telemetry::serve_metrics(listener, render, token).await {
                tracing::error!(%error, "no metrics any more");
            }
        });
    }
    let token = shutdown.token().clone();
    shutdown.spawn("certificate", async move {
        while token
            .run_until_cancelled(tokio::time::sleep(tls::INTERVAL))
            .await
            .is_some()
        {
            let tls = Arc::clone(&tls);
            // It reads files. Fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || tls.reload(false)).await;
        }
    });
    Ok(handle)
}

/// Takes what the hard limit of open files allows, and says how many connections that is.
fn most_connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    let limit = raised.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit of open files");
        getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
    });
    let files = usize::try_from(limit).unwrap_or(usize::MAX);
    let most = files
        .saturating_sub(RESERVED_FILES)
        .clamp(1, MAX_CONNECTIONS);
    if most < MAX_CONNECTIONS {
        tracing::warn!(
            connections = most,
            "the limit of open files allows fewer connections than {MAX_CONNECTIONS}; raise it (LimitNOFILE= in systemd's unit)"
        );
    }
    most
}

/// The service's metrics and the server's.
fn with(service: &str, server: &str) -> String {
    const END: &str = "# EOF\n";
    let service = service.strip_suffix(END).unwrap_or(service);
    format!("{service}{server}{END}")
}

fn serve<A>(
    server: axum_server::Server<SocketAddr, A>,
    router: Router,
    draining: CancellationToken,
    shutdown: &Shutdown,
) where
    A: Accept<TcpStream, Router> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let connections = Connections::new();
    let mut server = server.handle(connections.clone());
    let builder = server.http_builder();
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEADERS as usize);
    builder
        .http2()
        .timer(hyper_util::rt::TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING);
    shutdown.spawn("server", async move {
        let stop = async {
            draining.cancelled().await;
            connections.graceful_shutdown(Some(GRACE));
            std::future::pending::<()>().await;
        };
        let serving: Pin<Box<dyn Future<Output = io::Result<()>> + Send>> =
            Box::pin(server.serve(router.into_make_service()));
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the server ended");
            },
            () = stop => {}
        }
    });
}

#[cfg(test)]
mod tests;
