//! L7 routes: TLS ends here and HTTP is proxied.
//!
//! A listener carries both kinds; the ClientHello's name has chosen the route before a byte of TLS was answered. hyper speaks HTTP
//! with the clients and `upstream` with the backends, so that every request is parsed and written anew; what two parsers could read
//! differently is refused before it (`strict`).

mod body;
mod deliver;
mod downstream;
mod exchange;
mod flow;
mod grpc;
mod guard;
mod handshake;
mod headers;
mod proxy;
mod redirect;
mod replayed;
mod resets;
pub mod response;
mod seldom;
pub mod strict;
mod tls;
mod tunnel;
mod upstream;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use hyper::http::uri::Authority;
use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

pub use redirect::{Asks, location, redirect, redirects};

pub use tls::{Loaded, Tls, TlsError};
pub(crate) use upstream::{ConnectError, Http1Error, Http2Error, Sender, open, sweep};

use self::{headers::Told, replayed::Replayed, seldom::Seldom};
use crate::{
    connection::Context, health::state::Why, hostname::Hostname, router::LiveRoute,
    sources::Source, spec::L7,
};

/// ClientHello to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
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
    /// Whose requests are counted, those of its other connections with them.
    source: Arc<Source>,
    identity: headers::Identity,
    /// The host of the first request, found to be the route's, and what backends are told with it: most connections have no other.
    known: OnceLock<(Authority, Arc<Told>)>,
    /// Of a wildcard's connection: the last host that was found to be the route's, and by which state of the table.
    found: Mutex<Option<(Authority, u64)>>,
    limits: Limits,
    context: Arc<Context>,
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

    /// [`Loaded::number`] of [`Self::in_force`].
    fn site(&self) -> u64 {
        let current = self.route.tls.as_ref().and_then(|tls| tls.number());
        current.unwrap_or(self.loaded.number)
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

    /// Whether they still are, and always will be while there is this connection.
    fn is_for(&self, authority: &Authority) -> bool {
        if self.route.route.key.hostname.is_wildcard() {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.context.router.table.generation();
            return (found.as_ref()).is_some_and(|(a, when)| same(a, authority) && *when == now);
        }
        self.known().is_some_and(|known| same(known, authority))
    }

    /// What backends are told with a request for a host that is the route's.
    fn told(&self, authority: &Authority) -> Arc<Told> {
        let tell = || Arc::new(self.identity.told(authority));
        let (known, told) = self.known.get_or_init(|| (authority.clone(), tell()));
        if same(known, authority) {
            Arc::clone(told)
        } else {
            tell()
        }
    }

    /// Whether a request for `authority` may come over a connection of this route: a name that a wildcard matches may have a route of its own.
    fn serves(&self, authority: &Authority) -> bool {
        let key = &self.route.route.key;
        let host = authority.host().parse::<Hostname>();
        let Some(host) = host.ok().filter(|host| key.hostname.matches(host)) else {
            return false;
        };
        if !key.hostname.is_wildcard() {
            return true;
        }
        let router = &self.context.router;
        // First: a change from here on is seen by the next request.
        let when = router.table.generation();
        let found = (router.find(key.port, &host)).is_ok_and(|route| route.route.key == *key);
        if found {
            let mut last = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((authority.clone(), when));
        }
        found
    }
}

/// By their bytes: backends are told what each request says, and `Authority` takes names in other cases for the same.
fn same(one: &Authority, other: &Authority) -> bool {
    one.as_str() == other.as_str()
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
    /// What it shares with all others.
    pub context: Arc<Context>,
}

/// How a connection failed.
#[derive(Debug)]
pub struct Failure {
    /// A label for counters.
    pub reason: &'static str,
    /// It came to no request: why, for the log.
    pub denied: Option<Why>,
}

impl Failure {
    fn denied(reason: &'static str, why: impl Into<Why>) -> Self {
        Self {
            reason,
            denied: Some(why.into()),
        }
    }
}

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self {
            reason,
            denied: None,
        }
    }
}

type Serving = Pin<Box<dyn Future<Output = Result<(), &'static str>> + Send>>;

/// Serves a connection to its end. Says what went wrong with it; a request's failures are the request's.
///
/// # Errors
/// [`Failure`].
pub async fn serve(job: Job) -> Result<(), Failure> {
    let Job {
        client,
        hello,
        source,
        route,
        limits,
        context,
    } = job;
    let (drain, abort) = (context.drain.clone(), context.abort.clone());
    let loaded = route
        .tls
        .as_ref()
        .and_then(|tls| tls.current())
        .ok_or_else(|| Failure::denied("no_certificate", "none could be loaded; see status"))?;
    // hyper and TLS wait for ever to send what they hold, the end of a response for one. Fails on no TCP socket.
    let _ = SockRef::from(&client).set_tcp_user_timeout(Some(limits.idle));
    let stream = Replayed::new(hello, client);
    let tunnel = stream.tunnel();
    let began = Instant::now();
    let accepting = TlsAcceptor::from(Arc::clone(&loaded.server)).accept(stream);
    let stream = timeout(HANDSHAKE, accepting)
        .await
        .map_err(|_| Failure::denied("tls_handshake_timeout", "it was not done in time"))?
        .map_err(|error| handshake::with_client(&error))?;
    route.stats.http.handshake.observe(began.elapsed());
    let clients = &route.stats.http.clients;
    let connection = Arc::new(Connection {
        source: clients.of(source.ip()),
        route,
        loaded,
        client: source,
        identity: headers::Identity::new(source),
        known: OnceLock::new(),
        found: Mutex::new(None),
        limits,
        context,
        tunnel,
        requests: TaskTracker::new(),
        tunnels: TaskTracker::new(),
    });
    let tunnels = connection.tunnels.clone();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let flow = Arc::new(flow::Flow::default());
    let bodies = Arc::clone(&flow);
    let serving: Serving = if http2 {
        Box::pin(downstream::http2(stream, connection, bodies, drain))
    } else {
        Box::pin(downstream::http1(stream, connection, bodies, drain))
    };
    let cut = Seldom::new(async move {
        tokio::select! {
            () = abort.cancelled() => "cancelled",
            () = flow.stalled(limits.idle) => "response_stalled",
        }
    });
    let served = tokio::select! {
        biased;
        served = serving => served,
        reason = cut => Err(reason),
    };
    // They are the connection still: its places are theirs, and whoever drains waits for them.
    tunnels.close();
    tunnels.wait().await;
    Ok(served?)
}
