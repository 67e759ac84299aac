//! npm's openid-client, which shares no code with this service, does all of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::{
    oidc_client::{AFTERWARDS, PLAIN, begun, text},
    running::ISSUER,
};

/// Installs it once, beside what is built. Its directory.
fn installed() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openid-client");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openid-client");
    std::fs::create_dir_all(&place)?;
    for file in ["package.json", "package-lock.json", "login.mjs"] {
        std::fs::copy(source.join(file), place.join(file))?;
    }
    let quiet = [
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ];
    let mut npm = Command::new("npm");
    npm.arg("ci").args(quiet).current_dir(&place);
    ensure!(npm.status()?.success(), "npm cannot install openid-client");
    Ok(place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clients_library_logs_somebody_in() -> Result<()> {
    let (running, _admin, wiki, mut browser) = begun().await;
    let place = block_in_place(installed)?;
    let asked = json!({
        "issuer": ISSUER,
        "local": format!("https://localhost:{}", running.handle.address().port()),
        "client": wiki.id,
        "secret": wiki.secret,
        "redirect": PLAIN,
        "afterwards": AFTERWARDS,
    });
    let mut node = Command::new("node")
        .arg(place.join("login.mjs"))
        .arg(asked.to_string())
        .env("NODE_EXTRA_CA_CERTS", running.root.path().join("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node (Debian: nodejs)")?;
    let mut lines = BufReader::new(node.stdout.take().context("no output")?).lines();
    let mut line = || block_in_place(|| lines.next().context("it ended")?.context("no text"));
    let url = url::Url::parse(&line()?)?;
    let path = format!("{}?{}", url.path(), url.query().context("no query")?);
    let back = browser.get(&path).await;
    writeln!(
        node.stdin.take().context("no input")?,
        "{}",
        back.location()
    )?;
    let learned: Value = serde_json::from_str(&line()?)?;
    ensure!(block_in_place(|| node.wait())?.success());
    assert_eq!(learned["claims"]["preferred_username"], "ada");
    assert_eq!(learned["info"]["roles"], json!(["user"]));
    assert_eq!(learned["before"]["active"], true);
    assert_eq!(learned["after"], json!({ "active": false }));
    let out = text(&learned, "out").replace(ISSUER, "");
    let bye = browser.get(&out).await;
    assert_eq!(bye.location(), format!("{AFTERWARDS}?state=bye"));
    assert_eq!(browser.get("/").await.status, 303, "logged out");
    Ok(())
}
