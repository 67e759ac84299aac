//! The daemon, and what is done to its machine without it.

mod cli;
mod commands;
mod server;

use std::process::ExitCode;

use mc_proxy::upgrade::Predecessor;
use mcdsl::cli::write_out;

use self::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = match mcdsl::cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", mcdsl::cli::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Version => write_out(&format!("mc-proxy {}\n", env!("CARGO_PKG_VERSION")))?,
        Command::Check => {
            let config = cli.load();
            let pins = config.map_or(mc_proxy::config::PIN_PATH.into(), |c| c.pin_path);
            commands::check(&pins)?;
        }
        Command::CheckConfig => return Ok(commands::check_config(&cli.load()?)?),
        Command::Detach => {
            for interface in commands::detach(&cli.load()?.pin_path)? {
                write_out(&format!("detached from {interface}\n"))?;
            }
        }
        Command::Snapshot { ref to } => commands::snapshot(&cli.load()?.database, to)?,
        Command::Status => return commands::status(&cli.load()?.admin_socket),
        Command::Server {
            log_format,
            take_over,
        } => {
            let predecessor = take_over.then(Predecessor::from_stdin).transpose()?;
            let run = |config| server::run(config, log_format, predecessor.clone());
            let ran = cli.load().and_then(run);
            if let (Err(error), Some(predecessor)) = (&ran, &predecessor) {
                predecessor.failed(&mcdsl::cli::chain(error.as_ref()));
            }
            ran?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
