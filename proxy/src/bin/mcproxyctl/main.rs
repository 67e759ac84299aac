//! mcproxyctl: the operator's tool for one mc-proxy daemon, through its admin socket.
//!
//! Each area has a module with its arguments, the requests made of them, and how answers are shown. Input is checked
//! here for a clear message at once; the daemon is the judge all the same.

mod backend;
mod client;
mod confirm;
mod country;
mod export;
mod firewall;
mod l7;
mod listener;
mod observe;
mod parse;
mod rate;
mod route;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use mcdsl::{
    cli::{self, Failure, Output},
    config::{GLOBAL, Root},
};

use client::Client;

type Result<T = ()> = std::result::Result<T, Failure>;

/// Controls the mc-proxy daemon of this node.
#[derive(Debug, Parser)]
#[command(name = "mcproxyctl", version, arg_required_else_help = true)]
struct Cli {
    /// Prints JSON, errors included
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// The daemon's admin socket [default: <root>/admin.sock]
    #[arg(
        long,
        global = true,
        env = "MC_PROXY_SOCKET",
        value_name = "PATH",
        help_heading = GLOBAL
    )]
    socket: Option<PathBuf>,
    #[command(flatten)]
    root: Root,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listening sockets
    #[command(subcommand)]
    Listener(listener::Command),
    /// Routes: a hostname on a port, and its backends
    #[command(subcommand)]
    Route(route::Command),
    /// Backends of routes, and whether they live
    #[command(subcommand)]
    Backend(backend::Command),
    /// Address rules, country policy, rate limits
    #[command(subcommand)]
    Firewall(firewall::Command),
    /// What would happen to a new connection, and by which rule
    Explain(observe::Explain),
    /// Traffic per route, rule and verdict
    ///
    /// IN and OUT are bytes from and to clients: everything that is relayed, and of HTTP (engine http) the bodies alone, so that requests
    /// without one add nothing to IN.
    Stats(stats::Args),
    /// The kernel maps
    #[command(subcommand)]
    Maps(observe::Maps),
    /// The daemon: how the last reloads went, interfaces, certificates, fill of the maps, warnings
    Status,
    /// Who changed what
    Audit(observe::Audit),
    /// Replaces the daemon by the installed binary; no connection is refused or cut
    Upgrade(observe::Upgrade),
    /// Takes the firewall off every interface: the node is then unfiltered
    Detach(observe::Detach),
    /// Prints a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    fn socket(&self) -> PathBuf {
        match &self.socket {
            Some(socket) => socket.clone(),
            None => self.root.of("mc-proxy").join("admin.sock"),
        }
    }
}

fn main() -> ExitCode {
    cli::run(|cli: &Cli| cli.json, run)
}

async fn run(cli: Cli, out: Output) -> Result {
    if let Command::Completions { shell } = cli.command {
        return Ok(cli::completions::<Cli>(shell)?);
    }
    let socket = cli.socket();
    // Before connecting: what the arguments alone forbid, and files that cannot be read.
    if let Command::Detach(detach) = &cli.command {
        detach.confirmed()?;
    }
    let mut client = Client::new(&socket);
    match &cli.command {
        Command::Listener(c) => c.run(&mut client, out).await,
        Command::Route(c) => c.run(&mut client, out).await,
        Command::Backend(c) => c.run(&mut client, out).await,
        Command::Firewall(c) => c.run(&mut client, out).await,
        Command::Explain(c) => c.run(&mut client, out).await,
        Command::Stats(c) => c.run(&mut client, out).await,
        Command::Maps(c) => c.run(&mut client, out).await,
        Command::Status => status::run(&mut client, out).await,
        Command::Audit(c) => c.run(&mut client, out).await,
        Command::Upgrade(c) => c.run(&mut client, out).await,
        Command::Detach(c) => c.run(&mut client, out).await,
        Command::Completions { .. } => Ok(()),
    }
}
