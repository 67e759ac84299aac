//! What a process that has been unsealed takes of the memory. It is one of its own, with Metacrypt alone in it, and a seal that costs what it costs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mc_testkit::{ca::Ca, port::free};
use mcdsl::shutdown::Shutdown;
use metacrypt::{Config, barrier::Cost};
use tokio::runtime::Builder;

use crate::{
    Line,
    world::{channel, configured, sealed, unseal},
};

/// What the process is told to be.
pub(crate) const CHILD: &str = "--unsealed";
/// Of the requirement.
const MOST_MIB: f64 = 64.0;

/// That process: says where it answers, and ends with its input.
pub(crate) fn child(root: &Path) -> Result<()> {
    let services = Builder::new_multi_thread().enable_all().build()?;
    let shutdown = Shutdown::new();
    let config = Config::load("metacrypt", root, None, std::iter::empty())?;
    let handle = services.block_on(metacrypt::start(config, &shutdown))?;
    println!("{}", handle.grpc);
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    services.block_on(shutdown.finish(Duration::from_secs(10)));
    Ok(())
}

/// MiB of it that are in memory.
fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse::<f64>()? / 1024.0)
}

/// Unseals one, and looks.
pub(crate) fn run() -> Result<()> {
    let root = tempfile::tempdir()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ca = Ca::new()?;
    // Nobody is MCIAS: to unseal takes no token.
    let config = configured(
        root.path(),
        &ca,
        free(),
        free().port(),
        free().port(),
        "none",
    )?;
    runtime.block_on(sealed(&config, Cost::DEFAULT))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let measured = (|| {
        let stdout = child.stdout.take().context("its output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let at: SocketAddr = line.trim().parse().context("where it answers")?;
        runtime.block_on(async { unseal(channel(&ca.pem(), at).await?).await })?;
        resident(child.id())
    })();
    drop(child.stdin.take());
    child.wait()?;
    let line = Line {
        name: "crypto.memory".to_owned(),
        unit: "MiB",
        ours: measured?,
        peer: None,
        asked: Some(MOST_MIB),
    };
    line.print();
    Ok(())
}
