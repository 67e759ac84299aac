//! Connections to backends, kept for the next request.
//!
//! Each worker has a pool of its own: a connection is driven by the thread that uses it. Rejected: one pool for all (a lock
//! and a wake-up across threads per request); hyper-util's client (it hides which backend a request went to, and whether it was sent).
//!
//! What waits for a connection counts as under way at its backend: `max_requests` is the bound of each such queue, and the connect
//! timeout covers the wait for one that another request makes.

mod error;
mod http1;
mod http2;
mod upload;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use hyper::{Response, http::request::Parts};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::{Sleep, timeout},
};
use tokio_rustls::TlsConnector;

pub(crate) use error::ConnectError;
pub(crate) use http1::{Error as Http1Error, Http1};
pub(super) use http2::Http2Tunnel;
pub(crate) use http2::{Error as Http2Error, Http2, Http2Body};
pub(super) use upload::field;

use self::error::SendError;
use super::{Connection, body::RequestBody, handshake, tls::Loaded};
use crate::{connection, spec::Protocol};

/// Idle HTTP/1.1 connections that a worker keeps for a backend.
const MAX_IDLE: usize = 256;
/// HTTP/2 connections that a worker makes to a backend.
const MAX_SHARED: usize = 64;
/// The backend's kernel takes nothing, or is not there, for so long: the connection ends, whatever HTTP/2 waits for.
const DEAF: Duration = Duration::from_secs(60);
/// A connection that was idle for so long is closed: most servers keep theirs for a minute or longer.
const IDLE: Duration = Duration::from_secs(30);
/// How long a backend whose response is over may take to read the rest of the request.
const LINGER: Duration = Duration::from_secs(5);
/// A connection that the backend closed while it was kept is found dead within a round trip of the request. What fails later had the
/// request, and may have done it.
const STALE: Duration = Duration::from_secs(1);

/// Which connections are alike. A route that is replaced keeps its id, but not what it trusts: `site` is [`Loaded::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) site: u64,
    pub(super) backend: SocketAddr,
}

/// One of the connections that there may be. It is held until the socket is closed.
pub(in crate::http) type Place = OwnedSemaphorePermit;

#[derive(Default)]
struct Slot {
    idle: Vec<(Box<Http1>, Instant)>,
    /// More than one where a backend takes fewer streams than are wanted.
    shared: Vec<Http2>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one.
    making: Arc<Mutex<()>>,
    used: Option<Instant>,
}

thread_local! {
    static POOL: RefCell<BTreeMap<Key, Slot>> = RefCell::default();
}

/// A connection, for one request at a time or shared.
pub(crate) enum Sender {
    Http1(Box<Http1>),
    Http2(Http2),
}

/// A connection lent to one request.
pub(super) struct Lease {
    key: Key,
    sender: Sender,
    /// From the pool: the backend may have closed it just now.
    reused: bool,
}

impl Lease {
    /// One from the pool, or a new one. Says how long it took to make.
    pub(super) async fn take(
        connection: &Connection,
        backend: SocketAddr,
    ) -> Result<(Self, Option<Duration>), ConnectError> {
        let site = connection.site();
        let protocol = connection.l7().protocol;
        if let Some(lease) = Self::pooled(Key { site, backend }, protocol) {
            return Ok((lease, None));
        }
        // Waiting for the one that another request makes is part of it: else a backend that swallows SYNs would keep the last of a
        // queue for as many timeouts as are before it. Boxed: most requests have no use for all that a handshake needs.
        let limit = connection.limits.connect;
        let taken = Box::pin(timeout(limit, Self::new(connection, backend))).await;
        taken.unwrap_or(Err(ConnectError::TimedOut))
    }

    fn pooled(key: Key, protocol: Protocol) -> Option<Self> {
        let sender = if protocol == Protocol::Http1 {
            let mut next = || with(key, |slot| slot.idle.pop().map(|(kept, _)| kept));
            std::iter::from_fn(&mut next)
                .find_map(|kept| kept.idle().then_some(kept))
                .map(Sender::Http1)?
        } else {
            Sender::Http2(shared(key)?)
        };
        Some(Self {
            key,
            sender,
            reused: true,
        })
    }

