//! L7 routes: TLS ends here and HTTP is proxied.
//!
//! A listener carries both kinds; the ClientHello's name has chosen the route before a byte of TLS was answered. hyper speaks HTTP
//! with the clients and `upstream` with the backends, so that every request is parsed and written anew; what two parsers could read
//! differently is refused before it (`strict`).

mod body;
mod certificate;
mod deliver;
mod exchange;
mod flow;
mod grpc;
mod guard;
mod headers;
mod proxy;
mod redirect;
mod replayed;
mod resets;
pub mod response;
pub mod strict;
mod tls;
mod tunnel;
mod upstream;

use std::{
    convert::Infallible,
    error::Error as _,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{Duration, Instant},
};

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
    http::uri::Authority,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SetOnce},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use redirect::redirect;

pub use certificate::{CertificateError, Identity, load as load_certificate};
pub use tls::{Loaded, Tls, TlsError};
pub(crate) use upstream::{ConnectError, Http1Error, Http2Error, Sender, open, sweep};

use self::replayed::Replayed;
use crate::{hostname::Hostname, router::LiveRoute, spec::L7};

/// ClientHello to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between HTTP/2 pings: a client that does not answer is gone.
const PING: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 64 * 1024;
/// Header fields of a request.
const MAX_FIELDS: usize = 128;
/// Default of `max_streams`.
const MAX_STREAMS: u32 = 128;
/// Streams that a client may have reset before they were answered: rapid reset (CVE-2023-44487) ends the connection.
const MAX_RESET: usize = 64;
/// What a connection with too many resets has left for the answers that it waits for.
const TAKEN_BACK: Duration = Duration::from_secs(10);
/// How long a connection that is to end waits for a last request, whose response says so.
const LAST_REQUEST: Duration = Duration::from_secs(5);
/// Receive window of a stream, bytes: what a client may send that no backend has taken.
const WINDOW: u32 = 256 * 1024;
/// Bytes of a stream's response beyond which no more is taken from its body: what a client that reads nothing can make us hold, times
/// [`MAX_STREAMS`], and one frame of a body each.
const SEND_BUFFER: usize = 32 * 1024;

/// Timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One attempt at one backend.
    pub connect: Duration,
    /// No byte of a body for this long.
    pub idle: Duration,
    /// The connection is told to go after this: by the response to one more request, or by GOAWAY, which requests may cross.
    pub max_age: Option<Duration>,
}

/// What the requests of a connection share.
pub(crate) struct Connection {
    route: Arc<LiveRoute>,
    /// When it began.
    loaded: Arc<Loaded>,
    client: SocketAddr,
    identity: headers::Identity,
    /// The host of the first request, found to be the route's, and the field that tells it: most connections have no other.
    known: OnceLock<(Authority, Option<HeaderValue>)>,
    limits: Limits,
    /// Places of connections to backends.
    backends: Arc<Semaphore>,
    abort: CancellationToken,
    /// The connection itself, not a stream of it, is no longer HTTP.
    tunnel: Arc<AtomicBool>,
    /// Requests under way. Closed: there are to be no more.
    requests: TaskTracker,
    /// What began as a request of this connection and is no longer HTTP.
    tunnels: TaskTracker,
}

impl Connection {
    fn l7(&self) -> &L7 {
        self.route.route.l7.as_ref().expect("an L7 route")
    }

    /// What holds for backends now: a client may stay for longer than their CA.
    fn in_force(&self) -> Arc<Loaded> {
        let current = self.route.tls.as_ref().and_then(|tls| tls.current());
        current.unwrap_or_else(|| Arc::clone(&self.loaded))
    }

    /// Returns once it would not come about any more as it did: the route has changed, or lets other clients in.
    async fn outdated(&self) {
        tokio::select! {
            () = self.route.superseded.cancelled() => {}
            () = self.loaded.withdrawn().cancelled() => {}
        }
    }

    /// A host whose requests were found to be the route's.
    fn known(&self) -> Option<&Authority> {
        self.known.get().map(|(authority, _)| authority)
    }

