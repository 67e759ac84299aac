//! What is refused at an L7 route: requests that two parsers may read differently, and clients that want too much.

mod deaf;
mod fields;
mod frames;
mod http2;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{ca::KeyExchange, wait_for};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{NAME, Seen, Site};
use crate::world::NODE;

/// As long as the conditions of other tests.
const PATIENCE: Duration = mc_testkit::DEADLINE;

const HOST: &str = "Host: web.example.org\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: web.example.org\r\n\r\n";

impl Site {
    fn config(&self, alpn: &[&[u8]]) -> Result<Arc<rustls::ClientConfig>> {
        let mut config = (*self.ca.client_config(KeyExchange::Classic)?).clone();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Runs a client in its namespace.
    fn client<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = &self.world.client_runtime;
        runtime
            .block_on(runtime.spawn(async { timeout(2 * PATIENCE, work).await }))?
            .context("the client waits for ever")?
            .with_context(|| self.world.log())
    }

    /// Sends pieces and says what came back until the connection ended.
    fn raw(&self, pieces: Vec<Vec<u8>>) -> Result<String> {
        let config = self.config(&[b"http/1.1"])?;
        self.client(async move {
            let (mut read, mut write) = tokio::io::split(connect(config).await?);
            let writing = tokio::spawn(async move {
                for piece in pieces {
                    // It may have been closed.
                    if write.write_all(&piece).await.is_err() {
                        break;
                    }
                    let _ = write.flush().await;
                }
                write
            });
            let mut answer = Vec::new();
            // A reset after the answer is an end, too.
            while let Ok(1..) = read.read_buf(&mut answer).await {}
            writing.abort();
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
    }

    /// Resident memory of the daemon, MiB.
    fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.world.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|l| l.split_whitespace().next())
            .context("VmRSS")?
            .parse()?;
        Ok(kib / 1024)
    }
}

async fn connect(config: Arc<rustls::ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((NODE, 443)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(NAME)?;
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

fn statuses(answer: &str) -> Vec<&str> {
    (answer.split("HTTP/1.1 ").skip(1))
        .filter_map(|response| response.get(..3))
        .collect()
}

fn taken(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().expect("no backend panics with it"))
}

#[test]
fn requests_that_two_parsers_may_read_differently_are_refused() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    let post = |fields: &str, body: &str| -> String {
        format!("POST /sum HTTP/1.1\r\n{HOST}{fields}\r\n{body}{SMUGGLED}")
    };
    let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n{SMUGGLED}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let te = |value: &str| post(&format!("Transfer-Encoding:{value}\r\n"), "0\r\n\r\n");
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let reversed = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    for (description, stream) in [
        ("CL.TE", post(both, "0\r\n\r\n")),
        ("TE.CL", post(reversed, "0\r\n\r\n")),
        (
            "TE.TE",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
                "0\r\n\r\n",
            ),
        ),
        ("chunked, identity", te(" chunked, identity")),
        ("gzip, chunked", te(" gzip, chunked")),
        ("xchunked", te(" xchunked")),
        ("a vertical tab before it", te("\x0bchunked")),
        ("quoted", te(" \"chunked\"")),
        ("folded", te("\r\n chunked")),
        (
            "a space before its colon",
            post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "TE after a bare LF",
            post("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "TE after a bare CR",
            post("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "chunked in HTTP/1.0",
            te(" chunked").replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
        ),
        (
            "CL.CL",
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        ),
        (
            "CL.CL, equal",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ),
        (
            "a list of lengths",
            post("Content-Length: 5, 5\r\n", "hello"),
        ),
        ("+5", post("Content-Length: +5\r\n", "hello")),
        ("-1", post("Content-Length: -1\r\n", "")),
        ("0x5", post("Content-Length: 0x5\r\n", "hello")),
        (
            "2^64 + 5",
            post("Content-Length: 18446744073709551621\r\n", "hello"),
        ),
        ("obs-fold", get(&format!("{HOST}X: y\r\n z\r\n"))),
        ("bare LF", get(&HOST.replace("\r\n", "\n"))),
        ("NUL in a value", get(&format!("{HOST}X: \0\r\n"))),
        ("no Host", get("X: y\r\n")),
        ("two Hosts", get(&format!("{HOST}{HOST}"))),
        ("two spaces", get(HOST).replacen("GET /", "GET  /", 1)),
        (
            "an authority as target",
            get(HOST).replacen("GET /", "GET web.example.org", 1),
        ),
        ("two empty lines before", format!("\r\n\r\n{}", get(HOST))),
        (
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
    ] {
        for size in [stream.len(), 11] {
            let answer = site.raw(stream.as_bytes().chunks(size).map(<[u8]>::to_vec).collect())?;
            ensure!(statuses(&answer) == ["400"], "{description}: {answer}");
            let got = taken(&seen);
            ensure!(got.is_empty(), "{description}: the backend saw {got:?}");
        }
    }
    for (description, stream) in [
        ("a chunk of 0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("+5", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        (
            "white space after the size",
            chunked("5 \r\nhello\r\n0\r\n\r\n"),
        ),
        ("a bare LF after the size", chunked("5\nhello\r\n0\r\n\r\n")),
        (
            "a bare LF in an extension",
            chunked("5;a\nhello\r\n0\r\n\r\n"),
        ),
        ("a bare LF after the data", chunked("5\r\nhello\n0\r\n\r\n")),
        (
            "data longer than its size",
            chunked("5\r\nhello, world\r\n0\r\n\r\n"),
        ),
        (
            "a size of 2^64 + 5",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a long extension",
            chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200))),
        ),
        ("a bare LF at the end", chunked("5\r\nhello\r\n0\r\n\n")),
        (
            "a length in trailers",
            chunked("0\r\nContent-Length: 3\r\n\r\n"),
        ),
    ] {
        let answer = site.raw(vec![stream.into_bytes()])?;
        ensure!(statuses(&answer) == ["400"], "{description}: {answer}");
        let got = taken(&seen);
        ensure!(
            got.iter().all(|request| request == "POST /sum"),
            "{description}: the backend saw {got:?}"
        );
    }
    Ok(())
}

