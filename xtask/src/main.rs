//! The project's tasks; one file per command.
//!
//! Plain Rust and not shell or make: it shares the test kit with the tests, and `cargo` is the only tool that
//! has to be there before.

mod bench;
mod ci;
mod command;
mod demo;
mod ebpf;
mod setup;
mod test;

use std::{env, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's tasks"
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the other commands need (they call it themselves)
    Setup,
    /// Build the eBPF programs and have the kernel verify them
    Ebpf,
    /// Show mc-proxy at work: two clients, a node, two backends, all on this machine
    Up(demo::Up),
    /// Remove every trace of `up`
    Down,
    /// Run all tests, a little fuzzing, and `up --check`
    Test,
    /// Run what a change has to pass: format, lints, dependency rules, and `test`
    Ci,
    /// Measure against other software
    Bench {
        #[command(subcommand)]
        suite: bench::Suite,
    },
}

fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Task::Setup => {
            setup::ensure(setup::Need::ALL).map(|()| println!("setup: everything is there"))
        }
        Task::Ebpf => ebpf::ebpf(),
        Task::Up(options) => demo::up(*options),
        Task::Down => demo::down(),
        Task::Test => test::test(),
        Task::Ci => ci::ci(),
        Task::Bench { suite } => bench::run(suite),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A program of the workspace, as `cargo build` leaves it.
fn binary(name: &str) -> PathBuf {
    target_dir().join("debug").join(name)
}

/// The workspace's directory.
fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, PathBuf::from)
}