    /// The Forwarded field of a request for a host that is the route's.
    fn forwarded(&self, authority: &Authority) -> Option<HeaderValue> {
        let make = || (authority.clone(), self.identity.forwarded(authority));
        let (known, forwarded) = self.known.get_or_init(make);
        if known == authority {
            forwarded.clone()
        } else {
            self.identity.forwarded(authority)
        }
    }

    /// Whether a request for `host` may come over a connection of this route.
    fn serves(&self, host: &str) -> bool {
        host.parse::<Hostname>()
            .is_ok_and(|host| self.route.route.key.hostname.matches(&host))
    }
}

/// What is served.
pub struct Job {
    /// The accepted socket.
    pub client: TcpStream,
    /// What was read of it: the ClientHello.
    pub hello: Vec<u8>,
    /// Who it is.
    pub source: SocketAddr,
    /// The route.
    pub route: Arc<LiveRoute>,
    /// Timeouts.
    pub limits: Limits,
    /// Places of connections to backends, of all clients together.
    pub backends: Arc<Semaphore>,
    /// No further requests.
    pub drain: CancellationToken,
    /// The end, at once.
    pub abort: CancellationToken,
}

/// Serves a connection to its end. Says what went wrong with it; a request's failures are the request's.
///
/// # Errors
/// A label for counters.
pub async fn serve(job: Job) -> Result<(), &'static str> {
    let Job {
        client,
        hello,
        source,
        route,
        limits,
        backends,
        drain,
        abort,
    } = job;
    let loaded = route
        .tls
        .as_ref()
        .and_then(|tls| tls.current())
        .ok_or("no_certificate")?;
    // hyper and TLS wait for ever to send what they hold, the end of a response for one. Fails on no TCP socket.
    let _ = SockRef::from(&client).set_tcp_user_timeout(Some(limits.idle));
    let stream = Replayed::new(hello, client);
    let tunnel = stream.tunnel();
    let began = Instant::now();
    let accepting = TlsAcceptor::from(Arc::clone(&loaded.server)).accept(stream);
    let stream = timeout(HANDSHAKE, accepting)
        .await
        .map_err(|_| "tls_handshake_timeout")?
        .map_err(|_| "tls_handshake")?;
    route.stats.http.handshake.observe(began.elapsed());
    let connection = Arc::new(Connection {
        route,
        loaded,
        client: source,
        identity: headers::Identity::new(source),
        known: OnceLock::new(),
        limits,
        backends,
        abort: abort.clone(),
        tunnel,
        requests: TaskTracker::new(),
        tunnels: TaskTracker::new(),
    });
    let tunnels = connection.tunnels.clone();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let flow = Arc::new(flow::Flow::default());
    let bodies = Arc::clone(&flow);
    let serving = async {
        if http2 {
            serve_http2(stream, connection, bodies, drain).await
        } else {
            serve_http1(stream, connection, bodies, drain).await
        }
    };
    let serving = async {
        tokio::select! {
            served = serving => served,
            () = flow.stalled(limits.idle) => Err("response_stalled"),
        }
    };
    let served = abort.run_until_cancelled(serving).await;
    // They are the connection still: its places are theirs, and whoever drains waits for them.
    tunnels.close();
    tunnels.wait().await;
    served.unwrap_or(Err("cancelled"))
}

/// Returns once there was no request for some time.
async fn unused(connection: &Connection, bodies: &flow::Flow) {
    loop {
        let before = bodies.moves();
        sleep(guard::IDLE.min(connection.limits.idle)).await;
        if connection.requests.is_empty() && bodies.moves() == before {
            return;
        }
    }
}

/// Until drain, a change of the route, or the connection's age says that it is enough.
async fn enough(drain: CancellationToken, connection: &Connection) {
    let told = async {
        tokio::select! {
            () = drain.cancelled() => {}
            () = connection.outdated() => {}
        }
    };
    match connection.limits.max_age {
        Some(age) => drop(timeout(age, told).await),
        None => told.await,
    }
}

/// For a client that was told to go and may be deaf to it: h2 takes its streams until it has answered the PING that comes with
/// GOAWAY. It must not go on asking by what is no longer in force, or for ever. Returns once it has had the time to take all its
/// responses.
async fn leaves(connection: &Connection) {
    sleep(LAST_REQUEST).await;
    connection.requests.close();
    connection.requests.wait().await;
    // Of the last one some may still be on its way.
    sleep(connection.limits.idle).await;
}

