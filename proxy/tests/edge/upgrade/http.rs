//! Upgrades under HTTP: clients that keep connections, that open many streams, that come anew, and long transfers both ways.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    wait_for,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{alone, installed, serving, upgrade};
use crate::{
    http::Speaks,
    world::{NODE, World},
};

const NAME: &str = "web.upgrade.example.org";
/// Requests at once on an HTTP/2 connection.
const STREAMS: usize = 8;
/// A client that thinks between its requests: most upgrades meet it idle.
const THINKING: Duration = Duration::from_millis(50);
/// Pieces of a transfer, and the pause after each, so that it lasts beyond any upgrade.
const PIECE: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(2);
/// Bytes of a download: more than is ever taken of it.
const ENDLESS: usize = 1 << 40;

type Body = BoxBody<Bytes, Infallible>;

fn empty() -> Body {
    Full::default().boxed()
}

/// How one asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    H1,
    H2,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

struct Clients {
    tls: Arc<ClientConfig>,
    done: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Clients {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn note(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.failures
                .lock()
                .unwrap()
                .push(format!("{what}: {error:#}"));
            self.stop.store(true, Relaxed);
        }
    }

    fn clean(&self) -> Result<()> {
        let failures = self.failures.lock().unwrap();
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    }

    /// Waits until `enough` has been done since.
    fn progress(&self, enough: u64) -> Result<()> {
        let before = self.done.load(Relaxed);
        wait_for("progress of the clients", || {
            (self.stopped() || self.done.load(Relaxed) >= before + enough).then_some(())
        })?;
        self.clean()
    }

    async fn tls(&self, version: Version) -> Result<TlsStream<TcpStream>> {
        let mut config = (*self.tls).clone();
        config.alpn_protocols = match version {
            Version::H1 => vec![b"http/1.1".to_vec()],
            Version::H2 => vec![b"h2".to_vec()],
        };
        let stream = TcpStream::connect((NODE, 443)).await.context("connect")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(NAME)?;
        connector.connect(name, stream).await.context("handshake")
    }

    async fn connect(&self, version: Version) -> Result<Sender> {
        let io = TokioIo::new(self.tls(version).await?);
        Ok(match version {
            Version::H1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::H1(sender)
            }
            Version::H2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        })
    }
}

impl Sender {
    fn request(&self, method: &str, path: &str, body: Body) -> Result<Request<Body>> {
        let request = Request::builder().method(method);
        Ok(match self {
            Self::H1(_) => request.uri(path).header(header::HOST, NAME),
            Self::H2(_) => request.uri(format!("https://{NAME}{path}")),
        }
        .body(body)?)
    }

    /// `None`: the connection takes no request any more, and this one never left.
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Body,
    ) -> Result<Option<Response<Incoming>>> {
        let request = self.request(method, path, body)?;
        let sent = match self {
            Self::H1(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                sender.try_send_request(request).await
            }
            Self::H2(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                sender.try_send_request(request).await
            }
        };
        match sent {
            Ok(response) => {
                ensure!(response.status() == StatusCode::OK, "{response:?}");
                Ok(Some(response))
            }
            Err(mut error) => match error.take_message() {
                Some(_) => Ok(None),
                None if goes_away(error.error()) => Ok(None),
                None => Err(error.into_error().into()),
            },
        }
    }
}

