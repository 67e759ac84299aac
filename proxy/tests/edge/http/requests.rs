//! Requests of every shape: limits, refusals, trailers, and what becomes of them when a backend fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    HeaderMap, Request,
    client::conn,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::ca::KeyExchange;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{NAME, Site, Speaks};
use crate::world::NODE;

pub(super) type Client = TlsStream<TcpStream>;

impl Site {
    /// A TLS connection from the client's namespace with one ALPN protocol.
    pub(super) fn connect(&self, alpn: &str) -> Result<Client> {
        let mut config = (*self.ca.client_config(KeyExchange::PostQuantum)?).clone();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        self.run(async move {
            let stream = TcpStream::connect((NODE, 443)).await?;
            Ok(connector
                .connect(ServerName::try_from(NAME)?, stream)
                .await?)
        })
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = &self.world.client_runtime;
        runtime
            .block_on(runtime.spawn(work))?
            .with_context(|| self.world.log())
    }
}

impl Site {
    /// Asks so often at once over one connection; the statuses.
    fn at_once(&self, count: usize, path: &'static str) -> Result<Vec<u16>> {
        let stream = self.connect("h2")?;
        self.run(async move {
            let io = (TokioExecutor::new(), TokioIo::new(stream));
            let (sender, connection) = conn::http2::handshake(io.0, io.1).await?;
            tokio::spawn(connection);
            let request = |_| {
                let url = format!("https://{NAME}{path}");
                let request = Request::get(url).body(Empty::<Bytes>::new())?;
                Ok(sender.clone().send_request(request))
            };
            let sent: Vec<_> = (0..count).map(request).collect::<Result<_>>()?;
            let mut statuses = Vec::new();
            for response in sent {
                statuses.push(response.await?.status().as_u16());
            }
            Ok(statuses)
        })
    }
}

pub(super) fn get(path: &str) -> hyper::http::request::Builder {
    Request::get(path).header(header::HOST, NAME)
}

