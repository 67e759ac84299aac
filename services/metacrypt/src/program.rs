//! The program: its subcommands, and what they print.

mod check;
mod restore;
mod secret;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mc_proto::metacrypt::v1::{GetSealStatusRequest, sealing_client::SealingClient};
use mcdsl::{
    cli::{
        Exit, Failure, Output, Place, Progress, chain, prompt, status_failure, write_once,
        write_out,
    },
    clock::Clock,
    config::{ConfigError, GLOBAL, Root},
    db::Store,
    lock::Lock,
    service::{self, Condition},
    shutdown::Shutdown,
    telemetry::LogFormat,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::runtime::Builder;
use zeroize::Zeroizing;

pub(crate) use self::secret::typed_shares;
use self::secret::{Has, secret, verified};
use crate::{
    barrier::{self, Cost, DrillError, Fresh, Seal, Wanted},
    memory, password,
    restore::RestoreError,
    start::{Config, SERVICE},
    tool::{self, Connection, Server},
};

/// Why a secret is not typed.
pub(crate) const DUMPED: &str = "the process cannot be kept from being dumped";

/// Certificates and secrets behind a seal
#[derive(Debug, Parser)]
#[command(name = "metacrypt", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    root: Root,
    /// The configuration [default: <root>/metacrypt.toml]
    #[arg(long, env = "METACRYPT_CONFIG", global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the service, sealed until it is unsealed
    Server {
        /// How the log is written
        #[arg(long, env = "METACRYPT_LOG_FORMAT", value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Makes the seal: asks for its password, and prints the recovery key and the shares once
    Init {
        /// Makes no recovery key: who forgets the password has lost everything
        #[arg(long)]
        no_recovery_key: bool,
        /// Makes shares of a further key, so many of which open the seal, like 2/3
        #[arg(long, value_name = "NEEDED/ALL", value_parser = threshold)]
        shares: Option<(u8, u8)>,
    },
    /// Opens the seal of the running service: by its password, which is asked for or read from stdin
    Unseal {
        /// By the recovery key instead
        #[arg(long, conflicts_with = "shares")]
        recovery_key: bool,
        /// By shares instead, asked for one by one, or read from stdin, one a line
        #[arg(long)]
        shares: bool,
        /// Opens nothing: shows whether the secret would, by the database on this machine, sealed or not
        #[arg(long)]
        verify: bool,
    },
    /// Shows whether the configuration can be used, who is at the server's address, and whether MCIAS knows this service
    Check,
    /// Shows whether the service answers, and is sealed
    Status,
    /// Writes a consistent copy of the database; without what opens the seal it is worth nothing
    Snapshot {
        /// The directory [default: backups beside the database]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Removes this database's oldest snapshots there but for so many, the new one among them [default: all stay]
        #[arg(long, value_name = "N")]
        keep: Option<NonZero<usize>>,
    },
    /// Puts the database of a snapshot in its place, if nothing is wrong with it, or shows whether it could be. The service must not run
    Restore(restore::Restore),
    #[command(flatten)]
    Tool(Box<tool::Command>),
    /// Prints a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Prints the version
    Version,
}

pub(crate) fn threshold(text: &str) -> Result<(u8, u8), String> {
    let both = text
        .split_once('/')
        .and_then(|(needed, all)| Some((needed.parse().ok()?, all.parse().ok()?)));
    let (needed, all) = both.ok_or("say how many of how many, like 2/3")?;
    barrier::threshold(needed, all).map_err(|refused| refused.to_string())
}

/// The whole program.
#[must_use]
pub fn program() -> ExitCode {
    let cli: Cli = match mcdsl::cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let out = cli.connection.output();
    match run(&cli, out) {
        Ok(code) => code,
        Err(error) => out.fail(&failure(error)),
    }
}

/// What there is to tell of an error, and how the program ends by it: the same whichever command found it.
fn failure(error: anyhow::Error) -> Failure {
    let error = match error.downcast::<RestoreError>() {
        // Of the secret that was asked for in between.
        Ok(RestoreError::Secret(error)) => return failure(error),
        Ok(error @ (RestoreError::Seal(_) | RestoreError::Drill(DrillError::Seal(_)))) => {
            return Failure::new(Exit::Refused, error);
        }
        Ok(RestoreError::Snapshot(error)) => error.into(),
        Ok(error) => error.into(),
        Err(error) => error,
    };
    let exit = Exit::of(error.as_ref());
    match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(exit, chain(error.as_ref())),
    }
}

