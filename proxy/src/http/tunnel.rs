//! Connections that stop being HTTP: WebSockets and what else upgrades, by HTTP/1.1 (RFC 9110 §7.8) or HTTP/2 (RFC 8441),
//! on either side of the proxy.

use std::{
    io::{self, Cursor},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Method, Response, StatusCode, Version,
    ext::Protocol as Extended,
    header::{self, HeaderValue},
    http::request::Parts,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, copy_bidirectional, join},
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_util::either::Either;

use super::{
    Connection, Limits,
    body::ResponseBody,
    exchange::{Exchange, Fault, Side},
    headers,
    upstream::{Http2Body, Http2Tunnel, Lease, Place},
};
use crate::spec::Protocol;

/// What the client asked for, and how.
#[derive(Clone, Debug)]
pub(super) struct Tunnel {
    protocol: HeaderValue,
    /// By extended CONNECT: success is 200, not 101.
    extended: bool,
    /// What an HTTP/2 backend does not say.
    accept: Option<HeaderValue>,
}

/// The protocol of an extended CONNECT.
pub(super) fn protocol(parts: &Parts) -> Option<&Extended> {
    parts.extensions.get()
}

/// Recognises a request for a tunnel that there may be, and writes it as the backend's protocol does.
pub(super) fn prepare(parts: &mut Parts, backend: Protocol) -> Option<Tunnel> {
    let asked = protocol(parts).cloned();
    let value = match &asked {
        Some(protocol) => HeaderValue::from_str(protocol.as_str()).ok()?,
        None => parts.extensions.remove::<headers::Upgrade>()?.0,
    };
    let name = value.to_str().ok().filter(|name| headers::tunnels(name))?;
    let extended = Extended::from(name);
    let headers = &mut parts.headers;
    let mut accept = None;
    if backend == Protocol::Http1 {
        parts.extensions.remove::<Extended>();
        parts.method = Method::GET;
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, value.clone());
        if asked.is_some() && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
            // RFC 8441 has none, and nobody but us sees the answer to it.
            let key = HeaderValue::from_static("bWV0YWNpcmN1bGFyLWVkZw==");
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    } else {
        parts.method = Method::CONNECT;
        let key = headers.remove(header::SEC_WEBSOCKET_KEY);
        accept = key
            .filter(|_| asked.is_none())
            .and_then(|key| accepted(&key));
        parts.extensions.insert(extended);
    }
    Some(Tunnel {
        protocol: value,
        extended: asked.is_some(),
        accept,
    })
}

/// The answer to a WebSocket's key (RFC 6455 §4.2.2), which backends give over HTTP/1.1 alone.
fn accepted(key: &HeaderValue) -> Option<HeaderValue> {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::try_from(BASE64_STANDARD.encode(hash)).ok()
}

/// The response as the client's protocol writes it; where both sides agreed on a tunnel, that is begun.
pub(super) fn respond(
    mut response: Response<Option<Http2Body>>,
    lease: Lease,
    tunnel: Option<(Box<Tunnel>, OnUpgrade)>,
    exchange: &Arc<Exchange>,
    connection: &Connection,
) -> Result<Response<ResponseBody>, Fault> {
    let limits = connection.limits;
    let agreed = match (response.version(), response.status()) {
        (_, StatusCode::SWITCHING_PROTOCOLS) => true,
        (Version::HTTP_2, status) => status.is_success() && tunnel.is_some(),
        _ => false,
    };
    if agreed {
        let Some((tunnel, client)) = tunnel.filter(|(t, _)| t.is_granted(&response)) else {
            return Err(Fault::of(Side::Backend, "backend_unasked_upgrade"));
        };
        let backend = match response.body_mut().take() {
            Some(body) => body.into_tunnel().map(Backend::Http2),
            None => (lease.into_http1())
                .and_then(|http1| http1.into_stream())
                .map(Backend::Http1),
        };
        let Some(backend) = backend else {
            return Err(Fault::of(Side::Backend, "backend_unasked_upgrade"));
        };
        let run = run(client, backend, limits, Arc::clone(exchange));
        connection.tunnel.store(!tunnel.extended, Relaxed);
        let abort = connection.context.abort.clone();
        (connection.tunnels).spawn(async move { abort.run_until_cancelled_owned(run).await });
        return Ok(accept(&response, &tunnel, exchange));
    }
    if response.status().is_success() && tunnel.is_some_and(|(t, _)| t.extended) {
        // To the client it would be the tunnel (RFC 8441 §4).
        return Err(Fault::of(Side::Backend, "backend_refused_upgrade"));
    }
    let (mut parts, mut incoming) = response.into_parts();
    headers::strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
    if exchange.is_bodiless(parts.status) {
        // HTTP/2 lets a backend send one all the same (RFC 9110 §6.4.1).
        incoming = None;
    }
    let body = ResponseBody::backend(incoming, limits.idle, lease, Arc::clone(exchange));
    Ok(Response::from_parts(parts, body))
}

