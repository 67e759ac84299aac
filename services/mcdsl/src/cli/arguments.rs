//! The command line itself: what clap refuses, and completion scripts.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    process::ExitCode,
};

use clap::{Command, CommandFactory, Parser, builder::Resettable};

use super::{EXIT_CODES_HELP, Failure, Output, write_out};
use crate::shown;

/// Parses the process's command line; a variable that is empty is as one that is not set. Help, version and what is refused are printed, the
/// last as JSON if `--json` is among it.
///
/// # Errors
/// What the process is to exit with.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    parsed::<C>(env::args_os()).map_err(|e| {
        // clap has parsed nothing, so that the flag is looked for by hand. Help and version are no errors.
        if e.use_stderr() && env::args_os().any(|a| a == "--json") {
            return Output { json: true }.fail(&misused(&e));
        }
        e.exit()
    })
}

fn parsed<C: Parser>(args: impl Iterator<Item = OsString>) -> Result<C, clap::Error> {
    let args: Vec<_> = args.collect();
    let command = with_exit_codes(C::command());
    let mut read = without_empty(command.clone());
    let mut matches = read.try_get_matches_from_mut(&args).map_err(|e| {
        // What variables say is no part of the usage that is told; help tells of them.
        if !e.use_stderr() {
            return e;
        }
        let plain = without(command, &|_| true).try_get_matches_from(&args);
        plain.err().filter(|p| p.kind() == e.kind()).unwrap_or(e)
    })?;
    C::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut read))
}

/// The command, whose help and that of all below it ends with the exit codes.
#[must_use]
pub fn with_exit_codes(command: Command) -> Command {
    let command = match command.get_after_help() {
        Some(_) => command,
        None => command.after_help(EXIT_CODES_HELP),
    };
    command.mut_subcommands(with_exit_codes)
}

/// The command without the variables that are empty.
fn without_empty(command: Command) -> Command {
    without(command, &|name| {
        env::var_os(name).is_some_and(|text| text.is_empty())
    })
}

/// The command without some variables.
fn without(command: Command, which: &dyn Fn(&OsStr) -> bool) -> Command {
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if which(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(|command| without(command, which))
}

/// As a POSIX shell reads it as one word; what is not seen by its bytes (`$'\303'`), as POSIX has it since 2024 and bash, ksh and zsh long had.
#[must_use]
pub fn quoted(word: &str) -> String {
    if !word.chars().all(shown::is_seen) {
        let bytes = word.bytes().map(|byte| match byte {
            b'\'' | b'\\' => format!("\\{}", char::from(byte)),
            byte if byte == b' ' || byte.is_ascii_graphic() => char::from(byte).to_string(),
            byte => format!("\\{byte:03o}"),
        });
        return format!("$'{}'", bytes.collect::<String>());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,[]@%+".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A command line that clap refuses: its message without the heading, the usage and the pointer to the help.
pub fn misused(e: &clap::Error) -> Failure {
    let text = e.to_string();
    let message = text.split("\n\nUsage: ").next().unwrap_or_default();
    let message = message.split("\n\nFor more information").next();
    let message = message.unwrap_or_default().trim();
    Failure::usage(message.strip_prefix("error: ").unwrap_or(message))
}

/// Prints a shell's completion script.
///
/// # Errors
/// If stdout cannot be written.
pub fn completions<C: CommandFactory>(shell: clap_complete::Shell) -> io::Result<()> {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    write_out(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "tool")]
    struct Tool {
        #[arg(long, value_parser = clap::value_parser!(u16))]
        port: u16,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Below {
        /// One of them
        Do,
    }

    #[derive(Debug, Parser)]
    struct Above {
        #[command(subcommand)]
        _command: Below,
    }

    #[test]
    fn every_help_has_the_exit_codes() {
        for line in [&["tool", "--help"][..], &["tool", "do", "--help"]] {
            let mut command = with_exit_codes(Above::command());
            let help = command.try_get_matches_from_mut(line).unwrap_err();
            // Its lines are as long as the terminal's.
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let has = words(&help.to_string()).contains(&words(EXIT_CODES_HELP));
            assert!(has, "{line:?}: {help}");
        }
    }

    #[test]
    fn what_is_refused_is_said_without_the_usage() {
        for (description, line, want) in [
            (
                "a missing argument",
                vec!["tool"],
                "the following required arguments were not provided:\n  --port <PORT>",
            ),
            (
                "a bad value",
                vec!["tool", "--port", "x"],
                "invalid value 'x' for '--port <PORT>': invalid digit found in string",
            ),
        ] {
            let refused = Tool::try_parse_from(line).unwrap_err();
            assert_eq!(misused(&refused).message, want, "{description}");
        }
    }
}