fn run(cli: &Cli, out: Output) -> anyhow::Result<ExitCode> {
    let root = cli.root.of(SERVICE.name);
    let load = || Config::load(SERVICE.name, &root, cli.config.as_deref(), std::env::vars());
    let server = &cli.connection.server;
    match &cli.command {
        Command::Completions { shell } => mcdsl::cli::completions::<Cli>(*shell)?,
        Command::Version => write_out(&format!("metacrypt {}\n", env!("CARGO_PKG_VERSION")))?,
        Command::Server { log_format } => {
            let config = load()?;
            memory::undumped().context(DUMPED)?;
            if config.service.lock_memory {
                memory::unswapped().context(
                    "memory cannot be kept from swap; give the service CAP_IPC_LOCK or an unlimited memlock (LimitMEMLOCK=infinity), \
                     or set lock_memory = false in [service] where swap is off or encrypted",
                )?;
            }
            let log = config.log.clone();
            // Until the service has ended.
            let _lock = Lock::of(&config.database.path)?;
            let start = async |shutdown: &Shutdown| crate::start(config, shutdown).await;
            return Ok(service::serve(&log, *log_format, start)?);
        }
        Command::Init {
            no_recovery_key,
            shares,
        } => {
            let wanted = Wanted {
                cost: Cost::DEFAULT,
                recovery: !no_recovery_key,
                shares: *shares,
            };
            init(&load()?, wanted, out)?;
        }
        Command::Unseal {
            recovery_key,
            shares,
            verify,
        } => {
            memory::undumped().context(DUMPED)?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            if *verify {
                let database = &load()?.database.path;
                runtime.block_on(verified(database, *recovery_key, *shares, out))?;
                return Ok(ExitCode::SUCCESS);
            }
            let place = server.of(load)?;
            return runtime.block_on(async {
                let mut client = SealingClient::new(place.connect().await?);
                let url = &place.url;
                let status = client.get_seal_status(GetSealStatusRequest {}).await;
                let mut status = status.map_err(told)?.into_inner();
                if !status.initialized {
                    let why = format!("{url} is not initialised; run `metacrypt init` there");
                    return Err(Failure::new(Exit::Refused, why).into());
                }
                let sentence = if status.sealed {
                    let has = Has {
                        recovery_key: status.recovery_key,
                        shares: (status.shares > 0).then_some(status.shares_needed),
                    };
                    let request = secret(*recovery_key, *shares, &has)?;
                    let progress = Progress::begin("unsealing");
                    let answer = client.unseal(request).await;
                    drop(progress);
                    status = answer.map_err(told)?.into_inner();
                    format!("{url} is unsealed")
                } else {
                    format!("{url} is unsealed already")
                };
                out.done(&sentence, &tool::json("SealStatus", &status)?)?;
                Ok(ExitCode::SUCCESS)
            });
        }
        Command::Check => {
            if out.json {
                return Err(Failure::usage("`check` prints no JSON; its exit code tells").into());
            }
            // It is in the way of a start.
            let config = load().map_err(|e| Failure::new(Exit::Failure, chain(&e)))?;
            let checked = check::check(&config);
            return checked.map_err(|e| Failure::new(Exit::Failure, chain(e.as_ref())).into());
        }
        Command::Status => {
            let place = server.of(load)?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(status(&place, out));
        }
        Command::Snapshot { to, keep } => {
            let database = load()?.database.path;
            let path = service::snapshot(SERVICE.name, &database, to.as_deref(), *keep)?;
            let path = path.display().to_string();
            out.done(&path, &json!({ "snapshot": path }))?;
        }
        Command::Restore(restore) => restore.run(&load()?.database.path, out)?,
        Command::Tool(command) => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let find = |server: &Server| server.of(load);
            match command.offline() {
                Some(audit) => {
                    runtime.block_on(audit.run_offline(&load()?.database.path, out))?;
                }
                None => runtime.block_on(command.run(&cli.connection, find))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn of(&self, load: impl Fn() -> Result<Config, ConfigError>) -> Result<Place, Failure> {
        if let (Some(server), Some(ca)) = (&self.server, &self.ca) {
            return Ok(Place::new(server.clone(), ca.clone()));
        }
        let config = load().map_err(|e| {
            let why = "without --server and --ca the configuration says them";
            Failure::usage(format_args!("{why}: {}", chain(&e)))
        })?;
        let theirs = config.server.tls_ca.clone().unwrap_or(config.mcias.ca_cert);
        let ca = self.ca.clone().unwrap_or(theirs);
        match &self.server {
            Some(server) => Ok(Place::new(server.clone(), ca)),
            None => Place::here(&config.server, ca),
        }
    }
}

fn told(status: tonic::Status) -> anyhow::Error {
    status_failure(&status).into()
}

async fn status(place: &Place, out: Output) -> anyhow::Result<ExitCode> {
    let url = &place.url;
    let mut client = match place.connect().await {
        Ok(channel) => SealingClient::new(channel),
        Err(nobody) if nobody.exit == Exit::Unavailable => {
            out.fail(&nobody);
            return Ok(Condition::NotStarted.of_status());
        }
        Err(failure) => return Err(failure.into()),
    };
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    let status = status.map_err(told)?.into_inner();
    let condition = match status.sealed || status.unwritable {
        true => Condition::NotReady,
        false => Condition::Serving,
    };
    if out.json {
        out.json(&tool::json("SealStatus", &status)?)?;
        return Ok(condition.of_status());
    }
    let state = match (status.initialized, status.sealed) {
        (false, _) => "not initialised; run `metacrypt init`",
        (true, true) => "sealed; run `metacrypt unseal`",
        (true, false) => "unsealed",
    };
    let recovery = if status.recovery_key { "yes" } else { "none" };
    let shares = match status.shares {
        0 => "none".to_owned(),
        all => format!("{} of {all}", status.shares_needed),
    };
    if status.policy_unusable {
        eprintln!(
            "warning: the policy cannot be used, so that administrators alone may do anything; `metacrypt policy list --json` says why, ReplaceRules of the API mends it"
        );
    }
    if status.audit_broken {
        eprintln!(
            "warning: the audit log is not as it was written; `metacrypt audit verify` says what is wrong"
        );
    }
    if status.unwritable {
        eprintln!(
            "warning: nothing can be written, and so nothing is done: the disk is full, or the database is damaged, or was changed or moved by somebody else; the service's log says which, and `metacrypt check` on its machine more"
        );
    }
    if status.little_room && !status.unwritable {
        eprintln!(
            "warning: the disk has little room left, so that each account has few calls a minute: make room; `metacrypt check` on the service's machine says how much there is"
        );
    }
    if status.mcias_away {
        eprintln!(
            "warning: MCIAS does not answer, so that tokens are refused but for those that were asked for within 30 s; `metacrypt check` on the service's machine says more"
        );
    }
    write_out(&format!(
        "server        {url} {}\nseal          {state}\nmaster key    number {}\nrecovery key  {recovery}\nshares        {shares}\n",
        status.version, status.generation
    ))?;
    Ok(condition.of_status())
}

fn init(config: &Config, wanted: Wanted, out: Output) -> anyhow::Result<()> {
    let database = &config.database.path;
    memory::undumped().context(DUMPED)?;
    if let Err(error) = memory::unswapped() {
        eprintln!(
            "warning: memory cannot be kept from swap ({error}); where swap is on and not encrypted, run this with CAP_IPC_LOCK or an unlimited memlock (ulimit -l unlimited)"
        );
    }
    let runtime = Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let store = Store::open(database, SERVICE.migrations)?;
        let seal = Seal::new(Arc::clone(&store), Clock::default());
        // Before anybody types.
        if seal.status().await?.is_some() {
            let at = database.display();
            let why = format!("{at} is initialised already; what it has would be lost");
            return Err(Failure::new(Exit::Refused, why).into());
        }
        let typed = prompt::new_password("Password of the seal")?;
        let typed = Zeroizing::new(typed.expose_secret().to_owned());
        password::check(&typed, &password::names_of(config))
            .map_err(|weak| Failure::usage(format_args!("the password is refused: {weak}")))?;
        let progress = Progress::begin("making the seal");
        let made = seal.init(typed, wanted).await;
        drop(progress);
        print(database, &made?, out)
    })
}

/// What is shown once.
fn print(database: &Path, made: &Fresh, out: Output) -> anyhow::Result<()> {
    const LOST: &str = "the recovery key cannot be printed, and is nowhere else; remove the database and run `metacrypt init` again";
    if out.json {
        let value = json!({
            "database": database.display().to_string(),
            "recovery_key": made.recovery.as_ref().map(|key| key.as_str()),
            "shares": made.shares.iter().map(|share| share.as_str()).collect::<Vec<_>>(),
        });
        return write_once(&format!("{value:#}\n")).context(LOST);
    }
    let mut text = Zeroizing::new(format!("database      {}\n", database.display()));
    if let Some(key) = &made.recovery {
        text.push_str(&format!("recovery key  {}\n", **key));
    }
    for (number, share) in (1..).zip(&made.shares) {
        text.push_str(&format!("share {number:<8}{}\n", **share));
    }
    if made.recovery.is_some() || !made.shares.is_empty() {
        text.push_str("              (shown this once: write them down, and keep them apart from this machine and its snapshots)\n");
    }
    write_once(&text).context(LOST)
}
