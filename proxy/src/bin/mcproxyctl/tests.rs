//! The command line without a daemon: arguments to requests, messages to rows.

mod arguments;
mod rules;
mod shown;
mod stats;

use clap::{CommandFactory as _, Parser as _};

use crate::{Cli, Command, firewall};

/// Parses a command line without the program's name.
fn cli(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mcproxyctl").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    cli(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
}

fn firewall_command(line: &str) -> firewall::Command {
    match command(&format!("firewall {line}")) {
        Command::Firewall(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_socket_follows_the_root() {
    let socket = |line: &str| cli(line).unwrap().socket().display().to_string();
    assert_eq!(socket("status --root /tmp/x"), "/tmp/x/admin.sock");
    assert_eq!(socket("status --root /tmp/x --socket /y/z"), "/y/z");
}
