//! A new connection, before TLS: a place among the others, and who it comes from.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum_server::accept::Accept;
use ipnet::IpNet;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower::Layer as _;

use super::access::Source;
use crate::proxy_protocol::{Header, MAX_HEADER, parse};

/// For a PROXY header to come.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes connections in.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) places: Arc<Semaphore>,
    /// Whose PROXY header is believed, and demanded.
    pub(super) proxies: Arc<[IpNet]>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = TcpStream;
    type Service = tower_http::add_extension::AddExtension<
        tower_http::add_extension::AddExtension<S, Source>,
        Arc<OwnedSemaphorePermit>,
    >;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TcpStream, Self::Service)>> + Send>>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Self::Future {
        let (places, proxies) = (Arc::clone(&self.places), Arc::clone(&self.proxies));
        Box::pin(async move {
            // Beyond the bound nobody is kept waiting: the client sees at once that it cannot be.
            let place = places.try_acquire_owned();
            let place = place.map_err(|_| io::Error::other("too many connections"))?;
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr()?.ip().to_canonical();
            let source = if proxies.iter().any(|trusted| trusted.contains(&peer)) {
                let header = timeout(PROXY_TIMEOUT, read_header(&mut stream)).await;
                header
                    .map_err(|_| io::ErrorKind::TimedOut)??
                    .unwrap_or(peer)
            } else {
                peer
            };
            let service =
                tower_http::add_extension::AddExtensionLayer::new(Source(source)).layer(service);
            let service =
                tower_http::add_extension::AddExtensionLayer::new(Arc::new(place)).layer(service);
            Ok((stream, service))
        })
    }
}

/// Who the proxy speaks for; `None`: for itself. Not a byte beyond the header is taken.
async fn read_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut buffer = vec![0; MAX_HEADER];
    let seen = stream.peek(&mut buffer).await?;
    match parse(&buffer[..seen]).map_err(io::Error::other)? {
        Some((header, length)) => {
            stream.read_exact(&mut buffer[..length]).await?;
            Ok(source(&header))
        }
        None if seen == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        // To peek again would return at once: what is there is taken, and the rest read as it comes.
        None => rest_of_header(stream, &mut buffer, seen).await,
    }
}

/// Invariant: what has no end within [`MAX_HEADER`] is refused by [`parse`].
async fn rest_of_header(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    seen: usize,
) -> io::Result<Option<IpAddr>> {
    stream.read_exact(&mut buffer[..seen]).await?;
    let mut have = seen;
    loop {
        // One byte at a time: the next may be TLS. Headers that come in pieces are rare.
        stream.read_exact(&mut buffer[have..=have]).await?;
        have += 1;
        if let Some((header, _)) = parse(&buffer[..have]).map_err(io::Error::other)? {
            return Ok(source(&header));
        }
    }
}

fn source(header: &Header) -> Option<IpAddr> {
    match header {
        Header::Local => None,
        Header::Proxied { source, .. } => Some(SocketAddr::ip(source)),
    }
}
