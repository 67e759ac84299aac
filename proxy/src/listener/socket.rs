//! A listening socket.

use std::{
    io,
    net::{self, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that wait in the kernel for accept; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// A peer that vanished without FIN is found out after this and nine probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A new one.
pub(super) fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    tune(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every listening socket is set to.
pub(super) fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both, which saves two calls per connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    // Inherited too: an answer follows a ClientHello soon enough to carry its ACK.
    socket.set_tcp_quickack(false)
}
