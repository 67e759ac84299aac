//! The command line itself: what clap refuses, and completion scripts.

use std::{env, ffi::OsString, io, process::ExitCode};

use clap::{Command, CommandFactory, Parser, builder::Resettable};

use super::{Failure, Output, write_out};

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
    let mut command = without_empty(C::command());
    let mut matches = command.try_get_matches_from_mut(args)?;
    C::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}

/// The command without the variables that are empty.
fn without_empty(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if env::var_os(name).is_some_and(|text| text.is_empty()) => {
            arg.env(Resettable::Reset)
        }
        _ => arg,
    });
    command.mut_subcommands(without_empty)
}

/// As a POSIX shell reads it as one word.
#[must_use]
pub fn quoted(word: &str) -> String {
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
