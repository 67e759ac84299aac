//! The daemon, and what is done to its files without it.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use mcdsl::{
    config::{GLOBAL, Root},
    service,
    shutdown::Shutdown,
    telemetry::LogFormat,
};
use mcias::{SERVICE, config::Config, name::AccountName};

/// Identity and access: accounts, logins, tokens
#[derive(Debug, Parser)]
#[command(name = "mcias", version)]
struct Cli {
    #[command(flatten)]
    root: Root,
    /// The configuration [default: <root>/mcias.toml]
    #[arg(long, env = "MCIAS_CONFIG", global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service
    Server {
        /// How the log is written
        #[arg(long, env = "MCIAS_LOG_FORMAT", value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Makes the keys and the first administrator, and prints its password once
    Init {
        /// The administrator's account
        #[arg(long, default_value = "admin")]
        admin: AccountName,
        /// Writes what was made as JSON
        #[arg(long)]
        json: bool,
    },
    /// Writes a consistent copy of the database; without the master key, which is to be kept apart, it is worth nothing
    Snapshot {
        /// The directory [default: backups beside the database]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Shows whether the configuration can be used, and the database is initialised
    Status,
    /// Prints the version
    Version,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", mcdsl::cli::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let load = || {
        Config::load(
            &cli.root.of(SERVICE),
            cli.config.as_deref(),
            std::env::vars(),
        )
    };
    match &cli.command {
        Command::Version => println!("mcias {}", env!("CARGO_PKG_VERSION")),
        Command::Server { log_format } => {
            let config = load()?;
            let log = config.log.clone();
            let start = async |shutdown: &Shutdown| {
                mcias::start(config, shutdown)
                    .await
                    .map(|handle| handle.server())
            };
            return Ok(service::serve(&log, *log_format, start)?);
        }
        Command::Init { admin, json } => init(&load()?, admin, *json)?,
        Command::Snapshot { to } => {
            let path = service::snapshot(SERVICE, &load()?.database.path, to.as_deref())?;
            println!("{}", path.display());
        }
        Command::Status => return status(&load()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn init(config: &Config, admin: &AccountName, json: bool) -> anyhow::Result<()> {
    let made = mcias::init(config, admin)?;
    let (database, key) = (made.database.display(), made.master_key.display());
    let text = if json {
        let made = serde_json::json!({
            "database": made.database, "master_key": made.master_key,
            "admin": made.admin, "password": made.password,
        });
        format!("{made}\n")
    } else {
        format!(
            "database    {database}\nmaster key  {key} (keep a copy apart from snapshots)\n\
             account     {}\npassword    {} (shown this once)\n",
            made.admin, made.password
        )
    };
    Ok(mcdsl::cli::write_out(&text)?)
}

fn status(config: &Config) -> anyhow::Result<ExitCode> {
    let initialised = config.database.path.exists();
    println!("database    {}", config.database.path.display());
    println!(
        "initialised {}",
        if initialised {
            "yes"
        } else {
            "no; run `mcias init`"
        }
    );
    println!("issuer      {}", config.token.issuer);
    let answers = service::answers(config.server.listen);
    println!(
        "server      {} {}",
        config.server.listen,
        if answers {
            "answers"
        } else {
            "does not answer"
        }
    );
    Ok(if initialised && answers {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