    async fn new(
        connection: &Connection,
        backend: SocketAddr,
    ) -> Result<(Self, Option<Duration>), ConnectError> {
        let (loaded, places) = (connection.in_force(), &connection.context.backends);
        let protocol = connection.l7().protocol;
        let site = loaded.number;
        let key = Key { site, backend };
        if protocol == Protocol::Http1 {
            return make(key, protocol, &loaded, places).await;
        }
        let making = with(key, |slot| Arc::clone(&slot.making));
        let _alone = making.lock().await;
        if let Some(lease) = Self::pooled(key, protocol) {
            return Ok((lease, None));
        }
        if with(key, |slot| slot.shared.len()) >= MAX_SHARED {
            return Err(ConnectError::Local);
        }
        make(key, protocol, &loaded, places).await
    }

    /// Sends a request. `told` is Host and what else HTTP/1.1 is told with it, as lines. `body` stays where it is if nothing left. The response's body comes with it over HTTP/2, and through
    /// [`Self::http1`] otherwise.
    pub(super) async fn send(
        &mut self,
        parts: &Parts,
        told: &[u8],
        body: &mut Option<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Option<Http2Body>>, SendError> {
        match &mut self.sender {
            Sender::Http1(http1) => {
                let response = http1.send(parts, told, body, limit).await?;
                Ok(response.map(|()| None))
            }
            // Boxed, or requests over HTTP/1.1 would have room for it.
            Sender::Http2(http2) => {
                let response = Box::pin(http2.send(parts, body, limit)).await?;
                Ok(response.map(Some))
            }
        }
    }

    /// The connection, if it carries one request at a time.
    pub(super) fn http1(&mut self) -> Option<&mut Http1> {
        match &mut self.sender {
            Sender::Http1(http1) => Some(http1),
            Sender::Http2(_) => None,
        }
    }

    /// The same, to look at.
    pub(super) fn as_http1(&self) -> Option<&Http1> {
        match &self.sender {
            Sender::Http1(http1) => Some(http1),
            Sender::Http2(_) => None,
        }
    }

    /// The same, for good.
    pub(super) fn into_http1(self) -> Option<Box<Http1>> {
        match self.sender {
            Sender::Http1(http1) => Some(http1),
            Sender::Http2(_) => None,
        }
    }

    /// After a failure: whether it was one of the pool's that the backend has closed since, which says nothing of the backend. Then
    /// the pool's others are closed as well: they are as old.
    pub(super) fn stale(&self) -> bool {
        let stale = self.reused
            && match &self.sender {
                Sender::Http1(http1) => http1.stale(),
                Sender::Http2(http2) => http2.stale(),
            };
        if stale {
            with(self.key, |slot| slot.idle.clear());
        }
        stale
    }

    /// No further request begins on it.
    pub(super) fn retire(&self) {
        if let Sender::Http2(this) = &self.sender {
            with(self.key, |slot| slot.shared.retain(|http2| !http2.is(this)));
        }
    }

    /// For the next request, if there may be one.
    pub(super) fn give_back(self) {
        let Sender::Http1(mut http1) = self.sender else {
            return;
        };
        let key = self.key;
        if http1.reusable() {
            keep(key, http1);
        }
    }
}

fn keep(key: Key, http1: Box<Http1>) {
    with(key, |slot| {
        // Other workers cannot close those of this one: as many places are to be free as are kept.
        if slot.idle.len() < MAX_IDLE.min(http1.free_places()) {
            let now = Instant::now();
            slot.idle.push((http1, now));
            slot.used = Some(now);
        }
    });
}

fn with<T>(key: Key, work: impl FnOnce(&mut Slot) -> T) -> T {
    POOL.with_borrow_mut(|pool| work(pool.entry(key).or_default()))
}

fn shared(key: Key) -> Option<Http2> {
    with(key, |slot| {
        slot.used = Some(Instant::now());
        slot.shared.retain(|http2| !http2.closed());
        slot.shared.iter().find_map(Http2::lend)
    })
}

/// Closes what this worker's pool has kept too long.
pub(crate) fn sweep() {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, slot| {
            slot.idle
                .retain(|(kept, since)| since.elapsed() < IDLE && kept.idle());
            let mut spare = false;
            slot.shared
                .retain(|http2| !http2.idle() || !std::mem::replace(&mut spare, true));
            slot.used.is_some_and(|used| used.elapsed() < IDLE) || !slot.idle.is_empty()
        });
    });
}

