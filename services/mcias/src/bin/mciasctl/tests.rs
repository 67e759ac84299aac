//! The command line without a daemon: arguments to requests, messages to rows, which server.

mod arguments;
mod rules;
mod settings;
mod shown;

use clap::{CommandFactory as _, Parser as _};

use crate::{Cli, Command};

/// Parses a command line without the program's name.
fn cli(line: &str) -> Result<Cli, clap::Error> {
    words(line.split_whitespace())
}

/// Words that may have blanks.
fn words<'w>(words: impl Iterator<Item = &'w str>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mciasctl").chain(words))
}

fn command(line: &str) -> Command {
    cli(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}
