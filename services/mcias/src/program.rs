//! The program: its subcommands, and what they print.

use std::{
    io::{self, Write as _},
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
};

use crate::{
    InitError, Initialised, RecoverError, Recovered, Recovery, Restoration, RestoreError, Restored,
    SERVICE, StartError,
    check::check,
    config::Config,
    name::AccountName,
    start::{of_database, start_checked},
};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ipnet::IpNet;
use mcdsl::{
    cli::{Exit, Progress, write_out},
    clock::Clock,
    config::{ConfigError, GLOBAL, Root},
    owner,
    server::Found,
    service::{self, Condition, ServiceError},
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
        /// Also where a master key or snapshots tell that there was a database: it is gone, or elsewhere
        #[arg(long)]
        begin_anew: bool,
        /// Writes what was made as JSON
        #[arg(long)]
        json: bool,
    },
    /// Writes a consistent copy of the database; without the master key, which is to be kept apart, it is worth nothing
    Snapshot {
        /// The directory [default: backups beside the database]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Removes this database's oldest snapshots there but for so many, the new one among them [default: all stay]
        #[arg(long, value_name = "N")]
        keep: Option<NonZero<usize>>,
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
    /// Shows what is in the way of a start: configuration, files, database, other programs; and whether it answers
    ///
    /// Warnings do not make it fail.
    Check,
    /// The same; and fails unless the service answers and takes calls
    Status,
    /// Prints the version
    Version,
}

/// The whole program.
#[must_use]
pub fn program() -> ExitCode {
    let cli: Cli = match mcdsl::cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let why = mcdsl::cli::chain(error.as_ref());
            match mcdsl::db::is_unwritable(error.as_ref()) {
                true => eprintln!(
                    "error: the disk is full, or does not take what is written: make room and try again ({why})"
                ),
                false => eprintln!("error: {why}"),
            }
            if owner::is_forbidden(error.as_ref())
                && let Ok(config) = load(&cli)
            {
                for text in config.foreign_files() {
                    eprintln!(" hint: {text}");
                }
            }
            match cli.command {
                // Whatever it is, it is in the way of a start.
                Command::Check => ExitCode::FAILURE,
                _ => exit(error.as_ref()).into(),
            }
        }
    }
}

