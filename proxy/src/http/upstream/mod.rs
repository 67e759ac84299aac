//! Connections to backends, kept for the next request.
//!
//! Each worker has a pool of its own: a connection is driven by the thread that uses it. Rejected: one pool for all (a lock
//! and a wake-up across threads per request); hyper-util's client (it hides which backend a request went to, and whether it was sent).
//!
//! What waits for a connection, or in one for its turn, counts as under way at its backend: `max_requests` is the bound of each such
//! queue, and the connect timeout covers the wait for a connection that another request makes.

mod http1;
mod upload;

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Incoming},
    client::conn::http2,
    http::{request::Parts, uri::Authority},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

pub(crate) use http1::{Error as Http1Error, Http1};

use super::{
    body::RequestBody,
    exchange::Exchange,
    response::{MAX_HEAD, Malformed},
    tls::Loaded,
};
use crate::{connection, spec::Protocol};

/// Idle HTTP/1.1 connections that a worker keeps for a backend.
const MAX_IDLE: usize = 256;
/// A connection that was idle for so long is closed: most servers keep theirs for a minute or longer.
const IDLE: Duration = Duration::from_secs(30);
/// Receive window of an HTTP/2 stream from a backend, bytes.
const WINDOW: u32 = 1 << 20;
/// Which connections are alike. A route that is replaced keeps its id, but not what it trusts: `site` is [`Loaded::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) site: u64,
    pub(super) backend: SocketAddr,
}

#[derive(Default)]
struct Slot {
    idle: Vec<(Box<Http1>, Instant)>,
    shared: Option<http2::SendRequest<RequestBody>>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one.
    making: Arc<Mutex<()>>,
    used: Option<Instant>,
}

thread_local! {
    static POOL: RefCell<HashMap<Key, Slot>> = RefCell::default();
}

/// A connection, for one request at a time or shared.
pub(crate) enum Sender<B> {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<B>),
}

/// A connection lent to one request.
pub(super) struct Lease {
    key: Key,
    sender: Sender<RequestBody>,
    /// From the pool: the backend may have closed it just now.
    reused: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("refused")]
    Refused,
    #[error("unreachable")]
    Unreachable,
    #[error("timed out")]
    TimedOut,
    #[error("TLS failed")]
    Tls,
    #[error("it does not speak the protocol")]
    Protocol,
    /// Not the backend's fault.
    #[error("this machine has no descriptor, port or memory left for it")]
    Local,
}

impl ConnectError {
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "backend_refused",
            Self::Unreachable => "backend_unreachable",
            Self::TimedOut => "backend_connect_timeout",
            Self::Tls => "backend_tls",
            Self::Protocol => "backend_protocol",
            Self::Local => "local_resources",
        }
    }
}

impl From<&io::Error> for ConnectError {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL,
            ) => Self::Local,
            _ => Self::Unreachable,
        }
    }
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error(transparent)]
    Http2(hyper::Error),
}

impl SendError {
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::Http1(http1::Error::TimedOut))
    }

    /// The client broke the request off.
    pub(super) fn is_of_client(&self) -> bool {
        matches!(self, Self::Http1(http1::Error::Request))
    }

    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => matches!(error, http1::Error::Malformed(_)),
            // What h2 takes offence at in this very response; the end of a whole connection may be another's fault.
            Self::Http2(error) => {
                error.is_parse() || self.h2().is_some_and(|e| e.is_library() && e.is_reset())
            }
        }
    }

    /// Whether the backend says that it did nothing of the request: REFUSED_STREAM, or GOAWAY with an earlier stream (RFC 9113 §8.7).
    /// h2 gives a GOAWAY of the backend as the error of later streams alone.
    pub(super) fn has_not_begun(&self) -> bool {
        self.h2().is_some_and(|error| {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            error.is_remote() && (error.is_go_away() || refused)
        })
    }

    fn h2(&self) -> Option<&h2::Error> {
        let Self::Http2(error) = self else {
            return None;
        };
        error.source()?.downcast_ref()
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Http1(http1::Error::Malformed(Malformed::TooLarge)) => "backend_head_too_large",
            Self::Http1(http1::Error::Malformed(_)) => "backend_malformed",
            Self::Http1(http1::Error::Closed) => "backend_closed",
            Self::Http1(http1::Error::TimedOut) => "response_timeout",
            Self::Http2(error) if error.is_parse_too_large() => "backend_head_too_large",
            Self::Http2(error) if error.is_parse() => "backend_malformed",
            _ if self.h2().is_some_and(h2::Error::is_library) => "backend_malformed",
            _ if self.has_not_begun() => "backend_not_begun",
            Self::Http2(error)
                if error.is_incomplete_message() || error.is_closed() || error.is_canceled() =>
            {
                "backend_closed"
            }
            _ => "backend_reset",
        }
    }
}

impl Lease {
    /// One from the pool, or a new one. Says how long it took to make.
    pub(super) async fn take(
        key: Key,
        protocol: Protocol,
        loaded: &Loaded,
        limit: Duration,
    ) -> Result<(Self, Option<Duration>), ConnectError> {
        if let Some(lease) = Self::pooled(key, protocol) {
            return Ok((lease, None));
        }
        // Waiting for the one that another request makes is part of it: else a backend that swallows SYNs would keep the last of a
        // queue for as many timeouts as are before it. Boxed: most requests have no use for all that a handshake needs.
        let taken = Box::pin(timeout(limit, Self::new(key, protocol, loaded))).await;
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
        key: Key,
        protocol: Protocol,
        loaded: &Loaded,
    ) -> Result<(Self, Option<Duration>), ConnectError> {
        if protocol == Protocol::Http1 {
            return make(key, protocol, loaded).await;
        }
        let making = with(key, |slot| Arc::clone(&slot.making));
        let _alone = making.lock().await;
        if let Some(lease) = Self::pooled(key, protocol) {
            return Ok((lease, None));
        }
        make(key, protocol, loaded).await
    }