impl Tunnel {
    /// Whether it is the protocol that was asked for; HTTP/2 does not say.
    fn is_granted(&self, response: &Response<Option<Http2Body>>) -> bool {
        response.version() == Version::HTTP_2
            || (response.headers().get(header::UPGRADE)).is_some_and(|granted| {
                let (granted, asked) = (granted.as_bytes(), self.protocol.as_bytes());
                granted
                    .trim_ascii()
                    .eq_ignore_ascii_case(asked.trim_ascii())
            })
    }
}

fn accept(
    response: &Response<Option<Http2Body>>,
    tunnel: &Tunnel,
    exchange: &Arc<Exchange>,
) -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::text("", Arc::clone(exchange)));
    let mut kept: HeaderMap = response.headers().clone();
    headers::strip(&mut kept);
    if tunnel.extended {
        kept.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        kept.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        kept.insert(header::UPGRADE, tunnel.protocol.clone());
        if let Some(accept) = &tunnel.accept {
            kept.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
    }
    kept.remove(header::CONTENT_LENGTH);
    *answer.headers_mut() = kept;
    exchange.answered(answer.status());
    answer
}

/// The backend's side.
enum Backend {
    /// With what came beyond the response's head.
    Http1((Vec<u8>, TcpStream, Option<Arc<Place>>)),
    Http2(Http2Tunnel),
}

async fn run(client: OnUpgrade, backend: Backend, limits: Limits, exchange: Arc<Exchange>) {
    let Ok(client) = client.await else {
        return;
    };
    let mut _place = None;
    let backend = match backend {
        Backend::Http1((before, stream, place)) => {
            _place = place;
            let (reader, writer) = stream.into_split();
            Either::Left(join(Cursor::new(before).chain(reader), writer))
        }
        Backend::Http2(stream) => Either::Right(stream),
    };
    let active = Arc::new(AtomicU64::new(0));
    let born = Instant::now();
    let mut client = Counted::new(
        TokioIo::new(client),
        &active,
        born,
        Some(Arc::clone(&exchange)),
    );
    let mut backend = Counted::new(backend, &active, born, None);
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut backend) => {}
        () = idle(&active, born, limits.idle) => exchange.blame(Fault::of(Side::Proxy, "idle")),
    }
}

/// Returns when nothing has moved for `limit`.
async fn idle(active: &AtomicU64, born: Instant, limit: Duration) {
    loop {
        let last = born + Duration::from_millis(active.load(Relaxed));
        if last.elapsed() >= limit {
            return;
        }
        sleep_until(last + limit).await;
    }
}

/// An upgraded connection that notes when it moved, and counts for the client's side.
struct Counted<T> {
    io: T,
    active: Arc<AtomicU64>,
    born: Instant,
    exchange: Option<Arc<Exchange>>,
}

impl<T> Counted<T> {
    fn new(io: T, active: &Arc<AtomicU64>, born: Instant, exchange: Option<Arc<Exchange>>) -> Self {
        Self {
            io,
            active: Arc::clone(active),
            born,
            exchange,
        }
    }

    fn moved(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.active.store(now, Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let n = buf.filled().len() - before;
        if n > 0 {
            self.moved();
            if let Some(exchange) = &self.exchange {
                exchange.received(n as u64);
            }
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &polled {
            self.moved();
            if let Some(exchange) = &self.exchange {
                exchange.sent(*n as u64);
            }
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websockets_key_is_answered() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let answer = accepted(&key).unwrap();
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455 §1.3");
    }
}