#[test]
fn trailers_pass() -> Result<()> {
    for backend in [Speaks::H2c, Speaks::H2] {
        let site = Site::new(backend, "")?;
        let stream = site.connect("h2")?;
        site.run(async move {
            let (mut sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
                .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
                .await?;
            tokio::spawn(connection);
            let request = Request::get(format!("https://{NAME}/trailers"))
                .header(header::TE, "trailers")
                .body(Empty::new())?;
            let collected = sender.send_request(request).await?.collect().await?;
            let trailers = collected.trailers().context("no trailers")?;
            ensure!(trailers["x-checksum"] == "42", "{trailers:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A frame and its head are one TLS record of at most 16 KiB, whatever comes at once from the backend.
#[test]
fn frames_of_a_large_body_fit_records() -> Result<()> {
    const BYTES: usize = 1_000_003;
    for backend in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(backend, "")?;
        let stream = site.connect("h2")?;
        let (frames, body) = site.run(async move {
            let (mut sender, connection) = h2::client::Builder::new()
                .initial_window_size(2 << 20)
                .initial_connection_window_size(2 << 20)
                .handshake::<_, Bytes>(stream)
                .await?;
            tokio::spawn(connection);
            let request = Request::get(format!("https://{NAME}/bytes/{BYTES}")).body(())?;
            let mut body = sender.send_request(request, true)?.0.await?.into_body();
            let (mut frames, mut whole) = (Vec::new(), Vec::new());
            while let Some(frame) = body.data().await {
                let frame = frame?;
                frames.push(frame.len());
                whole.extend_from_slice(&frame);
            }
            Ok((frames, whole))
        })?;
        let large = frames
            .iter()
            .filter(|&&frame| frame + 9 > 16 * 1024)
            .count();
        assert_eq!((large, body.len()), (0, BYTES), "{backend:?}: {frames:?}");
        assert!(body.iter().all(|byte| *byte == b'x'), "{backend:?}");
    }
    Ok(())
}

#[test]
fn trailers_of_a_backend_lose_what_is_of_its_hop() -> Result<()> {
    let site = Site::bare()?;
    let backend = site.world.serve(|mut stream| async move {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
            Connection: x-secret\r\nX-Secret: 1\r\nTransfer-Encoding: chunked\r\nX-Checksum: 42\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
    })?;
    site.route(&format!("--backend {backend}"))?;
    let stream = site.connect("h2")?;
    let trailers = site.run(async move {
        let (mut sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        let request = Request::get(format!("https://{NAME}/")).body(Empty::new())?;
        let collected = sender.send_request(request).await?.collect().await?;
        collected.trailers().cloned().context("no trailers")
    })?;
    let wanted = HeaderMap::from_iter([(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("42"),
    )]);
    ensure!(trailers == wanted, "{trailers:?}");
    Ok(())
}

#[test]
fn what_is_refused_is_refused_with_a_status() -> Result<()> {
    let site = Site::new(Speaks::Http1, "--max-body 1000 --response-timeout 300ms")?;
    let status = "-o /dev/null -w %{http_code}";
    std::fs::write(site.path("large"), vec![b'x'; 1001])?;
    let large = format!("--data-binary @{}", site.path("large"));
    for (description, args, path, wanted) in [
        ("a plain request", String::new(), "/", "200"),
        (
            "another host on the connection",
            "-H Host:other.example.org".to_owned(),
            "/",
            "421",
        ),
        ("no host", "-H Host;".to_owned(), "/", "400"),
        ("too large, by its length", large.clone(), "/sum", "413"),
        (
            "too large, as it turns out",
            format!("{large} -H Transfer-Encoding:chunked"),
            "/sum",
            "413",
        ),
        ("too slow", String::new(), "/slow/60000", "504"),
        ("a path that is none", String::new(), "/status/404", "404"),
    ] {
        let got = site.curl(&format!("--http1.1 {status} {args}"), path)?;
        ensure!(got == wanted, "{description}: {got}\n{}", site.world.log());
    }
    site.route("--backend 10.9.2.2:1 --backend 10.9.2.2:2")?;
    let got = site.curl(status, "/")?;
    ensure!(got == "502", "backends that refuse: {got}");
    site.world
        .wait_metric("mc_proxy_errors_total", &[NAME, "backend_refused"], 1.0)?;
    Ok(())
}

#[test]
fn a_dead_backend_costs_no_request_that_is_safe_to_repeat() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    site.add_backend("--backend 10.9.2.2:1 --backend 10.9.2.2:2")?;
    for n in 0..10 {
        let got = site.curl("", "/")?;
        ensure!(got == "hello from one\n", "request {n}: {got}");
    }
    Ok(())
}

#[test]
fn connections_to_backends_are_used_again() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let stream = site.connect("http/1.1")?;
    site.run(async move {
        let (mut sender, connection) =
            conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        for _ in 0..50 {
            let response = sender
                .send_request(get("/bytes/100").body(Empty::new())?)
                .await?;
            let body = response.collect().await?.to_bytes();
            ensure!(body.len() == 100, "{body:?}");
            sender.ready().await?;
        }
        Ok(())
    })?;
    // Of the backend's connections, the client's handshakes, the requests.
    for (of, wanted) in [
        ("backend_connect", 1.0),
        ("tls_handshake", 1.0),
        ("response", 50.0),
    ] {
        let name = format!("mc_proxy_{of}_seconds_count");
        let count = site.world.metric(&name, &[NAME])?;
        ensure!(count == wanted, "{name}: {count}");
    }
    Ok(())
}

/// One client may have many, of descriptors that are not its alone.
#[test]
fn connections_to_backends_are_bounded() -> Result<()> {
    const MOST: usize = 8;
    let site = Site::configured(&format!("[server]\nmax_connections = {MOST}\n"))?;
    let (one, two) = (
        site.world.http("one", Speaks::Http1, &site.ca)?,
        site.world.http("two", Speaks::Http1, &site.ca)?,
    );
    site.route(&format!("--backend {one} --retries 0"))?;
    let mut statuses = site.at_once(4 * MOST, "/slow/1000")?;
    statuses.sort_unstable();
    let (served, refused) = statuses.split_at(MOST);
    ensure!(served.iter().all(|s| *s == 200), "{statuses:?}");
    ensure!(refused.iter().all(|s| *s == 503), "{statuses:?}");
    let labels = [NAME, "local_resources"];
    site.world
        .wait_metric("mc_proxy_errors_total", &labels, 24.0)?;
    // Those that wait for a request make room for those of another route.
    site.route(&format!("--backend {two}"))?;
    for _ in 0..MOST {
        let got = site.curl("", "/")?;
        ensure!(got == "hello from two\n", "{got}");
    }
    Ok(())
}

#[test]
fn more_requests_than_a_backend_takes_streams_go_over_more_connections() -> Result<()> {
    let site = Site::bare()?;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let backend = site.world.streams(2, move || {
        count.fetch_add(1, Relaxed);
    })?;
    site.route(&format!("--backend {backend} --protocol h2c"))?;
    for _ in 0..2 {
        let statuses = site.at_once(10, "/slow/500")?;
        ensure!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
    }
    let connections = connections.load(Relaxed);
    ensure!((5..=10).contains(&connections), "{connections}");
    Ok(())
}

#[test]
fn a_slow_client_is_not_a_slow_backend() -> Result<()> {
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(speaks, "--response-timeout 400ms")?;
        let mut stream = site.connect("http/1.1")?;
        let answer = site.run(async move {
            let head = format!(
                "POST /sum HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            for piece in [&b"x"[..], b"xx", b"xxx", b"xxxx"] {
                // Silent for longer than a backend may be.
                tokio::time::sleep(Duration::from_millis(600)).await;
                stream.write_all(piece).await?;
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        })?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "to {speaks:?}: {answer}"
        );
        // Over HTTP/1.1 without a length it comes in chunks.
        ensure!(answer.contains("\r\n10\n"), "to {speaks:?}: {answer}");
        let late = site.curl("-o /dev/null -w %{http_code}", "/slow/5000")?;
        ensure!(late == "504", "a slow backend is: {late}");
    }
    Ok(())
}

#[test]
fn a_client_may_send_all_before_it_reads() -> Result<()> {
    const SIZE: usize = 20_000_000;
    for speaks in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(speaks, "")?;
        let mut stream = site.connect("http/1.1")?;
        let got = site.run(async move {
            let head = format!("POST /early/{SIZE} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'y'; SIZE]).await?;
            // TLS keeps what the socket did not take, and reading does not send it.
            stream.flush().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(answer.iter().filter(|byte| **byte == b'x').count())
        });
        let got = got.with_context(|| format!("{speaks:?}"))?;
        ensure!(got >= SIZE, "{speaks:?}: {got}");
    }
    Ok(())
}

#[test]
fn backends_are_told_the_host_as_each_request_spells_it() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let mut sender = site.http1(site.connect("http/1.1")?)?;
    site.run(async move {
        for host in [NAME.to_owned(), NAME.to_uppercase(), NAME.to_owned()] {
            let request = Request::get("/headers").header("host", &host);
            sender.ready().await?;
            let response = sender.send_request(request.body(Empty::new())?).await?;
            let told = String::from_utf8(response.collect().await?.to_bytes().to_vec())?;
            let forwarded = format!(";host={host}\n");
            ensure!(
                told.contains(&format!("host: {host}\n")) && told.contains(&forwarded),
                "{host}: {told}"
            );
        }
        Ok(())
    })
}