#[test]
fn hosts_and_targets_agree_with_the_route() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    let close = "Connection: close\r\n\r\n";
    for (description, target, host, status) in [
        ("as it should be", "/", NAME, "200"),
        ("with the port", "/", "web.example.org:443", "200"),
        ("in capitals", "/", "WEB.example.ORG", "200"),
        ("absolute", "https://web.example.org/", NAME, "200"),
        (
            "absolute, another host",
            "https://other.example.org/",
            NAME,
            "400",
        ),
        (
            "absolute, both another host",
            "https://other.example.org/",
            "other.example.org",
            "421",
        ),
        ("another host", "/", "other.example.org", "421"),
        ("an address", "/", "10.9.1.1", "421"),
        ("nothing", "/", "", "400"),
        ("a user", "/", "x@web.example.org", "400"),
        (
            "a user in the target",
            "https://x@web.example.org/",
            "x@web.example.org",
            "400",
        ),
        ("a port that is none", "/", "web.example.org:x", "400"),
        ("a port with a sign", "/", "web.example.org:+80", "400"),
        (
            "a port of many zeros",
            "/",
            "web.example.org:0000443",
            "400",
        ),
        ("two", "/", "web.example.org, other.example.org", "400"),
        ("a path in it", "/", "web.example.org/x", "400"),
        ("white space in it", "/", "web.example.org x", "400"),
    ] {
        let stream = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{close}");
        let answer = site.raw(vec![stream.into_bytes()])?;
        ensure!(statuses(&answer) == [status], "{description}: {answer}");
        let got = taken(&seen);
        ensure!(
            got.len() == usize::from(status == "200"),
            "{description}: the backend saw {got:?}"
        );
    }
    Ok(())
}

#[test]
fn oversized_heads_are_refused() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    let large = "x".repeat(80_000);
    for (description, stream) in [
        ("a target", format!("GET /{large} HTTP/1.1\r\n{HOST}\r\n")),
        (
            "a field",
            format!("GET / HTTP/1.1\r\n{HOST}X: {large}\r\n\r\n"),
        ),
        (
            "a name",
            format!("GET / HTTP/1.1\r\n{HOST}{large}: y\r\n\r\n"),
        ),
        (
            "fields",
            format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "a: b\r\n".repeat(200)),
        ),
        (
            "no end",
            format!("GET / HTTP/1.1\r\n{HOST}{}", "a: b\r\n".repeat(20_000)),
        ),
    ] {
        let answer = site.raw(vec![stream.into_bytes()]).context(description)?;
        let status = statuses(&answer);
        ensure!(
            matches!(status[..], ["400" | "414" | "431"]),
            "{description}: {answer}"
        );
        ensure!(taken(&seen).is_empty(), "{description}");
    }
    Ok(())
}

#[test]
fn slow_heads_and_bodies_end_the_connection() -> Result<()> {
    let (site, seen) = Site::recorded("--idle-timeout 1s")?;
    let config = site.config(&[b"http/1.1"])?;
    // A byte now and then, until it is closed.
    let dripped = site.client(async move {
        let mut stream = connect(config).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
        let mut answer = Vec::new();
        loop {
            let read = stream.read_buf(&mut answer);
            match timeout(Duration::from_millis(300), read).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Ok(answer),
                Err(_) => drop(stream.write_all(b"y").await),
            }
        }
    })?;
    let dripped = String::from_utf8_lossy(&dripped).into_owned();
    ensure!(statuses(&dripped) == ["408"], "{dripped}");
    ensure!(dripped.contains("\r\nconnection: close\r\n"), "{dripped}");
    ensure!(taken(&seen).is_empty(), "the backend saw half a head");
    let answer = site.raw(vec![b"hello\r\n\r\n".to_vec()])?;
    ensure!(statuses(&answer) == ["400"], "{answer}");
    for (status, reason) in [(408, "request_header_timeout"), (400, "malformed_request")] {
        let wanted = format!(
            "route=web.example.org port=443 status={status} side=\"client\" reason=\"{reason}\""
        );
        wait_for("a line in the access log", || {
            let log = site.world.log();
            let mut lines = log.lines().filter(|line| line.contains("mc_proxy::access"));
            lines.any(|line| line.contains(&wanted)).then_some(())
        })
        .with_context(|| format!("{wanted}\n{}", site.world.log()))?;
        let labels = [&format!("reason=\"{reason}\"")[..]];
        (site.world).wait_metric("mc_proxy_errors_total", &labels, 1.0)?;
    }
    let labels = ["class=\"4xx\""];
    (site.world).wait_metric("mc_proxy_requests_total", &labels, 2.0)?;
    let head = format!("POST /sum HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhe");
    let answer = site.raw(vec![head.into_bytes()])?;
    ensure!(statuses(&answer) == ["408"], "{answer}");
    Ok(())
}
