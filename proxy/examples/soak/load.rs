//! Which clients there are, and how often each does something.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Load,
    clients::{PIECE, Proxy, Version, ask, empty, hex, pieces},
    tally::Tally,
};

/// Clients of each kind of short work.
const EACH: usize = 4;
/// Between the pieces of a transfer.
const PACE: Duration = Duration::from_millis(10);
/// After a failure: it is counted, and shall not be counted a million times.
const CALM: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Client {
    proxy: Proxy,
    tally: Arc<Tally>,
    end: Instant,
    /// Between the pieces of short work.
    period: Option<Duration>,
    transfer: Option<Duration>,
}

pub(crate) async fn run(load: Load) -> Result<()> {
    let relayed = load.relayed.len();
    let short = EACH * (4 + relayed);
    let client = Client {
        proxy: Proxy {
            address: load.address,
            name: load.http.clone(),
            tls: tls(&load)?,
        },
        tally: Arc::new(Tally::new()),
        end: Instant::now() + Duration::from_secs(load.seconds),
        period: load
            .rate
            .map(|rate| Duration::from_secs_f64(short as f64 / rate)),
        transfer: load.transfers.map(Duration::from_secs),
    };
    let mut tasks = JoinSet::new();
    for _ in 0..EACH {
        tasks.spawn(client.clone().keeps_alive());
        tasks.spawn(client.clone().multiplexes());
        for version in [Version::H1, Version::H2] {
            tasks.spawn(client.clone().comes_anew(version));
        }
        for name in &load.relayed {
            tasks.spawn(client.clone().visits(name.clone()));
        }
    }
    for version in [Version::H1, Version::H2] {
        tasks.spawn(client.clone().downloads(version));
        tasks.spawn(client.clone().uploads(version));
        tasks.spawn(client.clone().tunnels(version));
    }
    for name in &load.relayed {
        tasks.spawn(client.clone().relays(name.clone()));
    }
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => println!("{}", serde_json::to_string(&client.tally.report())?),
            ended = tasks.join_next() => match ended {
                Some(ended) => ended.context("a client panicked")?,
                None => break,
            },
        }
    }
    println!("{}", serde_json::to_string(&client.tally.report())?);
    Ok(())
}

fn tls(load: &Load) -> Result<Arc<ClientConfig>> {
    let pem = fs::read(&load.ca).with_context(|| format!("cannot read {}", load.ca.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).context("the CA's certificate")?)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config.into())
}

impl Client {
    fn over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Beats for short work. All clients at once would be a burst: each begins by chance of its start, and none catches up.
    fn beat(&self) -> Option<Interval> {
        self.period.map(|period| {
            let mut beat = interval(period);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        })
    }

    async fn again(&self, what: &'static str, result: Result<()>) {
        if !self.tally.note(what, result) {
            sleep(CALM).await;
        }
    }

    /// Requests on a connection of HTTP/1.1, which ends only after a response that says so.
    async fn keeps_alive(self) {
        let mut beat = self.beat();
        while !self.over() {
            let result = async {
                let mut sender = self.proxy.connect(Version::H1).await?;
                while !self.over() {
                    rest(&mut beat).await;
                    let asked = ask(&self.proxy, &mut sender).await?;
                    self.tally.done("h1 kept");
                    match asked {
                        None => bail!("the connection was closed without a word"),
                        Some(true) => {}
                        Some(false) => break,
                    }
                }
                Ok(())
            };
            self.again("HTTP/1.1, kept", result.await).await;
        }
    }

    /// Requests on a connection of HTTP/2, until it goes away.
    async fn multiplexes(self) {
        let mut beat = self.beat();
        while !self.over() {
            let result = async {
                let mut sender = self.proxy.connect(Version::H2).await?;
                while !self.over() {
                    rest(&mut beat).await;
                    if ask(&self.proxy, &mut sender).await?.is_none() {
                        // On the next connection.
                        self.tally.done("h2 again");
                        break;
                    }
                    self.tally.done("h2 kept");
                }
                Ok(())
            };
            self.again("HTTP/2, kept", result.await).await;
        }
    }

    async fn comes_anew(self, version: Version) {
        let mut beat = self.beat();
        while !self.over() {
            rest(&mut beat).await;
            let result = async {
                let mut sender = self.proxy.connect(version).await?;
                let asked = ask(&self.proxy, &mut sender).await?;
                asked.context("a new connection takes no request")?;
                self.tally.done("new");
                Ok(())
            };
            self.again("a new connection", result.await).await;
        }
    }