/// How the program ends by an error, which may be one of ours around another.
fn exit(error: &(dyn std::error::Error + 'static)) -> Exit {
    if let Some(error) = error.downcast_ref::<ServiceError>() {
        return match error {
            ServiceError::Own(own) => exit(own.as_ref()),
            other => other.exit(),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            InitError::Done { .. } | InitError::Lost(_) => Exit::Refused,
            InitError::Setting(error) => Exit::of(error),
            InitError::Lock(error) => Exit::of(error),
            other => Exit::of(other),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            StartError::NotInitialised(_) | StartError::Lost(_) => Exit::Refused,
            StartError::Setting(error) => Exit::of(error),
            StartError::Lock(error) => Exit::of(error),
            StartError::Server(error) => Exit::of(error),
            other => Exit::of(other),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            RecoverError::Nobody { .. } => Exit::NotFound,
            RecoverError::Lock(error) => Exit::of(error),
            RecoverError::Db(_) | RecoverError::Audit(_) | RecoverError::Failed(_) => {
                Exit::of(error)
            }
            _ => Exit::Refused,
        };
    }
    match error.downcast_ref() {
        Some(RestoreError::Snapshot(error)) => Exit::of(error),
        Some(RestoreError::Issuer { .. }) => Exit::Refused,
        _ => Exit::of(error),
    }
}

fn load(cli: &Cli) -> Result<Config, ConfigError> {
    let root = cli.root.of(SERVICE);
    Config::load(&root, cli.config.as_deref(), std::env::vars())
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let load = || load(cli);
    match &cli.command {
        Command::Version => write_out(&format!("mcias {}\n", env!("CARGO_PKG_VERSION")))?,
        Command::Server { log_format } => {
            // Before the log is begun, which would tell of its level alone.
            let checked = load()?.check()?;
            let log = checked.config.log.clone();
            // It holds the lock of the database until the service has ended.
            let mut held = None;
            let start = async |shutdown: &Shutdown| {
                let handle = start_checked(Clock::default(), checked, shutdown).await?;
                let handle = held.insert(handle);
                Ok::<_, StartError>(handle.server())
            };
            let ended = service::serve(&log, *log_format, start)?;
            if let Some(handle) = &held {
                handle.let_go();
            }
            return Ok(ended);
        }
        Command::Init {
            admin,
            begin_anew,
            json,
        } => {
            let make = match begin_anew {
                true => crate::init_anew,
                false => crate::init,
            };
            let config = load()?;
            print_made(&make(&config, admin)?, &config.token.issuer, *json)?;
        }
        Command::Snapshot { to, keep } => {
            let path = service::snapshot(SERVICE, &load()?.database.path, to.as_deref(), *keep)?;
            write_out(&format!("{}\n", path.display()))?;
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
            print_restored(&restored, how)?;
        }
        Command::Check => return Ok(examine(&load()?)?.of_check()),
        Command::Status => return Ok(examine(&load()?)?.of_status()),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_made(made: &Initialised, issuer: &str, json: bool) -> anyhow::Result<()> {
    let (database, key) = (made.database.display(), made.master_key.display());
    let text = if json {
        let made = serde_json::json!({
            "database": made.database, "master_key": made.master_key,
            "issuer": issuer, "admin": made.admin, "password": made.password,
        });
        format!("{made}\n")
    } else {
        format!(
            "database    {database}\nmaster key  {key} (keep a copy apart from snapshots)\n\
             issuer      {issuer} (for ever: tokens, passkeys and clients hold to it)\n\
             account     {}\npassword    {} (shown this once)\n",
            made.admin, made.password
        )
    };
    print_password(&text, &made.admin)
}

fn print_restored(restored: &Restored, how: Restoration) -> io::Result<()> {
    write_out(&format!("database    {}\n", restored.database.display()))?;
    write_out(&format!(
        "audit log   {} rows, all as they were written\n",
        restored.audit_rows
    ))?;
    let tokens = match how.keep_tokens {
        false => {
            "all void, and all logins have ended, those on pages too: people log in again, and system accounts need new tokens (`mciasctl token issue NAME --service … --to FILE --replace`)"
        }
        true => "valid as they were in the snapshot, those too that were revoked since",
    };
    write_out(&format!("tokens      {tokens}\n"))?;
    write_out(
        "since       accounts, passwords, factors, rules and bans are as they were then: what was changed later is to be done again\n",
    )?;
    if let Some(before) = &restored.before {
        write_out(&format!("before      {}\n", before.display()))?;
    }
    Ok(())
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
        let rules = match recovery.reset_policy {
            true => "rules       those of a new installation; the ones before are gone\n",
            false => "",
        };
        let factors = match made.has_factors {
            true => "are asked for; with --remove-factors they go",
            false => "none",
        };
        format!(
            "account     {}, {}\npassword    {} (shown this once, to be changed at the first login)\nlogins      ended\nfactors     {factors}\n{rules}bans        {}\n{}",
            made.account,
            became(&made),
            made.password,
            bans(&made.banned),
            in_the_way(config)
        )
    };
    print_password(&text, &made.account)
}

/// Why nobody could use the password yet.
fn in_the_way(config: &Config) -> String {
    let problem = of_database(config);
    let told = problem.iter().map(|error| {
        format!(
            "start       nobody can log in yet: {}\n",
            mcdsl::cli::chain(error)
        )
    });
    told.collect()
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

fn examine(config: &Config) -> anyhow::Result<Condition> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start its threads")?;
    let report = runtime.block_on(check(config));
    let mut lines = vec![
        ("database", config.database.path.display().to_string()),
        ("issuer", config.token.issuer.clone()),
    ];
    if report.problems.is_empty() {
        lines.push(("start", "nothing is in its way".to_owned()));
    }
    lines.extend(report.problems.into_iter().map(|text| ("start", text)));
    lines.extend(report.warnings.into_iter().map(|text| ("warning", text)));
    lines.extend(report.hints.into_iter().map(|text| ("hint", text)));
    for (name, address, found) in report.servers {
        let said = match found {
            Found::Own(_) if report.condition == Condition::NotReady => {
                "this service answers, and takes no calls: see its log"
            }
            Found::Own(_) => "this service answers",
            Found::Nobody => "nobody is there: the service is not started",
            Found::Somebody => {
                "somebody is there; whether it is this service shows once server.tls_cert can be used"
            }
            Found::Another(_) => "another program is there",
        };
        lines.push((name, format!("{address} {said}")));
    }
    let text = lines
        .iter()
        .map(|(name, text)| format!("{name:<11} {text}\n"));
    mcdsl::cli::write_out(&text.collect::<String>()).context("the output cannot be written")?;
    Ok(report.condition)
}
