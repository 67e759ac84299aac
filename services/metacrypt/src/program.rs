//! The program: its subcommands, and what they print.

mod restore;

use std::{
    io::Write as _,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, SealStatus, UnsealRequest, sealing_client::SealingClient,
};
use mcdsl::{
    cli::{Exit, Failure, Progress, ServerUrl, chain, connect, prompt, status_failure},
    clock::Clock,
    config::{GLOBAL, Root},
    db::Store,
    lock::Lock,
    service::{self, Condition},
    shutdown::Shutdown,
    telemetry::LogFormat,
};
use secrecy::ExposeSecret as _;
use tokio::runtime::Builder;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::{
    barrier::{self, Cost, Fresh, Seal, Wanted},
    log, memory, password,
    start::{Config, SERVICE},
    tool::{self, Server},
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
        #[command(flatten)]
        server: Server,
        /// By the recovery key instead
        #[arg(long, conflicts_with = "shares")]
        recovery_key: bool,
        /// By shares instead, asked for one by one, or read from stdin, one a line
        #[arg(long)]
        shares: bool,
    },
    /// Shows whether the configuration can be used, and who is at the server's address
    #[command(after_help = service::EXIT_HELP)]
    Check,
    /// Shows whether the service answers, and is sealed
    #[command(after_help = service::EXIT_HELP)]
    Status {
        #[command(flatten)]
        server: Server,
    },
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
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let root = cli.root.of(SERVICE.name);
    let load = || Config::load(SERVICE.name, &root, cli.config.as_deref(), std::env::vars());
    match &cli.command {
        Command::Version => println!("metacrypt {}", env!("CARGO_PKG_VERSION")),
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
            init(&load()?.database.path, wanted)?;
        }
        Command::Unseal {
            server,
            recovery_key,
            shares,
        } => {
            memory::undumped().context(DUMPED)?;
            let (url, ca) = server.of(load)?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(async {
                let mut client = client(&url, &ca).await?;
                let status = client.get_seal_status(GetSealStatusRequest {}).await;
                let status = status.map_err(told)?.into_inner();
                anyhow::ensure!(
                    status.initialized,
                    "{url} is not initialised; run `metacrypt init` there"
                );
                if !status.sealed {
                    println!("{url} is unsealed already");
                    return Ok(ExitCode::SUCCESS);
                }
                let request = secret(*recovery_key, *shares, &status)?;
                let progress = Progress::begin("unsealing");
                let answer = client.unseal(request).await;
                drop(progress);
                answer.map_err(told)?;
                println!("{url} is unsealed");
                Ok(ExitCode::SUCCESS)
            });
        }
        Command::Check => {
            let config = load()?;
            let condition = service::examine(SERVICE.name, &config)?;
            check_log(&config.database.path)?;
            return Ok(condition.of_check());
        }
        Command::Status { server } => {
            let (url, ca) = server.of(load)?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(status(&url, &ca));
        }
        Command::Snapshot { to, keep } => {
            let database = load()?.database.path;
            let path = service::snapshot(SERVICE.name, &database, to.as_deref(), *keep)?;
            println!("{}", path.display());
        }
        Command::Restore(restore) => restore.run(&load()?.database.path)?,
        Command::Tool(command) => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let find = |server: &Server| {
                server
                    .of(load)
                    .map_err(|e| Failure::usage(chain(e.as_ref())))
            };
            let done = match command.is_offline() {
                true => runtime.block_on(command.run_offline(&load()?.database.path)),
                false => runtime.block_on(command.run(find)),
            };
            return Ok(match done {
                Ok(()) => Exit::Ok.into(),
                Err(failure) => command.output().fail(&failure),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells whether the newest rows of the audit log are as they were written; of a database that is not there nothing.
fn check_log(database: &Path) -> anyhow::Result<()> {
    if database.exists() {
        match log::flaw(&mcdsl::db::open_as_it_is(database)?) {
            Ok(None) => println!(
                "audit log   the newest {} rows are as they were written",
                log::ROWS
            ),
            Ok(Some(problem)) => println!(
                "warning     the audit log is not as it was written: {problem}; keep the database as it is, and compare it with a snapshot"
            ),
            Err(error) => println!(
                "warning     the audit log cannot be read: {}",
                chain(&error)
            ),
        }
    }
    Ok(())
}

impl Server {
    fn of(
        &self,
        load: impl Fn() -> Result<Config, mcdsl::config::ConfigError>,
    ) -> anyhow::Result<(ServerUrl, PathBuf)> {
        if let (Some(server), Some(ca)) = (&self.server, &self.ca) {
            return Ok((server.clone(), ca.clone()));
        }
        let config = load().context("without --server and --ca the configuration says them")?;
        let here = format!("https://localhost:{}", config.server.grpc_listen.port());
        let server = self.server.clone().map_or_else(|| here.parse(), Ok)?;
        let theirs = config.server.tls_ca.unwrap_or(config.mcias.ca_cert);
        Ok((server, self.ca.clone().unwrap_or(theirs)))
    }
}

fn failed(failure: Failure) -> anyhow::Error {
    match failure.hint {
        Some(hint) => anyhow::anyhow!("{}; {hint}", failure.message),
        None => anyhow::anyhow!("{}", failure.message),
    }
}

fn told(status: tonic::Status) -> anyhow::Error {
    failed(status_failure(&status))
}

async fn client(url: &ServerUrl, ca: &Path) -> anyhow::Result<SealingClient<Channel>> {
    Ok(SealingClient::new(connect(url, ca).await.map_err(failed)?))
}

/// What opens the seal, typed or from stdin.
fn secret(recovery_key: bool, shares: bool, status: &SealStatus) -> anyhow::Result<UnsealRequest> {
    let ask = |what: &str| {
        let typed = prompt::secret(what).map_err(failed)?;
        Ok::<_, anyhow::Error>(typed.expose_secret().to_owned())
    };
    let mut request = UnsealRequest::default();
    if recovery_key {
        anyhow::ensure!(status.recovery_key, "this seal has no recovery key");
        request.recovery_key = ask("Recovery key")?;
    } else if shares {
        anyhow::ensure!(status.shares > 0, "this seal has no shares");
        for number in 1..=status.shares_needed {
            request
                .shares
                .push(ask(&format!("Share {number} of {}", status.shares_needed))?);
        }
    } else {
        request.password = ask("Password of the seal")?;
    }
    Ok(request)
}

async fn status(url: &ServerUrl, ca: &Path) -> anyhow::Result<ExitCode> {
    let mut client = match connect(url, ca).await {
        Ok(channel) => SealingClient::new(channel),
        Err(nobody) if nobody.exit == Exit::Unavailable => {
            eprintln!("error: {}", failed(nobody));
            return Ok(Condition::NotStarted.of_status());
        }
        Err(failure) => return Err(failed(failure)),
    };
    let status = client.get_seal_status(GetSealStatusRequest {}).await;
    let status = status.map_err(told)?.into_inner();
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
            "warning: the policy cannot be used, so that administrators alone may do anything; ListRules says why, ReplaceRules mends it"
        );
    }
    if status.audit_broken {
        eprintln!(
            "warning: the audit log is not as it was written; `metacrypt audit verify` says what is wrong"
        );
    }
    println!(
        "server        {url} {}\nseal          {state}\nmaster key    number {}\nrecovery key  {recovery}\nshares        {shares}",
        status.version, status.generation
    );
    let condition = match status.sealed {
        true => Condition::NotReady,
        false => Condition::Serving,
    };
    Ok(condition.of_status())
}

fn init(database: &Path, wanted: Wanted) -> anyhow::Result<()> {
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
        anyhow::ensure!(
            seal.status().await?.is_none(),
            "{} is initialised already; what it has would be lost",
            database.display()
        );
        let typed = prompt::new_password("Password of the seal").map_err(failed)?;
        let typed = Zeroizing::new(typed.expose_secret().to_owned());
        password::check(&typed).context("the password is refused")?;
        let progress = Progress::begin("making the seal");
        let made = seal.init(typed, wanted).await;
        drop(progress);
        print(database, &made?)
    })
}

/// What is shown once.
fn print(database: &Path, made: &Fresh) -> anyhow::Result<()> {
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
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.context("the recovery key cannot be printed, and is nowhere else; remove the database and run `metacrypt init` again")
}
