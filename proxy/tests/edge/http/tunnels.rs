//! Connections that stop being HTTP, and that they count as connections still.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode, body::Incoming, client::conn, header, upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::wait_for;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    NAME, Site, Speaks,
    requests::{Client, get},
    uploads::Says,
};

type Tunnel = TokioIo<Upgraded>;

/// By HTTP/1.1: RFC 6455.
async fn upgraded(stream: Client) -> Result<Tunnel> {
    let (mut sender, connection) =
        conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let request = get("/upgrade")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    ensure!(
        response.status() == StatusCode::SWITCHING_PROTOCOLS
            && response.headers()[header::UPGRADE] == "websocket",
        "{response:?}"
    );
    if let Some(accept) = response.headers().get(header::SEC_WEBSOCKET_ACCEPT) {
        ensure!(accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455 §1.3");
    }
    tunnel(response).await
}

/// By HTTP/2: RFC 8441.
async fn connected(stream: Client) -> Result<Tunnel> {
    let (mut sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    let mut request = Request::connect(format!("https://{NAME}/upgrade")).body(Empty::new())?;
    let protocol = hyper::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "{response:?}");
    tunnel(response).await
}

async fn tunnel(response: Response<Incoming>) -> Result<Tunnel> {
    Ok(TokioIo::new(hyper::upgrade::on(response).await?))
}

async fn echoes_in_upper_case(io: &mut Tunnel) -> Result<()> {
    for word in ["hello", "again"] {
        io.write_all(word.as_bytes()).await?;
        let mut got = [0; 5];
        io.read_exact(&mut got).await?;
        ensure!(got == *word.to_uppercase().as_bytes(), "{got:?}");
    }
    Ok(())
}

/// Its side first: what the other says after that still comes.
async fn ends(mut io: Tunnel) -> Result<()> {
    io.write_all(b"last").await?;
    io.shutdown().await?;
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await?;
    ensure!(rest == b"LAST", "{rest:?}");
    Ok(())
}

#[test]
fn websockets_pass_by_upgrade_and_by_extended_connect() -> Result<()> {
    for backend in [Speaks::Http1, Speaks::H2c] {
        let site = Site::new(backend, "")?;
        let (one, two) = (site.connect("http/1.1")?, site.connect("h2")?);
        site.run(async move {
            let mut io = upgraded(one).await.context("upgrade")?;
            echoes_in_upper_case(&mut io).await?;
            ends(io).await?;
            let mut io = connected(two).await.context("extended CONNECT")?;
            echoes_in_upper_case(&mut io).await?;
            ends(io).await
        })
        .with_context(|| format!("to {backend:?}"))?;
    }
    Ok(())
}

#[test]
fn http_2_is_no_tunnel() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let stream = site.connect("h2")?;
    let statuses = site.run(async move {
        let (sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        for protocol in ["h2c", "websocket, h2c", "a\u{1}b"] {
            let mut sender = sender.clone();
            let mut request =
                Request::connect(format!("https://{NAME}/upgrade")).body(Empty::new())?;
            (request.extensions_mut()).insert(hyper::ext::Protocol::from_static(protocol));
            sender.ready().await?;
            statuses.push(sender.send_request(request).await?.status().as_u16());
        }
        Ok(statuses)
    })?;
    ensure!(statuses == [501; 3], "{statuses:?}");
    let upgrade = "-H Connection:upgrade -H Upgrade:x,h2c -o /dev/null -w %{http_code}";
    let status = site.curl(&format!("--http1.1 {upgrade}"), "/upgrade")?;
    ensure!(status == "200", "answered as any request: {status}");
    Ok(())
}

#[test]
fn a_backend_is_not_asked_for_a_tunnel_that_it_has_not_enabled() -> Result<()> {
    let site = Site::bare()?;
    let (address, resets) = site.deaf(Says::All)?;
    site.route(&format!("--backend {address} --protocol h2c"))?;
    let upgrade = "-H Connection:upgrade -H Upgrade:websocket -o /dev/null -w %{http_code}";
    let status = site.curl(&format!("--http1.1 {upgrade}"), "/")?;
    ensure!(status == "502", "{status}");
    let reason = ["reason=\"backend_refused_upgrade\""];
    site.world
        .wait_metric("mc_proxy_errors_total", &reason, 1.0)?;
    let failures = "mc_proxy_backend_connect_failures_total";
    ensure!(site.world.metric(failures, &[NAME])? == 0.0, "it is well");
    // It answers requests.
    let got = site.curl("", "/")?;
    ensure!(got == "answer", "{got}");
    let resets = resets.lock().expect("no backend panics with it");
    ensure!(resets.is_empty(), "{resets:?}");
    Ok(())
}

#[test]
fn a_tunnel_keeps_the_place_of_its_connection() -> Result<()> {
    let site = Site::new(Speaks::Http1, "--max-connections 1")?;
    let active = || {
        let route = format!("hostname=\"{NAME}\"");
        site.world.metric("mc_proxy_connections_active", &[&route])
    };
    let stream = site.connect("http/1.1")?;
    let io = site.run(async move {
        let mut io = upgraded(stream).await?;
        echoes_in_upper_case(&mut io).await?;
        Ok(io)
    })?;
    ensure!(active()? == 1.0, "the tunnel is a connection of the route");
    ensure!(site.connect("http/1.1").is_err(), "it has the only place");
    site.run(ends(io))?;
    let route = format!("hostname=\"{NAME}\"");
    (site.world).wait_metric("mc_proxy_connections_active", &[&route], 0.0)?;
    site.connect("http/1.1")
        .map(drop)
        .context("its place is free")
}

#[test]
fn a_tunnel_is_logged_with_the_status_that_its_client_got() -> Result<()> {
    let site = Site::new(Speaks::Http1, "--idle-timeout 1s")?;
    for (way, status, end) in [
        ("http/1.1", 101, "reason=\"idle\""),
        ("h2", 200, "total_us"),
        ("h2", 200, "reason=\"idle\""),
    ] {
        let stream = site.connect(way)?;
        site.run(async move {
            let mut io = match status {
                101 => upgraded(stream).await?,
                _ => connected(stream).await?,
            };
            echoes_in_upper_case(&mut io).await?;
            if end == "total_us" {
                return ends(io).await;
            }
            // Or a reset, after silence.
            drop(io.read_to_end(&mut Vec::new()).await);
            Ok(())
        })
        .context(way)?;
        let wanted = format!("status={status} ");
        let told = |line: &str| line.contains(&wanted) && line.contains(end);
        wait_for("its end in the access log", || {
            let log = site.world.log();
            let last = log.lines().rfind(|line| line.contains("/upgrade"));
            last.is_some_and(told).then_some(())
        })
        .with_context(|| format!("{way}, {end}: {}", site.world.log()))?;
    }
    Ok(())
}

#[test]
fn sigterm_waits_for_a_tunnel() -> Result<()> {
    let mut site = Site::new(Speaks::Http1, "")?;
    let stream = site.connect("http/1.1")?;
    let io = site.run(upgraded(stream))?;
    site.world.daemon().signal(Signal::SIGTERM)?;
    site.world.daemon().wait_for_output("draining")?;
    site.run(async move {
        let mut io = io;
        echoes_in_upper_case(&mut io).await?;
        ends(io).await
    })?;
    let status = site.world.daemon().wait_exit()?;
    ensure!(status.success(), "{status}\n{}", site.world.log());
    Ok(())
}
