//! One client's connection, and what is exact of it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use h2::Reason;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
    ext::Protocol,
    header,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Bytes of a piece of a transfer.
pub(crate) const PIECE: usize = 16 * 1024;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn empty() -> Body {
    Full::default().boxed()
}

/// The pieces of a transfer: no two alike, so that none can be lost or come twice.
pub(crate) fn pieces(count: u64) -> impl Iterator<Item = Bytes> + Send + Sync {
    (0..count).map(|n| {
        let mut piece = vec![0; PIECE];
        for (i, word) in piece.chunks_mut(8).enumerate() {
            let value = (n << 16 | i as u64).wrapping_mul(6_364_136_223_846_793_005);
            word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
        }
        piece.into()
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    H1,
    H2,
}

pub(crate) enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// Where the proxy is, and how to speak to it.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Proxy {
    async fn dial(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        Ok(stream)
    }

    /// A relayed connection, its ClientHello taken by the backend.
    pub(crate) async fn relayed(&self, name: &str) -> Result<TcpStream> {
        let name = ServerName::try_from(name.to_owned())?;
        let mut hello = Vec::new();
        ClientConnection::new(Arc::clone(&self.tls), name)?.write_tls(&mut hello)?;
        let mut stream = self.dial().await?;
        stream.write_all(&hello).await.context("ClientHello")?;
        let mut ready = [0];
        stream.read_exact(&mut ready).await.context("first byte")?;
        Ok(stream)
    }

    pub(crate) async fn connect(&self, version: Version) -> Result<Sender> {
        let mut config = (*self.tls).clone();
        config.alpn_protocols = match version {
            Version::H1 => vec![b"http/1.1".to_vec()],
            Version::H2 => vec![b"h2".to_vec()],
        };
        let name = ServerName::try_from(self.name.clone())?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, self.dial().await?);
        let io = TokioIo::new(connecting.await.context("handshake")?);
        // A connection's error is its requests'.
        Ok(match version {
            Version::H1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection.with_upgrades());
                Sender::H1(sender)
            }
            Version::H2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        })
    }

    pub(crate) fn request(
        &self,
        version: Version,
        method: &str,
        path: &str,
        body: Body,
    ) -> Result<Request<Body>> {
        let request = Request::builder().method(method);
        let request = match version {
            Version::H1 => request.uri(path).header(header::HOST, &self.name),
            Version::H2 => request.uri(format!("https://{}{path}", self.name)),
        };
        Ok(request.body(body)?)
    }

    /// A WebSocket, or what is one for a proxy.
    pub(crate) async fn tunnel(&self, version: Version) -> Result<TokioIo<Upgraded>> {
        let mut sender = self.connect(version).await?;
        let (method, wanted) = match version {
            Version::H1 => ("GET", StatusCode::SWITCHING_PROTOCOLS),
            Version::H2 => ("CONNECT", StatusCode::OK),
        };
        let mut request = self.request(version, method, "/upgrade", empty())?;
        if version == Version::H1 {
            for (field, value) in [
                (header::CONNECTION, "upgrade"),
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
                (header::SEC_WEBSOCKET_VERSION, "13"),
            ] {
                request.headers_mut().insert(field, value.parse()?);
            }
        } else {
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
        }
        let response = sender
            .send(request)
            .await?
            .context("a new connection takes no request")?;
        ensure!(response.status() == wanted, "{response:?}");
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }
}

impl Sender {
    /// `None`: the connection takes no request any more, and this one never left or was not begun with.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Option<Response<Incoming>>> {
        let sent = match self {
            Self::H1(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
            Self::H2(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
        };
        match sent {
            Ok(response) => Ok(Some(response)),
            Err(mut error) => match error.take_message() {
                Some(_) => Ok(None),
                None => match error.into_error() {
                    error if is_not_begun(&error) => Ok(None),
                    error => Err(error.into()),
                },
            },
        }
    }
}

/// A request that crossed GOAWAY and is beyond the last stream that it names: every client sends it again (RFC 9113 §8.7). hyper's
/// answers the PING that comes with GOAWAY before it sends what it had begun, so the server cannot wait for that.
fn is_not_begun(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|e| e.is_go_away() && e.is_remote() && e.reason() == Some(Reason::NO_ERROR))
}

/// Sends a small request; says whether the connection takes another. `None`: not even this one.
pub(crate) async fn ask(proxy: &Proxy, sender: &mut Sender) -> Result<Option<bool>> {
    let version = match sender {
        Sender::H1(_) => Version::H1,
        Sender::H2(_) => Version::H2,
    };
    let request = proxy.request(version, "GET", "/small", empty())?;
    let Some(response) = sender.send(request).await? else {
        return Ok(None);
    };
    if response.status() != StatusCode::OK {
        bail!("{response:?}");
    }
    let close = response.headers().get(header::CONNECTION);
    let goes_on = close.is_none_or(|value| value != "close");
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(body == "small\n", "{body:?}");
    Ok(Some(goes_on))
}
