//! HTTP backends in the backend's namespace, on hyper; and what they do with a request, by its path.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::ca::Ca;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::world::World;

type Body = BoxBody<Bytes, Infallible>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    H2c,
    H2,
}

impl World {
    /// A backend called `name`.
    pub(crate) fn http(&self, name: &'static str, speaks: Speaks, ca: &Ca) -> Result<SocketAddr> {
        let mut tls = (*ca.issue(&["backend.example.org"])?.server_config()?).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        self.serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let service = service_fn(move |request| answer(name, request));
                let mut h2 = http2::Builder::new(TokioExecutor::new());
                h2.enable_connect_protocol();
                // The client's end of a connection is no failure of the test.
                match speaks {
                    Speaks::Http1 => {
                        let _ = http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await;
                    }
                    Speaks::H2c => {
                        let _ = h2.serve_connection(TokioIo::new(stream), service).await;
                    }
                    Speaks::H2 => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = h2.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                }
            }
        })
    }
}

impl World {
    /// An HTTP/2 backend that takes so many streams at once; `connected` is called for each connection.
    pub(crate) fn streams(
        &self,
        most: u32,
        connected: impl Fn() + Send + Sync + 'static,
    ) -> Result<SocketAddr> {
        let connected = Arc::new(connected);
        self.serve(move |stream| {
            connected();
            async move {
                let service = service_fn(move |request| answer("streams", request));
                let mut h2 = http2::Builder::new(TokioExecutor::new());
                h2.max_concurrent_streams(most);
                let _ = h2.serve_connection(TokioIo::new(stream), service).await;
            }
        })
    }
}

/// The requests that a backend saw: method and path.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

impl World {
    /// An HTTP/1.1 backend that notes the requests which it sees.
    pub(crate) fn recorder(&self) -> Result<(SocketAddr, Seen)> {
        let seen = Seen::default();
        let notes = Arc::clone(&seen);
        let address = self.serve(move |stream| {
            let notes = Arc::clone(&notes);
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let note = format!("{} {}", request.method(), request.uri());
                    notes.lock().expect("no test panics with it").push(note);
                    answer("recorder", request)
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })?;
        Ok((address, seen))
    }
}

fn text(text: String) -> Body {
    http_body_util::Full::new(text.into()).boxed()
}

/// `/headers`: what came; `/echo`: the body back; `/bytes/N`; `/early/N`; `/status/N`; `/slow/MS`; `/trailers`; `/break`; `/upgrade`.
async fn answer(
    name: &'static str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut words = path.trim_matches('/').split('/');
    let word = words.next().unwrap_or_default();
    let number: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    let body = match word {
        "headers" => text(seen(&request)),
        "echo" => {
            let (_, body) = request.into_parts();
            body.map_err(|_| unreachable!("only whole bodies are echoed in these tests"))
                .boxed()
        }
        "bytes" => bytes(number),
        "early" => {
            // The response does not wait for the request, and it is read all the same.
            tokio::spawn(request.into_body().collect());
            bytes(number)
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            text("late\n".into())
        }
        "sum" => {
            // Not collected: some are endless.
            let (mut body, mut sum) = (request.into_body(), 0);
            while let Some(Ok(frame)) = body.frame().await {
                sum += frame.data_ref().map_or(0, Bytes::len);
            }
            text(format!("{sum}\n"))
        }
        "trailers" => trailers(),
        "upgrade" => return Ok(upgrade(&mut request)),
        "status" => text(String::new()),
        _ => {
            // One that is answered before it was read may cost its connection, as HTTP has it.
            let _ = request.into_body().collect().await;
            text(format!("hello from {name}\n"))
        }
    };
    let mut response = Response::new(body);
    if word == "status" {
        *response.status_mut() =
            StatusCode::from_u16(number as u16).unwrap_or(StatusCode::IM_A_TEAPOT);
    }
    response
        .headers_mut()
        .insert("x-backend", header::HeaderValue::from_static(name));
    Ok(response)
}

fn seen(request: &Request<Incoming>) -> String {
    let mut lines = vec![format!(
        "{:?} {} {}",
        request.version(),
        request.method(),
        request.uri()
    )];
    for (name, value) in request.headers() {
        lines.push(format!(
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    lines.join("\n") + "\n"
}

fn bytes(count: usize) -> Body {
    const CHUNK: usize = 16 * 1024;
    let chunks = (0..count.div_ceil(CHUNK)).map(move |i| {
        let len = CHUNK.min(count - i * CHUNK);
        Ok(Frame::data(Bytes::from(vec![b'x'; len])))
    });
    BodyExt::boxed(StreamBody::new(tokio_stream::iter(chunks)))
}

fn trailers() -> Body {
    let mut map = HeaderMap::new();
    map.insert("x-checksum", header::HeaderValue::from_static("42"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"with trailers\n"))),
        Ok(Frame::trailers(map)),
    ];
    BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)))
}

/// Whatever protocol is asked: the bytes back, in upper case.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let on = hyper::upgrade::on(&mut *request);
    tokio::spawn(async move {
        let Ok(upgraded) = on.await else { return };
        let mut io = TokioIo::new(upgraded);
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = io.read(&mut buffer).await {
            if io
                .write_all(&buffer[..n].to_ascii_uppercase())
                .await
                .is_err()
            {
                return;
            }
        }
        let _ = io.shutdown().await;
    });
    let mut response = Response::new(text(String::new()));
    if let Some(protocol) = request.headers().get(header::UPGRADE) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, protocol.clone());
        headers.insert(
            header::CONNECTION,
            header::HeaderValue::from_static("upgrade"),
        );
    }
    response
}
