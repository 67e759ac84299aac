//! Connections of L7 routes: they may change the worker before TLS begins.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, runtime::Handle};

use super::{Context, connect_timeout};
use crate::{
    http,
    router::LiveRoute,
    sources::Counted,
    stats::{Active, Gauge, RouteGauge},
};

/// A connection of an L7 route, of which its ClientHello was read.
pub(super) struct Hello {
    pub(super) route: Arc<LiveRoute>,
    pub(super) bytes: Vec<u8>,
    pub(super) route_gauge: Active<RouteGauge>,
    pub(super) counted: Counted,
}

/// A connection of an L7 route, before the first byte of TLS was answered.
pub struct Terminating {
    pub(super) context: Arc<Context>,
    pub(super) client: TcpStream,
    pub(super) source: SocketAddr,
    pub(super) hello: Hello,
    pub(super) active: [Active<Gauge>; 2],
}

impl Terminating {
    /// The same, to be served on another worker. `None`: that does not take it, which is counted.
    pub fn moved(self, runtime: &Handle) -> Option<Self> {
        let Self { client, .. } = self;
        match moved(client, runtime) {
            Ok(client) => Some(Self { client, ..self }),
            Err(error) => {
                let failure = http::Failure {
                    reason: "move_failed",
                    denied: Some(error.to_string().into()),
                };
                self.context
                    .count_failure(self.source, &self.hello.route, &failure);
                None
            }
        }
    }

    /// Serves HTTP to the connection's end.
    pub async fn serve(self) {
        let Self {
            context,
            client,
            source,
            hello,
            active,
        } = self;
        let Hello {
            route,
            bytes,
            route_gauge,
            counted,
        } = hello;
        let limits = http::Limits {
            connect: connect_timeout(&context, &route),
            idle: route.route.idle_timeout.unwrap_or(context.timeouts.idle),
            max_age: route.route.max_age.or(context.timeouts.max_age),
        };
        let job = http::Job {
            client,
            hello: bytes,
            source,
            route: Arc::clone(&route),
            limits,
            context: Arc::clone(&context),
        };
        if let Err(failure) = Box::pin(http::serve(job)).await {
            context.count_failure(source, &route, &failure);
        }
        drop((route_gauge, counted, active));
    }
}

/// `client` as a socket of another worker's `runtime`.
///
/// # Errors
/// If its epoll does not take it.
pub fn moved(client: TcpStream, runtime: &Handle) -> io::Result<TcpStream> {
    let _guard = runtime.enter();
    client.into_std().and_then(TcpStream::from_std)
}