async fn serve_http1(
    stream: TlsStream<Replayed>,
    connection: Arc<Connection>,
    bodies: Arc<flow::Flow>,
    drain: CancellationToken,
) -> Result<(), &'static str> {
    let of = Arc::clone(&connection);
    let gate = Arc::new(guard::Gate::default());
    let stream = guard::Guarded::new(stream, Arc::clone(&gate));
    let ours = Arc::clone(&gate);
    let service = service_fn(move |request| {
        let (gate, connection) = (Arc::clone(&ours), Arc::clone(&connection));
        let bodies = Arc::clone(&bodies);
        Box::pin(async move {
            let busy = gate.busy();
            let upgrade = request.extensions().get::<OnUpgrade>().is_some();
            let Ok(mut response) = proxy::answer(connection, request).await;
            let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if upgrade {
                gate.decide(tunnel);
            }
            if gate.is_last() && !tunnel {
                let close = HeaderValue::from_static("close");
                (response.headers_mut()).insert(header::CONNECTION, close);
            }
            response.body_mut().follow(bodies.begin(), Some(busy));
            Ok::<_, Infallible>(response)
        })
    });
    let mut serving = pin!(
        http1::Builder::new()
            // The guard has its own timeouts.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEADERS)
            // The buffer may grow beyond what it is told.
            .max_header_size(MAX_HEADERS)
            .max_headers(MAX_FIELDS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    tokio::select! {
        served = &mut serving => return served.map_err(|e| reason(&e)),
        () = enough(drain, &of) => {}
    }
    // Not hyper's `graceful_shutdown`: it closes what is idle, or has not asked yet, while a request may be on its way.
    gate.last();
    serving.await.map_err(|e| reason(&e))
}

async fn serve_http2(
    stream: TlsStream<Replayed>,
    connection: Arc<Connection>,
    bodies: Arc<flow::Flow>,
    drain: CancellationToken,
) -> Result<(), &'static str> {
    let of = Arc::clone(&connection);
    let streams = connection.l7().max_streams.unwrap_or(MAX_STREAMS);
    let resets = Arc::new(resets::Resets::default());
    let account = Arc::clone(&resets);
    let asked = Arc::new(SetOnce::new());
    let asks = Arc::clone(&asked);
    let bodies_of = Arc::clone(&bodies);
    let service = service_fn(move |request| {
        let (account, connection) = (Arc::clone(&account), Arc::clone(&connection));
        let bodies = Arc::clone(&bodies);
        if !asks.initialized() {
            // Fails only if it is set, by another stream.
            let _ = asks.set(());
        }
        Box::pin(async move {
            let pending = account.pending().await;
            let Ok(mut response) = proxy::answer(connection, request).await;
            pending.answered();
            response.body_mut().follow(bodies.begin(), None);
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(MAX_HEADERS as u32)
        .max_pending_accept_reset_streams(MAX_RESET)
        .max_local_error_reset_streams(MAX_RESET)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .enable_connect_protocol();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let unused = unused(&of, &bodies_of);
    let goes = async {
        tokio::select! {
            () = enough(drain, &of) => {}
            () = unused => return,
        }
        // One that came just now asks at once, and would have come in vain.
        drop(timeout(LAST_REQUEST, asked.wait()).await);
    };
    let goes = tokio::select! {
        served = &mut serving => return served.map_err(|e| reason(&e)),
        () = resets.exceeded() => false,
        () = goes => true,
    };
    serving.as_mut().graceful_shutdown();
    if goes {
        tokio::select! {
            served = &mut serving => return served.map_err(|e| reason(&e)),
            () = resets.exceeded() => {}
            () = leaves(&of) => return Err("deaf_to_goaway"),
        }
    }
    drop(timeout(TAKEN_BACK, serving).await);
    Err("too_many_resets")
}

fn reason(error: &hyper::Error) -> &'static str {
    let timed_out = (error.source())
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
    if timed_out {
        "request_header_timeout"
    } else if error.is_parse() {
        "malformed_request"
    } else {
        "client_reset"
    }
}
