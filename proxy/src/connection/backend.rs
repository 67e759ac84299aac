//! The backend's side of a relayed connection, up to its first bytes.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{Context, preface::Preface};
use crate::{
    hostname::Hostname,
    http, proxy_protocol,
    router::LiveRoute,
    stats::{Active, BackendGauge},
};

/// One attempt at one backend, and the writing of the first bytes to it.
pub(super) fn connect_timeout(context: &Context, route: &LiveRoute) -> Duration {
    route
        .route
        .connect_timeout
        .unwrap_or(context.timeouts.connect)
}

/// Connects to the backend with the fewest connections; one that fails is passed over for the next.
pub(super) async fn connect(
    context: &Context,
    route: &LiveRoute,
) -> Result<(TcpStream, Active<BackendGauge>), &'static str> {
    let limit = connect_timeout(context, route);
    let mut tried = Vec::new();
    let mut reason = None;
    loop {
        let gauge = match route.take(&tried, u64::MAX) {
            Ok(gauge) => gauge,
            Err(none) => return Err(reason.unwrap_or(none.reason())),
        };
        let backend = Arc::clone(&gauge.of().0);
        let started = Instant::now();
        let attempt = timeout(limit, connect_to(backend.address)).await;
        route.stats.connect.observe(started.elapsed());
        let failed = match attempt {
            Ok(Ok(stream)) => {
                backend.connections.fetch_add(1, Relaxed);
                backend.health.succeeded();
                return Ok((stream, gauge));
            }
            Ok(Err(e)) => {
                context.log_failure(route, backend.address, &e);
                http::ConnectError::from(&e)
            }
            Err(_) => {
                context.log_failure(
                    route,
                    backend.address,
                    &format_args!("no answer in {limit:?}"),
                );
                http::ConnectError::TimedOut
            }
        };
        reason = Some(failed.reason());
        if !matches!(failed, http::ConnectError::Local) {
            route.failed(&backend, failed.reason());
        }
        tried.push(backend.address);
    }
}

pub(crate) async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    // The client's first bytes follow at once and carry the handshake's last ACK.
    SockRef::from(&socket).set_tcp_quickack(false)?;
    socket.connect(address).await
}

/// What the peer sends is acknowledged as it comes, until the kernel finds that answers follow soon enough to carry that. One that waits for it (Nagle's algorithm) before it
/// sends the rest would wait for 40 ms.
pub(crate) fn acknowledge(peer: &TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = SockRef::from(peer).set_tcp_quickack(true);
}

/// Sends the PROXY header (if the route asks for it) and the client's first bytes in one write.
pub(super) async fn send_preface(
    backend: &mut TcpStream,
    client: &TcpStream,
    route: &LiveRoute,
    sni: &Hostname,
    preface: Preface,
) -> io::Result<()> {
    let count = preface.bytes.len() as u64;
    if route.route.send_proxy {
        let mut bytes = Vec::with_capacity(preface.bytes.len() + 128);
        // What was offered is not what the backend will choose, unless there is no choice.
        let alpn = match &preface.hello.alpn[..] {
            [only] => Some(&only[..]),
            _ => None,
        };
        proxy_protocol::encode_v2(
            preface.source,
            preface
                .destination
                .map_or_else(|| client.local_addr(), Ok)?,
            Some(sni.as_str()),
            alpn,
            &mut bytes,
        );
        bytes.extend_from_slice(&preface.bytes);
        backend.write_all(&bytes).await?;
    } else {
        backend.write_all(&preface.bytes).await?;
    }
    route.stats.traffic.from_client.fetch_add(count, Relaxed);
    Ok(())
}
