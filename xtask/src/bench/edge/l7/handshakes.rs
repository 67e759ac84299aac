//! New TLS connections: `proxy/examples/tls_load` in the client's namespace.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use mc_testkit::netns::Namespace;
use serde::Deserialize;

use crate::{bench::edge::subject::HOSTNAME, command::output};

/// Connections being made at once.
const CONCURRENCY: usize = 16;
/// The generator hangs if it takes so much longer than it was told to.
const GRACE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tickets {
    Used,
    Unused,
}

#[derive(Deserialize)]
struct Report {
    per_second: f64,
}

/// Connections per second, each with one request.
pub(super) fn run(
    client: &Namespace,
    address: SocketAddr,
    tickets: Tickets,
    window: Duration,
) -> Result<f64> {
    let program = crate::target_dir().join("release/examples/tls_load");
    let mut command = client.command("timeout");
    command
        .arg((window + GRACE).as_secs().to_string())
        .arg(program)
        .args(["--address", &address.to_string(), "--name", HOSTNAME])
        .args(["--concurrency", &CONCURRENCY.to_string()])
        .args(["--milliseconds", &window.as_millis().to_string()]);
    if tickets == Tickets::Used {
        command.arg("--resume");
    }
    let said = output(&mut command)?;
    let report: Report = serde_json::from_str(&said).context("the report of tls_load")?;
    Ok(report.per_second)
}
