//! A route changes while clients are connected: what is under way goes on, and no request begins by what was in force for long.

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn,
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mc_testkit::wait_for;
use tokio::{io::AsyncReadExt as _, task::JoinHandle};

use super::{NAME, Site, Speaks, requests::get};

/// A change of the route, and what its next client gets: a backend's name, or nothing.
type Change = (
    &'static str,
    fn(&Site) -> Result<String>,
    Option<&'static str>,
);

const CHANGES: [Change; 3] = [
    (
        "other backends",
        |site| {
            let two = site.world.http("two", Speaks::Http1, &site.ca)?;
            site.route(&format!("--backend {two}"))
        },
        Some("two"),
    ),
    (
        "disabled",
        |site| site.world.run(&format!("route disable {NAME}")),
        None,
    ),
    (
        "removed",
        |site| site.world.run(&format!("route remove {NAME}")),
        None,
    ),
];

fn next_client(site: &Site, wanted: Option<&str>) -> Result<()> {
    let got = site.curl("", "/");
    match wanted {
        Some(name) => ensure!(got.as_ref().is_ok_and(|g| g.contains(name)), "{got:?}"),
        None => ensure!(got.is_err(), "{got:?}"),
    }
    Ok(())
}

/// A large download that began before the change, and its length.
async fn finish(response: hyper::Response<Incoming>) -> Result<usize> {
    Ok(response.collect().await?.to_bytes().len())
}

#[test]
fn http2_connections_of_a_changed_route_are_told_to_go() -> Result<()> {
    for (description, change, wanted) in CHANGES {
        let site = Site::new(Speaks::Http1, "")?;
        let stream = site.connect("h2")?;
        let url = format!("https://{NAME}/bytes/20000000");
        let (response, connection, _sender) = site.run(async move {
            let (mut sender, connection) = conn::http2::handshake::<_, _, Empty<Bytes>>(
                TokioExecutor::new(),
                TokioIo::new(stream),
            )
            .await?;
            let connection = tokio::spawn(connection);
            let request = Request::get(url).body(Empty::new())?;
            Ok((sender.send_request(request).await?, connection, sender))
        })?;
        change(&site).context(description)?;
        next_client(&site, wanted).context(description)?;
        ensure!(
            site.run(finish(response)).context(description)? == 20_000_000,
            "{description}"
        );
        // It ends although the client could ask on: hyper's ends once the server's GOAWAY has come and nothing is under way.
        ended(&site, connection).context(description)?;
    }
    Ok(())
}

fn ended(site: &Site, connection: JoinHandle<hyper::Result<()>>) -> Result<()> {
    wait_for("the connection to end", || {
        connection.is_finished().then_some(())
    })?;
    site.run(async move { Ok(connection.await??) })
}

#[test]
fn a_route_that_is_set_as_it_was_keeps_its_connections() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    let stream = site.connect("http/1.1")?;
    let mut sender = site.run(async move {
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    })?;
    site.world.run(&format!("route enable {NAME}"))?;
    site.add_backend("")?;
    site.world.run("maps verify --repair")?;
    let response = site.run(async move {
        let request = get("/").body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    })?;
    ensure!(
        !response.headers().contains_key(header::CONNECTION),
        "{response:?}"
    );
    Ok(())
}

#[test]
fn http1_connections_of_a_changed_route_end_with_a_response() -> Result<()> {
    for (description, change, wanted) in CHANGES {
        let site = Site::new(Speaks::Http1, "")?;
        // One that downloads while the route changes, one that asks once more after it, one that does not.
        let (stream, asks, idle) = (
            site.connect("http/1.1")?,
            site.connect("http/1.1")?,
            site.connect("http/1.1")?,
        );
        let (response, mut asks) = site.run(async move {
            let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let (mut asks, connection) = conn::http1::handshake(TokioIo::new(asks)).await?;
            tokio::spawn(connection);
            let request = || get("/bytes/20000000").body(Empty::<Bytes>::new());
            let first = asks
                .send_request(get("/").body(Empty::<Bytes>::new())?)
                .await?;
            first.collect().await?;
            Ok((sender.send_request(request()?).await?, asks))
        })?;
        change(&site).context(description)?;
        next_client(&site, wanted).context(description)?;
        let last = site.run(async move {
            let last = asks.send_request(get("/").body(Empty::new())?).await?;
            Ok(last.headers().get(header::CONNECTION).cloned())
        });
        ensure!(
            last.context(description)?
                .is_some_and(|close| close == "close"),
            "{description}"
        );
        ensure!(
            site.run(finish(response)).context(description)? == 20_000_000,
            "{description}"
        );
        let rest = site.run(async move {
            let (mut idle, mut rest) = (idle, Vec::new());
            Ok(idle.read_to_end(&mut rest).await?)
        });
        ensure!(rest.context(description)? == 0, "{description}");
    }
    Ok(())
}

/// Whoever reads the log is to see that protection was taken off.
#[test]
fn the_audit_log_has_every_option_of_a_route_and_of_the_one_before() -> Result<()> {
    let site = Site::new(
        Speaks::Http1,
        "--max-body 1KiB --health http --health-path /alive",
    )?;
    let ca = site.path("ca.pem");
    site.add_backend(&format!("--client-ca {ca}"))?;
    let lines = |site: &Site| -> Result<Vec<String>> {
        let rows = site.world.json(&["audit"])?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let detail = |row: &serde_json::Value| row["detail"].as_str().map(str::to_owned);
        Ok(rows.iter().filter_map(detail).collect())
    };
    let now = lines(&site)?;
    let (wanted, before) = (
        format!("; client ca {ca}"),
        "(before: web.example.org on port 443 -> ",
    );
    for wanted in [
        &*wanted,
        before,
        "; max body 1024",
        "; health check http",
        "; health path /alive",
    ] {
        ensure!(now[0].contains(wanted), "{wanted} in {now:?}");
    }
    let replaced = site
        .world
        .run(&format!("route add {NAME} --replace {}", site.backend))?;
    ensure!(
        replaced.contains("hint: TLS ended at the proxy before"),
        "{replaced}"
    );
    let shown = site.world.run(&format!("route show {NAME}"))?;
    let command = format!("mcproxyctl route add {NAME} --port=443 --replace --backend=");
    ensure!(shown.contains(&command), "{shown}");
    let relayed = lines(&site)?;
    let (new, old) = relayed[0]
        .split_once(" (before: ")
        .context("the one before")?;
    ensure!(
        !new.contains("certificate") && old.contains("client ca"),
        "{relayed:?}"
    );
    Ok(())
}

/// A new daemon has the files alone.
#[test]
fn an_upgrade_that_would_lose_a_certificate_is_refused() -> Result<()> {
    let site = Site::new(Speaks::Http1, "")?;
    site.ca
        .issue(&["other.example.org"])?
        .write(site.world.dir.path(), "web")?;
    let (code, why) = site.world.ctl_fails(&["upgrade"])?;
    ensure!(code != 0, "{code}");
    for wanted in [&format!("{NAME} on port 443"), "is not for", "--force"] {
        ensure!(why.contains(wanted), "{wanted} in {why}");
    }
    ensure!(site.curl("", "/")?.starts_with("hello from one"));
    // With the word it goes on, without that route.
    let pid = site.world.json(&["upgrade", "--force"])?["pid"].as_u64();
    ensure!(pid != Some(u64::from(site.world.pid())), "{pid:?}");
    ensure!(site.curl("", "/").is_err());
    site.ca
        .issue(&[NAME])?
        .write(site.world.dir.path(), "web")?;
    wait_for("the route to be served again", || site.curl("", "/").ok())?;
    Ok(())
}
