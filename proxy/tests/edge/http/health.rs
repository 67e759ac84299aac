//! Backends that fail and come back: who notices, and that clients do not.

mod backend;
mod checks;
mod requests;
mod retries;
mod share;
mod start;
mod tls;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use mc_testkit::wait_for;
use serde_json::Value;

use super::{NAME, Site, Speaks};

/// So short that a verdict takes no time, with a timeout that a busy machine keeps.
const CHECK: &str = "--health-interval 30ms --health-timeout 10s";

impl Site {
    /// What `backend list` says of one of the route's.
    fn health(&self, backend: SocketAddr) -> Result<Value> {
        let all = self.world.json(&["backend", "list", NAME])?;
        let address = backend.to_string();
        let found = (all.as_array().into_iter().flatten()).find(|b| b["address"] == *address);
        found
            .cloned()
            .with_context(|| format!("{address} in {all}"))
    }

    /// Waits until a backend is what it should be, by itself.
    pub(super) fn wait_health(&self, backend: SocketAddr, wanted: &str) -> Result<Value> {
        let mut last = Value::Null;
        wait_for(&format!("{backend} {wanted}"), || {
            last = self.health(backend).ok()?;
            (last["health"] == wanted).then(|| last.clone())
        })
        .with_context(|| format!("last {last}\ndaemon: {}", self.world.log()))
    }

    /// The statuses of so many GETs, one after the other.
    fn gets(&self, count: usize) -> Result<Vec<String>> {
        let path = format!("/[1-{count}]");
        let codes = self.curl("-o /dev/null -w %{http_code}\\n", &path)?;
        Ok(codes.lines().map(str::to_owned).collect())
    }
}
