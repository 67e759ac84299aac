//! Whether there is an engine in the kernel, and what is told if there is none.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::process::Process;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::World;

/// Whether a process handles a signal, by now.
fn handles(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

#[test]
fn signals_while_the_programs_are_loaded_cost_no_engine() -> Result<()> {
    let world = World::new("[relay]\nengine = \"sockmap\"\n")?;
    let mut daemon = Process::start(world.command().arg("server"))?;
    let pid = Pid::from_raw(daemon.id().cast_signed());
    let runs = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut sent = 0_u64;
            while !runs.load(Relaxed) {
                // Before, it would end it.
                if sent > 0 || handles(pid, Signal::SIGHUP) {
                    let _ = kill(pid, Signal::SIGHUP);
                    sent += 1;
                }
            }
            sent
        });
        let started = daemon.wait_for_output("mc-proxy runs");
        runs.store(true, Relaxed);
        started.map(|()| storm.join().expect("it does not panic"))
    })?;
    ensure!(sent > 1000, "{sent}");
    let log = daemon.output();
    ensure!(!log.contains("no sockmap engine"), "{log}");
    let attached = world.json(&["status"])?["interfaces"][0]["mode"].take();
    ensure!(attached != "detached", "{log}");
    Ok(())
}

#[test]
fn routes_that_are_copied_instead_are_told() -> Result<()> {
    let mut world = World::new("")?;
    // Without the kernel's types the program is refused, and no other.
    let hide = "mount --bind /dev/null /sys/kernel/btf/vmlinux && exec \"$@\"";
    world.start_under("unshare", &["--mount", "sh", "-c", hide, "sh"], &[])?;
    let copied = || -> Result<Vec<String>> {
        let mut warnings = world.warnings()?;
        warnings.retain(|w| w.starts_with("no sockmap engine"));
        Ok(warnings)
    };
    world.run("route add copied.example.org --backend 10.9.2.2:1")?;
    ensure!(copied()?.is_empty(), "nobody asks for it: {:?}", copied()?);
    world.run("route add asks.example.org --backend 10.9.2.2:1 --engine sockmap")?;
    let told = copied()?;
    let told = told.first().context("a warning")?;
    ensure!(
        told.contains("the sk_skb program") && told.ends_with("is copied: asks.example.org"),
        "{told}"
    );
    Ok(())
}