    async fn visits(self, name: String) {
        let mut beat = self.beat();
        while !self.over() {
            rest(&mut beat).await;
            let result = async {
                let mut stream = self.proxy.relayed(&name).await?;
                stream.write_all(b"ping").await?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).await?;
                ensure!(&answer == b"ping", "{answer:?} came back");
                stream.shutdown().await?;
                ensure!(stream.read(&mut answer).await? == 0, "more came back");
                self.tally.done("relayed");
                Ok(())
            };
            self.again("a relayed connection", result.await).await;
        }
    }

    /// How many pieces a transfer has; `None` when there is no time for one.
    fn pieces(&self) -> Option<u64> {
        let transfer = self.transfer?;
        let pieces = transfer.as_millis() / PACE.as_millis();
        (Instant::now() + transfer < self.end).then_some(pieces as u64)
    }

    async fn downloads(self, version: Version) {
        while let Some(count) = self.pieces() {
            let result = async {
                let mut sender = self.proxy.connect(version).await?;
                let path = format!("/bytes/{count}");
                let request = self.proxy.request(version, "GET", &path, empty())?;
                let response = sender.send(request).await?.context("no request")?;
                let (mut body, mut sum, mut read) = (response.into_body(), Sha256::new(), 0);
                while let Some(frame) = body.frame().await {
                    let frame = frame?;
                    let data = frame.data_ref().context("trailers")?;
                    sum.update(data);
                    read += data.len();
                    sleep(PACE * u32::try_from(data.len())? / PIECE as u32).await;
                }
                ensure!(
                    sum.finalize() == sum_of(count),
                    "another sum of {read} bytes"
                );
                self.tally.done("downloads");
                Ok(())
            };
            self.again("a download", result.await).await;
        }
    }

    async fn uploads(self, version: Version) {
        while let Some(count) = self.pieces() {
            let result = async {
                let mut sender = self.proxy.connect(version).await?;
                let (send, receive) = mpsc::channel(1);
                let producing = tokio::spawn(async move {
                    for piece in pieces(count) {
                        // Whoever takes no more says why itself.
                        if send.send(Ok(Frame::data(piece))).await.is_err() {
                            return;
                        }
                        sleep(PACE).await;
                    }
                });
                let body = StreamBody::new(ReceiverStream::new(receive)).boxed();
                let request = self.proxy.request(version, "POST", "/sum", body)?;
                let response = sender.send(request).await?.context("no request")?;
                let got = response.into_body().collect().await?.to_bytes();
                producing.await?;
                ensure!(got == hex(&sum_of(count)), "another sum: {got:?}");
                self.tally.done("uploads");
                Ok(())
            };
            self.again("an upload", result.await).await;
        }
    }

    async fn tunnels(self, version: Version) {
        while let Some(count) = self.pieces() {
            let result = async {
                let io = self.proxy.tunnel(version).await?;
                back_and_forth(io, count).await?;
                self.tally.done("tunnels");
                Ok(())
            };
            self.again("a tunnel", result.await).await;
        }
    }

    async fn relays(self, name: String) {
        while let Some(count) = self.pieces() {
            let result = async {
                let stream = self.proxy.relayed(&name).await?;
                back_and_forth(stream, count).await?;
                self.tally.done("transfers");
                Ok(())
            };
            self.again("a relayed transfer", result.await).await;
        }
    }
}

/// Each piece goes there and comes back before the next.
async fn back_and_forth<S>(mut stream: S, count: u64) -> Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut back = vec![0; PIECE];
    for piece in pieces(count) {
        stream.write_all(&piece).await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await?;
        ensure!(back == piece, "what came back is not what was sent");
        sleep(PACE).await;
    }
    stream.shutdown().await?;
    ensure!(stream.read(&mut back).await? == 0, "more came back");
    Ok(())
}

async fn rest(beat: &mut Option<Interval>) {
    if let Some(beat) = beat {
        beat.tick().await;
    }
}

fn sum_of(count: u64) -> sha2::digest::Output<Sha256> {
    let mut sum = Sha256::new();
    pieces(count).for_each(|piece| sum.update(piece));
    sum.finalize()
}
