//! Moving bytes between two connected TCP sockets.
//!
//! One trait, chosen per connection. [`CopyEngine`] is always available and always correct;
//! [`SockmapEngine`] redirects in the kernel and falls back to it on the spot. Whatever ends a connection other than
//! both sides' FIN resets both sockets: a truncated stream must never look complete.
//!
//! Rejected: two tasks per connection (twice the memory and wake-ups, and a shared end to agree on).

mod copy;
mod pool;
mod sockmap;
mod sys;

use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::spec::MapFill;

pub use self::{
    copy::CopyEngine,
    pool::{BUFFER_LEN, BufferPool, MAX_SPARE},
    sockmap::{SockmapEngine, SockmapError},
};

/// When to end a connection that nobody closes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// No byte in either direction for this long; `None` = never.
    pub idle: Option<Duration>,
    /// No connection lives longer; `None` = no limit.
    pub max_age: Option<Duration>,
}

/// Bytes delivered so far, updated while the connection runs.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Client to backend.
    pub from_client: AtomicU64,
    /// Backend to client.
    pub to_client: AtomicU64,
}

/// One connection to relay. What the caller read before (ClientHello) it has written already.
#[derive(Debug)]
pub struct Job {
    /// The accepted socket.
    pub client: TcpStream,
    /// The connected socket.
    pub backend: TcpStream,
    /// Timeouts.
    pub limits: Limits,
    /// Live counters.
    pub traffic: Arc<Traffic>,
    /// Force close: both sides are reset.
    pub cancel: CancellationToken,
}

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The accepted socket.
    Client,
    /// The connected socket.
    Backend,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides sent FIN and everything was delivered.
    Closed,
    /// A side sent RST (or refused what it had yet to read); the other was reset.
    Reset(Side),
    /// [`Limits::idle`]; both sides were reset.
    Idle,
    /// [`Limits::max_age`]; both sides were reset.
    MaxAge,
    /// [`Job::cancel`]; both sides were reset.
    Cancelled,
    /// Another error on a socket, such as a retransmission timeout; both sides were reset.
    Error(Side, io::ErrorKind),
}

impl End {
    /// A stable name for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset(Side::Client) => "client_reset",
            Self::Reset(Side::Backend) => "backend_reset",
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::Cancelled => "cancelled",
            Self::Error(Side::Client, _) => "client_error",
            Self::Error(Side::Backend, _) => "backend_error",
        }
    }

    fn from_error(side: Side, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionAborted => Self::Reset(side),
            kind => Self::Error(side, kind),
        }
    }
}

/// What happened to a [`Job`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// [`Engine::name`] of the engine that moved the bytes.
    pub engine_used: &'static str,
    /// Why it was not the engine that was asked.
    pub fallback: Option<&'static str>,
}

/// Moves the bytes of one connection until it ends. Dropping the future resets both sides' state in the
/// kernel maps and closes the sockets.
pub trait Engine: Send + Sync {
    /// For logs and counters.
    fn name(&self) -> &'static str;
    /// Relays until either end, a limit or the cancel token says stop.
    fn relay(&self, job: Job) -> BoxFuture<'static, Outcome>;
    /// How full its kernel maps are, if it has any.
    fn map_fill(&self) -> Option<MapFill> {
        None
    }
}

/// How often a connection with nobody listening for its errors (a direction finished or stalled, so that no waker is
/// registered for it) is asked for them.
const ERROR_CHECK: Duration = Duration::from_secs(1);
/// Stands for "never" in a timer.
const FAR: Duration = Duration::from_secs(86_400);

/// The two timeouts of a connection behind one timer.
struct Deadlines {
    limits: Limits,
    born: Instant,
    active: Instant,
}

impl Deadlines {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            limits,
            born: now,
            active: now,
        }
    }

    fn expired(&self, now: Instant) -> Option<End> {
        if self
            .limits
            .max_age
            .is_some_and(|max| now >= self.born + max)
        {
            return Some(End::MaxAge);
        }
        (self.limits.idle)
            .is_some_and(|idle| now >= self.active + idle)
            .then_some(End::Idle)
    }

    fn next(&self, now: Instant) -> Instant {
        let idle = self.limits.idle.map(|d| self.active + d);
        let age = self.limits.max_age.map(|d| self.born + d);
        idle.into_iter().chain(age).min().unwrap_or(now + FAR)
    }
}

/// Makes closing `stream` send RST.
fn reset_on_close(stream: &TcpStream) {
    // It fails only on a socket that is already gone.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The pending error of either socket, for a connection whose wakers may not see it.
fn pending_error(client: &TcpStream, backend: &TcpStream) -> Option<End> {
    for (side, stream) in [(Side::Client, client), (Side::Backend, backend)] {
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return Some(End::from_error(side, &e)),
        }
    }
    None
}
