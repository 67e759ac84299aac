//! WebSockets as programs speak them: Chromium over HTTP/2 (RFC 8441), Python's `websockets` over HTTP/1.1.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{process::Process, wait_for};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{NAME, PYTHON, Site, text};
use crate::world::{BACKEND, NODE};

/// A route to a Python server of a page and a WebSocket.
fn site() -> Result<(Site, Process)> {
    let site = Site::bare()?;
    let mut command = site.world.backend.command(PYTHON);
    command.args(["-c", include_str!("websocket_server.py"), BACKEND]);
    let mut server = Process::start(&mut command)?;
    server.wait_for_output("port ")?;
    let output = server.output();
    let port = output.split_whitespace().nth(1).context("a port")?;
    site.route(&format!("--backend {BACKEND}:{port}"))?;
    Ok((site, server))
}

/// What `--ignore-certificate-errors-spki-list` takes: the one key that needs no known CA.
fn public_key_hash(certificate: &str) -> Result<String> {
    let script = "openssl x509 -in \"$0\" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | \
                  openssl enc -base64";
    let output = Command::new("sh")
        .args(["-c", script, certificate])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Chromium's processes are a group.
struct Browser(Process);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
    }
}

#[test]
fn chromium_loads_a_page_and_opens_a_websocket_over_http2() -> Result<()> {
    let (site, mut server) = site()?;
    let key = public_key_hash(&site.path("web.crt"))?;
    let profile = tempfile::tempdir()?;
    let mut command = site.world.client.command("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--ignore-certificate-errors-spki-list={key}"))
        .arg(format!("--host-resolver-rules=MAP {NAME} {NODE}"))
        .arg(format!("https://{NAME}/"));
    let browser = Browser(Process::start(&mut command)?);
    server
        .wait_for_output("/report?")
        .with_context(|| format!("{}\n{}", browser.0.output(), site.world.log()))?;
    let seen = server.output();
    // Page and script over h2, what the socket brought back, and the code of its end.
    ensure!(seen.contains("/report?h2,h2,1048576,4001"), "{seen}");
    let socket = "method=\"CONNECT\" host=\"web.example.org\" path=\"/socket\" version=\"2\"";
    wait_for("the socket in the access log", || {
        site.world.log().contains(socket).then_some(())
    })
    .with_context(|| site.world.log())
}

#[test]
fn python_speaks_websockets_over_http1() -> Result<()> {
    let (site, _server) = site()?;
    let script = include_str!("websocket_client.py");
    let ca = site.path("ca.pem");
    let output = site.program(60, &[PYTHON, "-c", script, &ca, NAME, NODE])?;
    let wanted = "text\nsame True\npong\nclosed 4001 as asked\n";
    ensure!(
        output.status.success() && output.stdout == wanted.as_bytes(),
        "{}\n{}",
        text(&output),
        site.world.log()
    );
    Ok(())
}