/// Closes a connection that waits for a request, whatever it is of, for one that has a request.
fn make_room() -> bool {
    POOL.with_borrow_mut(|pool| pool.values_mut().any(|slot| slot.idle.pop().is_some()))
}

async fn make(
    key: Key,
    protocol: Protocol,
    loaded: &Loaded,
    places: &Arc<Semaphore>,
) -> Result<(Lease, Option<Duration>), ConnectError> {
    let started = Instant::now();
    let free = || Arc::clone(places).try_acquire_owned().ok();
    let place = free().or_else(|| make_room().then(free).flatten());
    let place = place.ok_or(ConnectError::Local)?;
    let mut sender = open(key.backend, protocol, loaded).await?;
    match &mut sender {
        Sender::Http1(http1) => http1.hold(place),
        Sender::Http2(http2) => {
            http2.hold(place);
            // A burst would have more of it than it takes.
            if !http2.settled().await {
                return Err(ConnectError::NotHttp2);
            }
            let lent = http2.lend().ok_or(ConnectError::Protocol)?;
            let made = std::mem::replace(http2, lent);
            with(key, |slot| slot.shared.push(made));
        }
    }
    let lease = Lease {
        key,
        sender,
        reused: false,
    };
    Ok((lease, Some(started.elapsed())))
}

/// A new connection. It ends with its sender or its backend, whichever is first.
pub(crate) async fn open(
    backend: SocketAddr,
    protocol: Protocol,
    loaded: &Loaded,
) -> Result<Sender, ConnectError> {
    let stream = connection::connect_to(backend)
        .await
        .map_err(|e| ConnectError::from(&e))?;
    if protocol != Protocol::Http1 {
        watch(&stream)?;
    }
    match (protocol, &loaded.backend) {
        (Protocol::Http1, _) => Ok(Sender::Http1(Box::new(Http1::new(stream)))),
        (Protocol::H2c, _) => http2(stream).await,
        (Protocol::H2, Some((config, name))) => {
            let stream = TlsConnector::from(Arc::clone(config))
                .connect(name.clone(), stream)
                .await
                .map_err(|error| ConnectError::Tls(handshake::with_backend(&error)))?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(ConnectError::Tls(handshake::NO_HTTP2.into()));
            }
            http2(stream).await
        }
        // A checked route has its CA.
        (Protocol::H2, None) => Err(ConnectError::Tls("no backend_ca".into())),
    }
}

/// Streams wait for one another on it: it must not hang.
fn watch(stream: &TcpStream) -> Result<(), ConnectError> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(DEAF);
    let set = socket.set_tcp_keepalive(&keepalive);
    set.and_then(|()| socket.set_tcp_user_timeout(Some(DEAF)))
        .map_err(|error| ConnectError::from(&error))?;
    connection::acknowledge(stream);
    Ok(())
}

async fn http2<T>(stream: T) -> Result<Sender, ConnectError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let made = Http2::new(stream).await;
    made.map(Sender::Http2).map_err(|_| ConnectError::Protocol)
}

/// The time that a backend has for a response: from when it was last given something of the request.
struct Patience<'a> {
    limit: Duration,
    timer: Pin<&'a mut Sleep>,
    since: Option<tokio::time::Instant>,
}

impl<'a> Patience<'a> {
    /// From now on. `timer` may have been of requests before.
    fn new(limit: Duration, mut timer: Pin<&'a mut Sleep>) -> Self {
        let now = tokio::time::Instant::now();
        if timer.deadline() > now + limit {
            timer.as_mut().reset(now + limit);
        }
        let since = Some(now);
        Self {
            limit,
            timer,
            since,
        }
    }

    /// It was given something, or all that there is.
    fn given(&mut self) {
        self.since = Some(tokio::time::Instant::now());
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(cx).is_ready() {
            let Some(since) = self.since.take() else {
                return true;
            };
            self.timer.as_mut().reset(since + self.limit);
        }
        false
    }
}
