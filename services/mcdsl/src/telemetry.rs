//! Logs and metrics.
//!
//! Logs go to stderr through tracing, as text or JSON; what libraries log through the `log` crate (aya-log) comes
//! out of the same pipe. Metrics are pulled by Prometheus from a small endpoint that cannot hurt the service: few
//! connections, one request each, a deadline for everything, and on loopback unless the operator says otherwise.

use std::{
    fmt,
    future::Future,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

/// Connections to the metrics endpoint at once: a few Prometheus servers and a curious operator.
const MAX_CONNECTIONS: usize = 16;
/// A connection lives no longer, however slowly its peer reads or writes.
const DEADLINE: Duration = Duration::from_secs(10);
/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogConfig {
    /// A level, or tracing's directives, e.g. "info,mc_proxy::relay=debug".
    #[serde(default = "info")]
    pub level: String,
}

fn info() -> String {
    "info".to_owned()
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: info() }
    }
}

/// What a directive without a target is; tracing takes any other word for a target, and would log nothing else.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogConfig {
    /// Reads the level.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] or [`TelemetryError::Level`].
    pub fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        let level = &self.level;
        // Fields of a span, in brackets, may hold commas.
        let plain = (!level.contains('[')).then(|| level.split(',').map(str::trim));
        let unknown = plain.into_iter().flatten().find(|directive| {
            let known = LEVELS.iter().any(|l| l.eq_ignore_ascii_case(directive));
            !directive.is_empty() && !directive.contains('=') && !known
        });
        if let Some(unknown) = unknown {
            return Err(TelemetryError::Level(unknown.to_owned()));
        }
        EnvFilter::builder()
            .parse(level)
            .map_err(|source| TelemetryError::Filter {
                level: level.clone(),
                source,
            })
    }
}

/// A failure to start logs or metrics.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `[log] level` is not a filter.
    #[error(
        "[log] level {level:?} is not a log filter; write e.g. \"info\" or \"info,mc_proxy=debug\""
    )]
    Filter {
        /// The text.
        level: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word that is none.
    #[error(
        "{0:?} is not a log level; write off, error, warn, info, debug or trace, or one for a target, like mc_proxy=debug"
    )]
    Level(String),
    /// The process has a log already.
    #[error("cannot install the log: one is installed already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
    /// The metrics address is reachable from other machines.
    #[error(
        "the metrics address {0} is not loopback, and metrics name hosts and counts; use 127.0.0.1 or [::1], or \
         allow it explicitly"
    )]
    NotLoopback(SocketAddr),
    /// The metrics address cannot be bound.
    #[error("cannot listen on the metrics address {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts the log of this process, on stderr.
///
/// # Errors
/// [`TelemetryError::Filter`], or [`TelemetryError::Installed`] the second time.
pub fn init(config: &LogConfig, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = config.filter()?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A disk that is full or a reader that is gone: it would say so on stderr, and panic since it cannot.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    // `try_init` also bridges the `log` crate.
    match format {
        LogFormat::Text => log.finish().try_init(),
        LogFormat::Json => log.json().flatten_event(true).finish().try_init(),
    }
    .map_err(TelemetryError::Installed)
}

/// Binds the metrics endpoint; refuses an address that is not loopback unless `allow_remote`.
///
/// # Errors
/// [`TelemetryError::NotLoopback`] or [`TelemetryError::Bind`].
pub async fn bind_metrics(
    address: SocketAddr,
    allow_remote: bool,
) -> Result<TcpListener, TelemetryError> {
    if !allow_remote && !address.ip().to_canonical().is_loopback() {
        return Err(TelemetryError::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| TelemetryError::Bind { address, source })
}

/// Serves `/metrics` (what `render` gives, on a blocking thread: it may read kernel maps; or 500 with its error) and
/// `/healthz` until cancelled.
///
/// # Errors
/// If the listener fails for good.
pub async fn serve_metrics<E: std::error::Error + Send + 'static>(
    listener: TcpListener,
    render: impl Fn() -> Result<String, E> + Send + Sync + 'static,
    cancel: CancellationToken,
) -> io::Result<()> {
    let render = Arc::new(render);
    let metrics = move || {
        let render = Arc::clone(&render);
        async move {
            let rendered = tokio::task::spawn_blocking(move || render()).await;
            let reason = match rendered {
                Ok(Ok(text)) => {
                    return ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response();
                }
                Ok(Err(error)) => crate::cli::chain(&error),
                Err(panicked) => panicked.to_string(),
            };
            tracing::error!(error = reason, "cannot render the metrics");
            let answer = format!("cannot render the metrics: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, answer).into_response()
        }
    };
    // One request a connection: a deadline then never cuts a keep-alive connection at the wrong moment.
    let close = axum::middleware::map_response(async |mut r: axum::response::Response| {
        let close = header::HeaderValue::from_static("close");
        r.headers_mut().insert(header::CONNECTION, close);
        r
    });
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .layer(close);
    let bounded = Bounded {
        listener,
        permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    axum::serve(bounded, app)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await
}

/// Accepts only while fewer than [`MAX_CONNECTIONS`] are open; others wait in the backlog.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending().await
        };
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        let io = Mortal {
            stream,
            death: Box::pin(sleep_until(Instant::now() + DEADLINE)),
            _permit: permit,
        };
        (io, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct Mortal {
    stream: TcpStream,
    death: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Mortal {
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.death.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
