//! Engines: how the bytes of a connection are moved once both sides are connected and the first bytes are sent.
//!
//! An engine owns both sockets to the end. It closes them gracefully when both directions have ended, and resets both on an error, a
//! limit or a cancelled token, so that neither side mistakes a cut stream for a complete one.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

mod copy;

pub use copy::Copy;

/// When a relay ends though nobody closed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// No byte in either direction for this long.
    pub idle: Option<Duration>,
    /// From the start of the relay.
    pub max_age: Option<Duration>,
}

/// Bytes moved, live.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From client to backend.
    pub from_client: AtomicU64,
    /// From backend to client.
    pub to_client: AtomicU64,
}

/// A connection to relay.
#[derive(Debug)]
pub struct Job {
    /// Accepted.
    pub client: TcpStream,
    /// Connected; what was read from the client before is already written to it.
    pub backend: TcpStream,
    /// When to give up.
    pub limits: Limits,
    /// Where to count.
    pub traffic: Arc<Traffic>,
    /// Ends the relay at once, with a reset of both sides.
    pub cancel: CancellationToken,
}

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Backend,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions ended with a FIN.
    Closed,
    /// A peer reset its connection, or is gone.
    Reset(Side),
    /// Another error on a peer's socket.
    Failed(Side),
    /// [`Limits::idle`].
    Idle,
    /// [`Limits::max_age`].
    MaxAge,
    /// [`Job::cancel`].
    Cancelled,
}

impl End {
    /// From a failed read or write.
    fn failed(side: Side, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Self::Reset(side),
            _ => Self::Failed(side),
        }
    }

    /// The label for counters; `None` for a good end.
    pub fn error(self) -> Option<&'static str> {
        Some(match self {
            Self::Closed => return None,
            Self::Reset(Side::Client) => "client_reset",
            Self::Reset(Side::Backend) => "backend_reset",
            Self::Failed(Side::Client) => "client_error",
            Self::Failed(Side::Backend) => "backend_error",
            Self::Idle => "idle_timeout",
            Self::MaxAge => "max_age",
            Self::Cancelled => "drain_deadline",
        })
    }
}

/// What became of a [`Job`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The engine that did it.
    pub engine: &'static str,
    /// Why that is another than the one asked.
    pub fallback: Option<&'static str>,
}

/// Moves the bytes of connections.
pub trait Engine: Send + Sync {
    /// As in config and metrics.
    fn name(&self) -> &'static str;

    /// Moves the bytes of one connection to its end.
    fn relay(&self, job: Job) -> BoxFuture<'static, Outcome>;
}
