//! What `cargo xtask bench crypto` measures: a line of JSON for each figure, beside that of `openssl speed` in the same run where there is such a one, and
//! what is asked of it.
//!
//! Metacrypt is the real one, over TLS on loopback, with MCIAS beside it; the seal alone is a cheap one, but where memory is measured. Each part is a process of its
//! own; one can be named. Rounds of ours and of the peer's take turns, and medians are compared.

mod memory;
mod pki;
mod transit;
mod world;

use std::{env, path::Path, process::Command};

use anyhow::{Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::json;

/// That of the program.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// Rounds of each.
const ROUNDS: usize = 5;
/// In their order.
const PARTS: [&str; 4] = ["transit", "issue", "acme", "memory"];

/// A figure.
struct Line {
    name: String,
    unit: &'static str,
    ours: f64,
    peer: Option<(&'static str, f64)>,
    /// By the requirements: at least, or of MiB at most.
    asked: Option<f64>,
}

impl Line {
    fn print(&self) {
        let line = json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer_name": self.peer.map(|(name, _)| name),
            "peer": self.peer.map(|(_, peer)| peer),
            "asked": self.asked,
        });
        println!("{line}");
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => PARTS.into_iter().try_for_each(|part| {
            let status = Command::new(env::current_exe()?).arg(part).status()?;
            ensure!(status.success(), "{part} failed ({status})");
            Ok(())
        }),
        ["transit"] => transit::run(),
        ["issue"] => pki::issue(),
        ["acme"] => pki::acme(),
        ["memory"] => memory::run(),
        [memory::CHILD, root] => memory::child(Path::new(root)),
        _ => bail!("give one of {PARTS:?}, or nothing for all"),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// This thread, and what it starts, runs on this core alone.
fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}
