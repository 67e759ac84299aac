//! A new connection: a place among the others, who it comes from, TLS.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum_server::{accept::Accept, tls_rustls::RustlsAcceptor};
use ipnet::IpNet;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::server::TlsStream;
use tower::Layer as _;
use tower_http::add_extension::{AddExtension, AddExtensionLayer};

use super::{
    access::Source,
    idle::{Activity, Timed},
    places::{Place, Places, Refusal},
    plain, unproxied,
};
use crate::proxy_protocol::{Header, MAX_HEADER, ProxyError, parse};

/// For a PROXY header to come.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom connections come from, and whether there is a place for them.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) places: Arc<Places>,
    /// Whose PROXY header is believed, and demanded.
    pub(super) proxies: Arc<[IpNet]>,
}

/// Takes connections in, over TLS.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) door: Door,
    pub(super) tls: RustlsAcceptor,
}

/// What a service is told of the connection: its source and its requests. It holds the place.
type Told<S> = AddExtension<AddExtension<AddExtension<S, Source>, Arc<Activity>>, Arc<Place>>;

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Timed<TlsStream<TcpStream>>;
    type Service = Told<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let acceptor = self.clone();
        Box::pin(async move {
            let tls = |mut stream: TcpStream, service| {
                let tls = acceptor.tls.clone();
                async move {
                    plain::refuse(&mut stream).await?;
                    tls.accept(stream, service).await
                }
            };
            acceptor.door.let_in(stream, service, tls).await
        })
    }
}

/// The same for [`super::public`], without TLS.
impl<S: Send + 'static> Accept<TcpStream, S> for Door {
    type Stream = Timed<TcpStream>;
    type Service = Told<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let as_it_is = |stream, service| std::future::ready(Ok((stream, service)));
            door.let_in(stream, service, as_it_is).await
        })
    }
}

impl Door {
    /// A place for a connection, what it is told, and what `shake` makes of it.
    async fn let_in<S, T, F>(
        &self,
        mut stream: TcpStream,
        service: S,
        shake: impl FnOnce(TcpStream, S) -> F,
    ) -> io::Result<(Timed<T>, Told<S>)>
    where
        F: Future<Output = io::Result<(T, S)>>,
    {
        let peer = stream.peer_addr()?.ip().to_canonical();
        let place = self.places.take();
        let place = place.map_err(|why| self.refuse(why, peer))?;
        let activity = Arc::clone(&place.activity);
        let take_in = async {
            stream.set_nodelay(true)?;
            let source = self.source(&mut stream, peer).await?;
            let counted = place.count(source);
            counted.map_err(|why| self.refuse(why, peer))?;
            let (stream, service) = shake(stream, service).await?;
            Ok((stream, service, source))
        };
        let room = || Err(io::Error::other("it made room for another"));
        let taken = activity.unless_ended(take_in).await;
        let (stream, service, source) = taken.unwrap_or_else(room)?;
        let service = AddExtensionLayer::new(Source(source)).layer(service);
        let service = AddExtensionLayer::new(Arc::clone(&activity)).layer(service);
        let service = AddExtensionLayer::new(Arc::new(place)).layer(service);
        Ok((Timed::new(stream, activity), service))
    }

    /// Who it is, if need be by the proxy's word.
    async fn source(&self, stream: &mut TcpStream, peer: IpAddr) -> io::Result<IpAddr> {
        if !self.proxies.iter().any(|trusted| trusted.contains(&peer)) {
            return Ok(peer);
        }
        let header = timeout(PROXY_TIMEOUT, read_header(stream)).await;
        let header = header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let told = header.map_err(|_| self.refuse(Refusal::Header, peer))?;
        Ok(told.unwrap_or(peer))
    }

    fn refuse(&self, why: Refusal, peer: IpAddr) -> io::Error {
        self.places.refused(why, peer);
        io::Error::other(why)
    }
}

/// Who the proxy speaks for; `None`: for itself. Not a byte beyond the header is taken.
async fn read_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut buffer = vec![0; MAX_HEADER];
    let seen = stream.peek(&mut buffer).await?;
    let parsed = parse(&buffer[..seen]);
    if parsed == Err(ProxyError::Missing) {
        unproxied::refuse(stream, &buffer[..seen]).await;
    }
    match parsed.map_err(io::Error::other)? {
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
