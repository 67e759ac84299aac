//! The program: its subcommands, and what they print.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use crate::{
    Recovered, Recovery, Restoration, SERVICE, StartError, config::Config, name::AccountName,
};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ipnet::IpNet;
use mcdsl::{
    cli::Progress,
    config::{GLOBAL, Root},
    service,
    shutdown::Shutdown,
    telemetry::LogFormat,
};

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
    /// Lets an administrator in again who lost the password or the second factors. The service must not run
    ///
    /// The account is made active, its logins are ended, and a new password is printed once, which the first login asks to be changed.
    Recover {
        /// The account of a person
        #[arg(default_value = "admin")]
        account: AccountName,
        /// Makes it an administrator's if it is none
        #[arg(long)]
        make_admin: bool,
        /// Takes its authenticator app, passkeys and recovery codes away: they are lost
        #[arg(long)]
        remove_factors: bool,
        /// Replaces the rules of the login policy by those of a new installation: they let nobody in any more
        #[arg(long)]
        reset_policy: bool,
        /// Lets all networks in again that are kept away for failed logins, such as the one that you log in from
        #[arg(long)]
        lift_bans: bool,
        /// Makes all tokens of all accounts void: what was revoked while the clock was ahead keeps nobody out any more
        #[arg(long)]
        drop_keys: bool,
        /// Writes what was made as JSON
        #[arg(long)]
        json: bool,
    },
    /// Puts the database of a snapshot in its place, if nothing is wrong with it. The service must not run
    ///
    /// All tokens become void, since the snapshot does not know which were revoked after it was made: people log in again, and system
    /// accounts need new tokens.
    Restore {
        /// What `snapshot` has written
        snapshot: PathBuf,
        /// Replaces a database that is there; it is kept beside, as mcias.db.before-restore-…
        #[arg(long)]
        replace: bool,
        /// Keeps the tokens of the snapshot valid, those too that were revoked after it was made
        #[arg(long)]
        keep_tokens: bool,
    },
    /// Shows whether the service could be started: configuration, files, database; and whether it answers
    #[command(visible_alias = "check")]
    Status,
    /// Prints the version
    Version,
}

/// The whole program.
#[must_use]
pub fn program() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let why = mcdsl::cli::chain(error.as_ref());
            match mcdsl::db::is_unwritable(error.as_ref()) {
                true => eprintln!(
                    "error: the disk is full, or does not take what is written: make room and try again ({why})"
                ),
                false => eprintln!("error: {why}"),
            }
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
            // Before the log is begun, which would tell of its level alone.
            config.check()?;
            let log = config.log.clone();
            // It holds the lock of the database until the service has ended.
            let mut held = None;
            let start = async |shutdown: &Shutdown| {
                let handle = held.insert(crate::start(config, shutdown).await?);
                Ok::<_, StartError>(handle.server())
            };
            let ended = service::serve(&log, *log_format, start)?;
            drop(held);
            return Ok(ended);
        }
        Command::Init { admin, json } => init(&load()?, admin, *json)?,
        Command::Snapshot { to } => {
            let path = service::snapshot(SERVICE, &load()?.database.path, to.as_deref())?;
            println!("{}", path.display());
        }
        Command::Recover {
            account,
            make_admin,
            remove_factors,
            reset_policy,
            lift_bans,
            drop_keys,
            json,
        } => {
            let recovery = Recovery {
                make_admin: *make_admin,
                remove_factors: *remove_factors,
                reset_policy: *reset_policy,
                lift_bans: *lift_bans,
                drop_keys: *drop_keys,
            };
            recover(&load()?, account, recovery, *json)?;
        }
        Command::Restore {
            snapshot,
            replace,
            keep_tokens,
        } => {
            let how = Restoration {
                replace: *replace,
                keep_tokens: *keep_tokens,
            };
            let config = load()?;
            let progress = Progress::begin("restoring");
            let restored = crate::restore(&config, snapshot, how);
            drop(progress);
            let restored = restored?;
            println!("database    {}", restored.database.display());
            println!(
                "audit log   {} rows, all as they were written",
                restored.audit_rows
            );
            if let Some(before) = restored.before {
                println!("before      {}", before.display());
            }
        }
        Command::Status => return status(&load()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn init(config: &Config, admin: &AccountName, json: bool) -> anyhow::Result<()> {
    let made = crate::init(config, admin)?;
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
    print_password(&text, &made.admin)
}

fn recover(
    config: &Config,
    account: &AccountName,
    recovery: Recovery,
    json: bool,
) -> anyhow::Result<()> {
    let made = crate::recover(config, account, recovery)?;
    let text = if json {
        let made = serde_json::json!({
            "account": made.account, "password": made.password, "was": made.was,
            "made_admin": made.made_admin, "has_factors": made.has_factors, "banned": made.banned,
        });
        format!("{made}\n")
    } else {
        let factors = match made.has_factors {
            true => "are asked for; with --remove-factors they go",
            false => "none",
        };
        format!(
            "account     {}, {}\npassword    {} (shown this once, to be changed at the first login)\nlogins      ended\nfactors     {factors}\nbans        {}\n",
            made.account,
            became(&made),
            made.password,
            bans(&made.banned)
        )
    };
    print_password(&text, &made.account)
}

/// What was made of the account.
fn became(made: &Recovered) -> String {
    let active = match made.was {
        "active" => "active as before".to_owned(),
        was => format!("active, was {was}"),
    };
    match made.made_admin {
        true => format!("made an administrator; {active}"),
        false => format!("an administrator as before; {active}"),
    }
}

/// From where nobody logs in.
fn bans(networks: &[IpNet]) -> String {
    /// What fits a line or two.
    const SHOWN: usize = 8;
    if networks.is_empty() {
        return "none".to_owned();
    }
    let mut shown: Vec<_> = networks.iter().take(SHOWN).map(IpNet::to_string).collect();
    let more = networks.len() - shown.len();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let shown = shown.join(", ");
    format!("{shown}; nobody logs in from there; with --lift-bans they go")
}

/// It is committed: one that nobody saw is lost, and another can be had.
fn print_password(text: &str, account: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    // Of a pipe too whose reader is gone.
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.with_context(|| {
        format!(
            "the password cannot be printed, and is nowhere else; `mcias recover {account}` makes another"
        )
    })
}

fn status(config: &Config) -> anyhow::Result<ExitCode> {
    let checked = crate::check(config);
    println!("database    {}", config.database.path.display());
    println!("issuer      {}", config.token.issuer);
    println!(
        "start       {}",
        match &checked {
            Ok(()) => "nothing is in its way".to_owned(),
            Err(error) => mcdsl::cli::chain(error),
        }
    );
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
    Ok(if checked.is_ok() && answers {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
