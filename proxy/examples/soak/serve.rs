//! The backends.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{Context, Result};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

use super::clients::{PIECE, hex, pieces};

/// Of a TLS record.
const RECORD_HEADER: usize = 5;

type Body = BoxBody<Bytes, Infallible>;

pub(crate) async fn run(http: SocketAddr, echo: SocketAddr) -> Result<()> {
    let (http, echo) = (TcpListener::bind(http), TcpListener::bind(echo));
    let (http, echo) = tokio::try_join!(http, echo).context("cannot listen")?;
    loop {
        // The client's end of a connection is no failure of the backend.
        tokio::select! {
            accepted = http.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                stream.set_nodelay(true).context("TCP_NODELAY")?;
                tokio::spawn(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .with_upgrades(),
                );
            }
            accepted = echo.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                stream.set_nodelay(true).context("TCP_NODELAY")?;
                tokio::spawn(echoes(stream));
            }
        }
    }
}

/// Takes a ClientHello of one record and sends back what follows.
async fn echoes(mut stream: TcpStream) -> Result<()> {
    let mut header = [0; RECORD_HEADER];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    stream.read_exact(&mut vec![0; length]).await?;
    stream.write_all(b"!").await?;
    let (mut read, mut write) = stream.split();
    copy(&mut read, &mut write).await?;
    Ok(write.shutdown().await?)
}

/// `/small`; `/bytes/N`: N pieces; `/sum`: of the body; `/upgrade`: what comes, back.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let text = |text: String| Full::new(text.into()).boxed();
    let mut words = path.trim_matches('/').split('/');
    let body = match words.next().unwrap_or_default() {
        "bytes" => {
            let count = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let frames = pieces(count).map(|piece| Ok(Frame::data(piece)));
            StreamBody::new(tokio_stream::iter(frames)).boxed()
        }
        "sum" => {
            let (mut body, mut sum) = (request.into_body(), Sha256::new());
            while let Some(Ok(frame)) = body.frame().await {
                if let Some(data) = frame.data_ref() {
                    sum.update(data);
                }
            }
            text(hex(&sum.finalize()))
        }
        "upgrade" => return Ok(upgrade(&mut request)),
        _ => text("small\n".to_owned()),
    };
    Ok(Response::new(body))
}

fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let on = hyper::upgrade::on(&mut *request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(on.await?);
        let mut buffer = vec![0; PIECE];
        loop {
            match io.read(&mut buffer).await? {
                0 => return anyhow::Ok(io.shutdown().await?),
                n => io.write_all(&buffer[..n]).await?,
            }
        }
    });
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}
