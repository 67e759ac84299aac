//! A server whose places are all held.

use std::net::Ipv4Addr;

use axum::{
    body::{self, Body},
    http::StatusCode,
    routing::post,
};
use mc_testkit::ca::{Ca, KeyExchange};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::*;
use crate::server::api::tests::Nobody;

/// Places; a source has two.
const PLACES: usize = 8;
/// HTTP/1.1 carries it as well.
const WATCH: &str = "POST /grpc.health.v1.Health/Watch HTTP/1.1\r\nHost: localhost\r\n\
    Content-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0";
const GET: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Half of a request.
const HALF: &str = "GET /healthz HTTP/1.1\r\nHost:";

struct Running {
    handle: Handle,
    ca: Ca,
    _directory: tempfile::TempDir,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Running {
    async fn start() -> Self {
        Self::with(Bodies::new()).await
    }

    async fn with(bodies: Arc<Bodies>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new().unwrap();
        let leaf = ca.issue(&["localhost"]).unwrap();
        let (tls_cert, tls_key) = leaf.write(directory.path(), "server").unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config {
            listen: any,
            grpc_listen: any,
            tls_cert,
            tls_key,
            tls_ca: None,
            metrics_listen: None,
            // So that a client of the test comes from wherever it says.
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        };
        let app = App {
            package: "metacircular.none.v1",
            grpc: Routes::default(),
            web: Router::new().route("/form", post(taken)),
            plain: axum::Router::new(),
            authenticator: Arc::new(Nobody),
            audit: None,
            sealed: crate::server::never_sealed(),
            metrics: Box::new(String::new),
        };
        let shutdown = Shutdown::new();
        let handle = start_with(config.check().unwrap(), app, &shutdown, PLACES, bodies);
        let handle = handle.await.unwrap();
        Self {
            handle,
            ca,
            _directory: directory,
            _shutdown: shutdown.token().clone().drop_guard(),
        }
    }

    /// A connection from there, before TLS.
    async fn tcp(&self, source: u8) -> TcpStream {
        let mut stream = TcpStream::connect(self.handle.address).await.unwrap();
        let header = format!("PROXY TCP4 192.0.2.{source} 192.0.2.200 4711 443\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        stream
    }

    /// And with it.
    async fn tls(&self, source: u8) -> io::Result<TlsStream<TcpStream>> {
        let config = self.ca.client_config(KeyExchange::Classic).unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        connector.connect(name, self.tcp(source).await).await
    }

    /// The connection after `said`, answered if it is a request.
    async fn having_said(&self, source: u8, said: &str) -> TlsStream<TcpStream> {
        let mut stream = self.tls(source).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        if [GET, WATCH].contains(&said) {
            assert!(answered(&mut stream).await, "{said:?}");
        }
        stream
    }
}

/// Reads a form.
async fn taken(form: Body) -> StatusCode {
    let Err(error) = body::to_bytes(form, usize::MAX).await else {
        return StatusCode::OK;
    };
    let code = body_status(&error).map(tonic::Status::code);
    assert_eq!(code, Some(tonic::Code::Unavailable));
    StatusCode::SERVICE_UNAVAILABLE
}

/// Whether 200 comes.
async fn answered(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).await.unwrap_or(0);
    answer[..length].starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn who_holds_all_places_and_does_nothing_keeps_nobody_out() {
    for (description, said) in [
        ("nothing", ""),
        ("a request that was answered", GET),
        ("half a request", HALF),
        ("a stream of whom anybody may ask for", WATCH),
        ("and another request behind it", &format!("{WATCH}{GET}")),
    ] {
        let running = Running::start().await;
        let mut held = Vec::new();
        for n in 0..PLACES {
            let source = u8::try_from(n / 2).unwrap();
            held.push(running.having_said(source, said).await);
        }
        // More than a source's share, so that its own make room as well.
        for n in 0..4 {
            let mut new = running.tls(100).await.unwrap();
            new.write_all(GET.as_bytes()).await.unwrap();
            assert!(answered(&mut new).await, "{description}: {n}");
            held.push(new);
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), async {
            let mut rest = Vec::new();
            // Without close_notify that is an error.
            let _ = held[0].read_to_end(&mut rest).await;
        });
        assert!(ended.await.is_ok(), "{description}: the first goes on");
    }
}

#[tokio::test]
async fn who_holds_all_places_and_says_nothing_keeps_nobody_out() {
    let running = Running::start().await;
    let mut held = Vec::new();
    for n in 0..PLACES {
        held.push(running.tcp(u8::try_from(n).unwrap()).await);
    }
    for n in 0..2 * PLACES {
        let new = running.tls(100).await;
        let mut new = new.unwrap_or_else(|error| panic!("{n}: {error}"));
        new.write_all(GET.as_bytes()).await.unwrap();
        assert!(answered(&mut new).await, "{n}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_gives_way_to_the_next_of_its_network() {
    // A network has 1600 bytes of it: one of these, with what head and piece cost.
    let running = Running::with(Bodies::of(4 * 1600, 0)).await;
    let head = |length| {
        format!("POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    };
    let read = async |stream: &mut TlsStream<TcpStream>| {
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let send = async |stream: &mut TlsStream<TcpStream>| {
        let request = format!("{}{}", head(50), "a".repeat(50));
        stream.write_all(request.as_bytes()).await.unwrap();
        read(stream).await
    };
    let mut held = running.having_said(1, &head(50)).await;
    held.write_all(&[b'a'; 49]).await.unwrap();
    let (mut same, mut other) = (running.tls(1).await.unwrap(), running.tls(2).await.unwrap());
    let mut waits = Box::pin(read(&mut held));
    // What was sent is held as soon as the server has read it.
    let ended = loop {
        for stream in [&mut other, &mut same] {
            let answer = send(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let soon = Duration::from_millis(20);
        if let Ok(answer) = tokio::time::timeout(soon, &mut waits).await {
            break answer;
        }
    };
    assert!(ended.starts_with("HTTP/1.1 503"), "{ended}");
}