    /// Sends a request. `body` stays where it is if nothing left. The response's body comes with it over HTTP/2, and through
    /// [`Self::http1`] otherwise.
    pub(super) async fn send(
        &mut self,
        parts: &Parts,
        host: &Authority,
        body: &mut Option<RequestBody>,
        limit: Duration,
        exchange: &Exchange,
    ) -> Result<Response<Option<Incoming>>, SendError> {
        let taken = body.take().unwrap_or_else(RequestBody::empty);
        match &mut self.sender {
            Sender::Http1(http1) => {
                let host = host.as_str().as_bytes();
                let response = http1.send(parts, host, taken, limit).await?;
                Ok(response.map(|()| None))
            }
            Sender::Http2(http2) => {
                let request = Request::from_parts(parts.clone(), taken);
                let mut sending = Box::pin(http2.try_send_request(request));
                let sent = loop {
                    let before = exchange.uploaded();
                    match timeout(limit, &mut sending).await {
                        Ok(sent) => break sent,
                        // It was still being sent.
                        Err(_) if exchange.uploaded() != before => {}
                        Err(_) => return Err(http1::Error::TimedOut.into()),
                    }
                };
                match sent {
                    Ok(response) => Ok(response.map(Some)),
                    Err(mut error) => {
                        *body = error.take_message().map(Request::into_body);
                        Err(SendError::Http2(error.into_error()))
                    }
                }
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
        let closed = match &self.sender {
            Sender::Http1(_) => true,
            // A single stream may have failed, which is the backend's doing.
            Sender::Http2(sender) => sender.is_closed(),
        };
        let stale = self.reused && closed;
        if stale {
            with(self.key, |slot| slot.idle.clear());
        }
        stale
    }

    /// No further request begins on it.
    pub(super) fn retire(&self) {
        with(self.key, |slot| slot.shared = None);
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
        if slot.idle.len() < MAX_IDLE {
            slot.idle.push((http1, Instant::now()));
        }
    });
}

fn with<T>(key: Key, work: impl FnOnce(&mut Slot) -> T) -> T {
    POOL.with_borrow_mut(|pool| {
        let slot = pool.entry(key).or_default();
        slot.used = Some(Instant::now());
        work(slot)
    })
}

fn shared(key: Key) -> Option<http2::SendRequest<RequestBody>> {
    with(key, |slot| {
        slot.shared = slot.shared.take().filter(|s| !s.is_closed());
        slot.shared.clone()
    })
}

/// Closes what this worker's pool has kept too long.
pub(crate) fn sweep() {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, slot| {
            slot.idle
                .retain(|(kept, since)| since.elapsed() < IDLE && kept.idle());
            slot.used.is_some_and(|used| used.elapsed() < IDLE) || !slot.idle.is_empty()
        });
    });
}

async fn make(
    key: Key,
    protocol: Protocol,
    loaded: &Loaded,
) -> Result<(Lease, Option<Duration>), ConnectError> {
    let started = Instant::now();
    let sender = open(key.backend, protocol, loaded).await?;
    if let Sender::Http2(sender) = &sender {
        with(key, |slot| slot.shared = Some(sender.clone()));
    }
    let lease = Lease {
        key,
        sender,
        reused: false,
    };
    Ok((lease, Some(started.elapsed())))
}

/// A new connection. It ends with its sender or its backend, whichever is first.
pub(crate) async fn open<B>(
    backend: SocketAddr,
    protocol: Protocol,
    loaded: &Loaded,
) -> Result<Sender<B>, ConnectError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = connection::connect_to(backend)
        .await
        .map_err(|e| ConnectError::from(&e))?;
    match (protocol, &loaded.backend) {
        (Protocol::Http1, _) => Ok(Sender::Http1(Box::new(Http1::new(stream)))),
        (Protocol::H2c, _) => http2(TokioIo::new(stream)).await,
        (Protocol::H2, Some((config, name))) => {
            let stream = TlsConnector::from(Arc::clone(config))
                .connect(name.clone(), stream)
                .await
                .map_err(|error| {
                    tracing::debug!(%backend, %error, "TLS with a backend failed");
                    ConnectError::Tls
                })?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(ConnectError::Protocol);
            }
            http2(TokioIo::new(stream)).await
        }
        // A checked route has its CA.
        (Protocol::H2, None) => Err(ConnectError::Tls),
    }
}

async fn http2<T, B>(io: T) -> Result<Sender<B>, ConnectError>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(IDLE)
        .handshake(io)
        .await
        .map_err(|_| ConnectError::Protocol)?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_the_backends_fault() {
        for (errno, reason) in [
            (libc::ECONNREFUSED, "backend_refused"),
            (libc::EHOSTUNREACH, "backend_unreachable"),
            (libc::ETIMEDOUT, "backend_unreachable"),
            (libc::EMFILE, "local_resources"),
            (libc::EADDRNOTAVAIL, "local_resources"),
        ] {
            let error = ConnectError::from(&io::Error::from_raw_os_error(errno));
            assert_eq!(error.reason(), reason, "errno {errno}");
        }
    }
}
