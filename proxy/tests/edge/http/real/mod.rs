//! Programs that people use, through an L7 route: a browser, scanners, load generators, gRPC, WebSocket libraries, curl and nginx.
//! `xtask/src/setup.rs` installs them.

mod browser;
mod grpc;
mod load;
mod nginx;
mod scanners;

use std::process::Output;

use anyhow::{Context as _, Result};

use super::{NAME, Site};

/// Debian's: the packages of `python3-*` are its.
const PYTHON: &str = "/usr/bin/python3";

impl Site {
    /// A program in the client's namespace that gets `seconds`.
    fn program(&self, seconds: u32, args: &[&str]) -> Result<Output> {
        let limit = format!("{seconds}s");
        let args = [&["-k", "5s", &limit], args].concat();
        self.world.client_command("timeout", &args)
    }
}

/// What a program wrote, whatever became of it.
fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// The value of a line `name: value` of /proc/PID/status, KiB.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.with_context(|| format!("no {name} in {status}"))
}