/// The server's GOAWAY came between asking whether a stream may begin and beginning it: none did (RFC 9113 §6.8). h2 has the request by
/// then, and does not return it.
fn goes_away(error: &hyper::Error) -> bool {
    let error = std::error::Error::source(error).and_then(|e| e.downcast_ref::<h2::Error>());
    error.is_some_and(|e| {
        e.is_go_away() && e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Asks for something small; says whether the connection was good for it.
async fn ask(sender: &mut Sender, expect_close: &mut bool) -> Result<bool> {
    let Some(response) = sender.send("GET", "/", empty()).await? else {
        return Ok(false);
    };
    *expect_close = response
        .headers()
        .get(header::CONNECTION)
        .is_some_and(|v| v == "close");
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(body == "hello from web\n", "{body:?}");
    Ok(true)
}

/// Requests one after the other on one connection, which ends only after it was announced.
async fn keeps_alive(clients: &Clients, pause: Duration) -> Result<()> {
    while !clients.stopped() {
        let mut sender = clients.connect(Version::H1).await?;
        let mut close = false;
        while !clients.stopped() && !close {
            ensure!(
                ask(&mut sender, &mut close).await?,
                "the connection was closed without a word"
            );
            clients.done.fetch_add(1, Relaxed);
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// Many streams on one connection, until it says that it goes away. What it has taken it answers.
async fn multiplexes(clients: &Arc<Clients>) -> Result<()> {
    while !clients.stopped() {
        let Sender::H2(sender) = clients.connect(Version::H2).await? else {
            bail!("not HTTP/2");
        };
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let (clients, sender) = (Arc::clone(clients), sender.clone());
            streams.spawn(async move {
                let mut sender = Sender::H2(sender);
                while !clients.stopped() && ask(&mut sender, &mut false).await? {
                    clients.done.fetch_add(1, Relaxed);
                }
                anyhow::Ok(())
            });
        }
        while let Some(stream) = streams.join_next().await {
            stream??;
        }
    }
    Ok(())
}

/// A new connection for each request. The first request of a connection is never refused.
async fn comes_anew(clients: &Clients, version: Version) -> Result<()> {
    while !clients.stopped() {
        let mut sender = clients.connect(version).await?;
        ensure!(
            ask(&mut sender, &mut false).await?,
            "a new connection takes no request"
        );
        clients.done.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn downloads(clients: &Clients, flowing: &Clients, version: Version) -> Result<()> {
    let mut sender = clients.connect(version).await?;
    let path = format!("/bytes/{ENDLESS}");
    let response = sender.send("GET", &path, empty()).await?;
    let mut body = response.context("no request")?.into_body();
    while !flowing.stopped() {
        let frame = body.frame().await.context("it ends too soon")??;
        let data = frame.into_data().map_err(|_| anyhow::anyhow!("trailers"))?;
        ensure!(data.iter().all(|b| *b == b'x'), "it is not what was sent");
        flowing.done.fetch_add(1, Relaxed);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

async fn uploads(clients: &Clients, flowing: &Arc<Clients>, version: Version) -> Result<()> {
    let mut sender = clients.connect(version).await?;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let pieces = Arc::clone(flowing);
    let producing = async move {
        let mut sent = 0;
        while !pieces.stopped() {
            let piece = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'y'; PIECE])));
            send.send(piece)
                .await
                .ok()
                .context("the upload broke off")?;
            sent += PIECE;
            pieces.done.fetch_add(1, Relaxed);
            tokio::time::sleep(PACE).await;
        }
        anyhow::Ok(sent)
    };
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receive));
    let (sent, response) = tokio::join!(producing, sender.send("POST", "/sum", body.boxed()));
    let response = response?.context("no request")?;
    let counted = response.into_body().collect().await?.to_bytes();
    ensure!(counted == format!("{}\n", sent?), "{counted:?} arrived");
    Ok(())
}

struct Load {
    clients: Arc<Clients>,
    flowing: Vec<Arc<Clients>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(world: &World) -> Result<Self> {
        world.client.run(|| {
            std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1")?;
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
        })??;
        let ca = Ca::new()?;
        let (certificate, key) = ca.issue(&[NAME])?.write(world.dir.path(), "web")?;
        let backend = world.http("web", Speaks::Http1, &ca)?;
        world.run(&format!(
            "route add {NAME} --backend {backend} --certificate {} --key {}",
            certificate.display(),
            key.display()
        ))?;
        let mut load = Self {
            clients: Self::tally(ca.client_config(KeyExchange::PostQuantum)?),
            flowing: Vec::new(),
            tasks: Vec::new(),
        };
        let clients = Arc::clone(&load.clients);
        load.spawn(
            world,
            "keep-alive",
            keeps_alive_owned(Arc::clone(&clients), Duration::ZERO),
        );
        for _ in 0..4 {
            let thinker = keeps_alive_owned(Arc::clone(&clients), THINKING);
            load.spawn(world, "keep-alive and pauses", thinker);
        }
        let many = Arc::clone(&clients);
        load.spawn(world, "streams", async move { multiplexes(&many).await });
        for version in [Version::H1, Version::H2] {
            let clients = Arc::clone(&clients);
            let anew = async move { comes_anew(&clients, version).await };
            load.spawn(world, "a new connection", anew);
        }
        Ok(load)
    }

    fn tally(tls: Arc<ClientConfig>) -> Arc<Clients> {
        Arc::new(Clients {
            tls,
            done: AtomicU64::default(),
            stop: AtomicBool::default(),
            failures: Mutex::default(),
        })
    }

    fn spawn(
        &mut self,
        world: &World,
        what: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let clients = Arc::clone(&self.clients);
        let noted = async move { clients.note(what, work.await) };
        self.tasks.push(world.client_runtime.spawn(noted));
    }

    /// Transfers that have begun, both ways over both versions.
    fn transfers(&mut self, world: &World) -> Result<()> {
        for version in [Version::H1, Version::H2] {
            let flowing = Self::tally(Arc::clone(&self.clients.tls));
            let (clients, down) = (Arc::clone(&self.clients), Arc::clone(&flowing));
            let download = async move { downloads(&clients, &down, version).await };
            self.spawn(world, "a download", download);
            let (clients, up) = (Arc::clone(&self.clients), Arc::clone(&flowing));
            let upload = async move { uploads(&clients, &up, version).await };
            self.spawn(world, "an upload", upload);
            self.flowing.push(flowing);
        }
        self.flow()
    }

    /// All transfers go on.
    fn flow(&self) -> Result<()> {
        for flowing in &self.flowing {
            let before = flowing.done.load(Relaxed);
            wait_for("progress of the transfers", || {
                let failed = self.clients.stopped();
                (failed || flowing.done.load(Relaxed) > before + 8).then_some(())
            })?;
        }
        self.clients.clean()
    }

    fn finish(self, world: &World) -> Result<()> {
        for tally in self.flowing.iter().chain([&self.clients]) {
            tally.stop.store(true, Relaxed);
        }
        for task in self.tasks {
            let ended = async { tokio::time::timeout(mc_testkit::DEADLINE, task).await };
            let ended = world.client_runtime.block_on(ended);
            ended.context("a client that hangs")??;
        }
        self.clients.clean()
    }
}

async fn keeps_alive_owned(clients: Arc<Clients>, pause: Duration) -> Result<()> {
    keeps_alive(&clients, pause).await
}

#[test]
fn three_upgrades_under_http_fail_no_request() -> Result<()> {
    let world = installed("")?;
    let mut load = Load::start(&world)?;
    for round in 0..3 {
        load.transfers(&world)?;
        load.clients.progress(200)?;
        world.install()?;
        upgrade(&world).with_context(|| format!("round {round}\n{}", world.log()))?;
        load.clients
            .progress(200)
            .with_context(|| format!("round {round}\n{}", world.log()))?;
        load.flow()?;
    }
    ensure!(world.pids().len() == 4, "transfers keep every daemon");
    load.finish(&world).with_context(|| world.log())?;
    let last = serving(&world)?;
    alone(&world, last)?;
    for complaint in ["ERROR", "panicked", "were cut"] {
        ensure!(!world.log().contains(complaint), "{}", world.log());
    }
    world.verified()
}
