//! A proxy that gives clients nonces that are spent, now and then: the CA refuses them then, and clients have to begin anew.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::HeaderValue, service::service_fn,
};
use hyper_util::rt::TokioIo;
use mc_testkit::ca::KeyExchange;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::World;

const REPLAY_NONCE: &str = "replay-nonce";

/// The proxy.
pub(super) struct Spent {
    pub(super) base: String,
    proxy: Arc<Proxy>,
}

struct Proxy {
    port: u16,
    connector: TlsConnector,
    given: Mutex<Given>,
    /// Answers that refused one.
    refused: AtomicUsize,
}

/// What was given to clients.
#[derive(Default)]
struct Given {
    /// The last nonce that came back.
    used: Option<HeaderValue>,
    /// Which it is; the same in each run.
    state: u64,
    /// After a refusal the next is a good one, wherever a client takes it from: some begin anew but once.
    good: bool,
}

impl Given {
    /// One in three, but not each third: a client asks for them in a rhythm of its own (the highest bits of a linear congruential generator).
    fn is_next_spent(&mut self) -> bool {
        self.state = self
            .state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        self.state >> 56 < 85
    }
}

impl Spent {
    pub(super) async fn start(world: &World) -> Self {
        let ca = &world.mcias.ca;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor =
            TlsAcceptor::from(ca.issue(&["localhost"]).unwrap().server_config().unwrap());
        let proxy = Arc::new(Proxy {
            port: world.https.port(),
            connector: ca.client_config(KeyExchange::Classic).unwrap().into(),
            given: Mutex::default(),
            refused: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&proxy);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, proxy) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request| {
                        let proxy = Arc::clone(&proxy);
                        async move { proxy.pass(request).await }
                    });
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            base: format!("https://localhost:{port}"),
            proxy,
        }
    }

    /// How many were refused so far.
    pub(super) fn refused(&self) -> usize {
        self.proxy.refused.load(Relaxed)
    }
}

impl Proxy {
    async fn pass(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let nonce = nonce(&body);
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.connector.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::from_parts(head, Full::new(body));
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let refused = head.status == StatusCode::BAD_REQUEST
            && body.windows(8).any(|window| window == b"badNonce");
        let mut given = self.given.lock().unwrap();
        given.used = nonce.or(given.used.take());
        if refused {
            self.refused.fetch_add(1, Relaxed);
            given.good = true;
        } else if head.headers.contains_key(REPLAY_NONCE)
            && !std::mem::take(&mut given.good)
            && (self.refused.load(Relaxed) == 0 || given.is_next_spent())
            && let Some(used) = &given.used
        {
            head.headers.insert(REPLAY_NONCE, used.clone());
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// The nonce of a request.
fn nonce(body: &[u8]) -> Option<HeaderValue> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let head = data_encoding::BASE64URL_NOPAD
        .decode(body["protected"].as_str()?.as_bytes())
        .ok()?;
    let head: serde_json::Value = serde_json::from_slice(&head).ok()?;
    HeaderValue::from_str(head["nonce"].as_str()?).ok()
}
