//! `cargo xtask up` and `down`: mc-proxy at work on one machine, step by step.
//!
//! Each step prints a command, its result, and whether it is what the step says; `--check` is the same with an exit code, so that
//! what is shown to people cannot rot. SIGINT and SIGTERM only set a flag, looked at between steps: whatever happens, what was
//! made is removed.

mod mcias;
mod metacrypt;
mod renewal;
mod show;
mod state;
mod steps;
mod world;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use tokio::signal::unix::{SignalKind, signal};

use self::{show::Show, world::World};
use crate::{
    ebpf,
    setup::{self, Need},
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Options of `up`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Up {
    /// Take it down at the end; fail if a step is not as described
    #[arg(long)]
    pub(crate) check: bool,
    /// Leave it up whatever happens
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Builds the demo and shows it.
pub(crate) fn up(options: Up) -> Result<()> {
    require_root("up")?;
    setup::ensure(&[Need::Build, Need::Run])?;
    if !options.check
        && let Some(directory) = world::up_in()?
    {
        println!("It is up already (`cargo xtask down` ends it).");
        hints(&Show::new(directory));
        return Ok(());
    }
    ebpf::build()?;
    let _lock = state::lock()?;
    // Left by an `up` that was killed, or still running before a check.
    world::tear_down()?;
    catch_signals()?;
    let shown = build_and_show();
    let leave = options.keep || (shown.is_ok() && !options.check);
    let removed = if leave { Ok(()) } else { world::tear_down() };
    let wrong = shown?;
    removed?;
    if wrong.is_empty() {
        println!("\nEvery step was as described.");
    }
    if leave {
        hints(&Show::new(world::directory()));
    }
    if !wrong.is_empty() {
        bail!("not as described:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Removes every trace of it.
pub(crate) fn down() -> Result<()> {
    require_root("down")?;
    let _lock = state::lock()?;
    world::tear_down()?;
    println!("The demo is down: no process, namespace, pin or file of it is left.");
    Ok(())
}

fn build_and_show() -> Result<Vec<String>> {
    let mut world = World::build()?;
    let mut show = Show::new(world.directory.clone());
    steps::all(&mut world, &mut show).inspect_err(|_| eprintln!("{}", world.log_tail()))?;
    Ok(show.wrong())
}

fn require_root(command: &str) -> Result<()> {
    if !geteuid().is_root() {
        bail!("`{command}` makes network namespaces and loads eBPF programs: run it as root");
    }
    Ok(())
}

/// Has a thread wait for signals. Handlers, and not a mask: children would inherit that.
fn catch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start a runtime for signals")?;
    let context = runtime.enter();
    let on = |kind| signal(kind).context("cannot handle signals");
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    drop(context);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
        });
        eprintln!("interrupted: cleaning up");
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Fails once a signal has come.
fn check_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

fn hints(show: &Show) {
    let rows = [
        (
            "de",
            "https://alpha.example.org/",
            "curl as the client in Germany (de6: over IPv6)",
        ),
        (
            "us",
            "https://beta.example.org/",
            "curl as the client in the USA (us6: over IPv6)",
        ),
        (
            "de",
            "https://web.example.org/",
            "the same, of an L7 route: TLS ends at the node",
        ),
        ("ctl", "--help", "mcproxyctl on the demo's daemon"),
        (
            "ctl",
            "explain 198.51.100.10 --sni alpha.example.org",
            "what would happen, and why",
        ),
        (
            "mciasctl",
            "whoami",
            "on the demo's MCIAS, as its administrator (password: admin.json beside it)",
        ),
        (
            "metacrypt.sh",
            "pki certificate list pki",
            "on the demo's Metacrypt, alike",
        ),
        ("metrics", "", "Prometheus's view"),
    ];
    println!("\nIt is yours to play with:");
    for (program, args, what) in rows {
        println!(
            "  {:<70} # {what}",
            format!("{} {args}", show.shown(program))
        );
    }
    println!("  {:<70} # ends it", "cargo xtask down");
}
