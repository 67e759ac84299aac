//! The program of a service: its subcommands, its signals, its end.

use std::{
    error::Error,
    io,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::{Base, Condition, Config, Service, start};
use crate::{
    archive::{self, ArchiveError},
    auth::client::{Client, ClientError},
    certificate::ends_soon,
    cli::{Exit, Progress, chain, with_exit_codes, write_out},
    clock::Clock,
    config::{ConfigError, GLOBAL, Root, variable},
    db::{self, DbError},
    owner::closed,
    server::{self, App, Found, Handle},
    shutdown::{Ended, Shutdown, Signals},
    telemetry::{self, LogConfig, LogFormat, TelemetryError},
    web::{Sso, sso::SsoError},
};

/// For what is under way when the service stops.
const GRACE: Duration = Duration::from_secs(15);

/// Why a service does not start, or a subcommand fails.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// MCIAS.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Logging in by MCIAS.
    #[error(transparent)]
    Sso(#[from] SsoError),
    /// The server.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// The log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A snapshot.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A word that is no form of a log.
    #[error("{variable} is {text:?}; it may be text or json")]
    LogFormat {
        /// The variable.
        variable: String,
        /// Its text.
        text: String,
    },
    /// The process cannot be set up, or its output not be written.
    #[error("the process cannot {what}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service's own part.
    #[error(transparent)]
    Own(Box<dyn Error + Send + Sync>),
}

impl ServiceError {
    /// How the program ends by it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::LogFormat { .. } => Exit::Usage,
            Self::Db(error) => Exit::of(error),
            Self::Client(error) => Exit::of(error),
            Self::Sso(error) => Exit::of(error),
            Self::Server(error) => Exit::of(error),
            Self::Telemetry(error) => Exit::of(error),
            Self::Archive(error) => Exit::of(error),
            Self::Io { source, .. } => Exit::of(source),
            Self::Own(error) => Exit::of(error.as_ref()),
        }
    }
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    root: Root,
    /// The configuration [default: <root>/<service>.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service
    Server {
        /// How the log is written [default: text]
        #[arg(long, value_enum)]
        log_format: Option<LogFormat>,
    },
    /// Writes a consistent copy of the database
    Snapshot {
        /// The directory [default: backups beside the database]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Removes this database's oldest snapshots there but for so many, the new one among them [default: all stay]
        #[arg(long, value_name = "N")]
        keep: Option<NonZero<usize>>,
    },
    /// Shows whether the configuration can be used, who is at the server's address, and whether MCIAS knows this service
    Check,
    /// Shows who is at the server's address; fails unless the server answers and takes calls
    Status,
    /// Prints the version
    Version,
}

/// The whole program of a service; see [`start`] for `build`. `--config` and `--log-format` may also be said by `<SERVICE>_CONFIG` and
/// `<SERVICE>_LOG_FORMAT`.
pub fn main<T, E>(service: &Service, build: impl AsyncFnOnce(T, Base) -> Result<App, E>) -> ExitCode
where
    T: DeserializeOwned + Default,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let command = with_exit_codes(Cli::command())
        .name(service.name)
        .version(service.version);
    let cli = Cli::from_arg_matches(&command.get_matches());
    let cli = cli.unwrap_or_else(|error| error.exit());
    let checked = matches!(cli.command, Command::Check);
    match run(service, cli, build) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            match checked {
                // Whatever it is, it is in the way of a start.
                true => ExitCode::FAILURE,
                false => error.exit().into(),
            }
        }
    }
}

fn run<T, E>(
    service: &Service,
    cli: Cli,
    build: impl AsyncFnOnce(T, Base) -> Result<App, E>,
) -> Result<ExitCode, ServiceError>
where
    T: DeserializeOwned + Default,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    if let Command::Version = cli.command {
        print(&format!("{} {}\n", service.name, service.version))?;
        return Ok(ExitCode::SUCCESS);
    }
    let said = |what| std::env::var(variable(service.name, what)).ok();
    let file = cli.config.or_else(|| said("CONFIG").map(PathBuf::from));
    let root = cli.root.of(service.name);
    let config = Config::<T>::load(service.name, &root, file.as_deref(), std::env::vars())?;
    match cli.command {
        Command::Server { log_format } => {
            let format = match (log_format, said("LOG_FORMAT")) {
                (Some(format), _) => format,
                (None, Some(text)) => LogFormat::from_str(&text, true).map_err(|_| {
                    let variable = variable(service.name, "LOG_FORMAT");
                    ServiceError::LogFormat { variable, text }
                })?,
                (None, None) => LogFormat::default(),
            };
            let log = config.log.clone();
            serve(&log, format, async |shutdown| {
                start(service, config, shutdown, build).await
            })
        }
        Command::Snapshot { to, keep } => {
            let path = snapshot(service.name, &config.database.path, to.as_deref(), keep)?;
            print(&format!("{}\n", path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check => check(service, &config, "the server makes it"),
        Command::Status => Ok(examine(service.name, &config, "the server makes it")?.of_status()),
        Command::Version => Ok(ExitCode::SUCCESS),
    }
}

fn print(text: &str) -> Result<(), ServiceError> {
    write_out(text).map_err(io_error("write its output"))
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ServiceError {
    move |source| ServiceError::Io { what, source }
}

/// Tells what a start needs of the configuration, and who is at the server's address; changes nothing. `made` is how a database comes to be
/// that is not there.
///
/// # Errors
/// That the configuration cannot be used, which is in the way of a start.
pub fn examine<T>(
    service: &str,
    config: &Config<T>,
    made: &str,
) -> Result<Condition, ServiceError> {
    config.log.filter()?;
    let server = config.server.examine();
    let listen = config.server.listen;
    let found = runtime()?.block_on(server.who_is_at(listen, "/healthz"));
    let ends = server.certificate().map(|identity| identity.not_after);
    let ends = ends.and_then(|ends| ends_soon(ends, SystemTime::now()));
    server.checked().map_err(server::StartError::from)?;
    let database = &config.database.path;
    let condition = Condition::of_health(&found);
    let said = match (&found, condition) {
        (Found::Another(why), _) => format!("is another program's: {why}"),
        (_, Condition::Serving) => "answers".to_owned(),
        (Found::Own(said), Condition::NotReady) => {
            format!("answers, and takes no calls: {}", why_not(service, said))
        }
        _ => format!("does not answer: {service} is not started"),
    };
    let missing = match database.exists() {
        true => String::new(),
        false => format!(" (is not there; {made})"),
    };
    print(&format!(
        "database    {}{missing}\nMCIAS       {}\npages       {}\nserver      {listen} {said}\n",
        database.display(),
        config.mcias.server_url,
        config.sso.public_url,
    ))?;
    if let Some(warning) = ends {
        eprintln!("warning: server.tls_cert: {warning}");
    }
    if let Some(warning) = server::little_left(database) {
        eprintln!("warning: {warning}");
    }
    Ok(condition)
}

/// Why it takes no calls, by what `/healthz` says.
fn why_not(service: &str, said: &str) -> String {
    match said.contains("sealed") {
        true => format!("it is sealed; `{service} unseal` opens it"),
        false => "its disk is full, or it is about to stop; its log says which".to_owned(),
    }
}

/// The same, looks whether the database's schema is the service's own, and asks MCIAS whether it answers, takes this service's token, and knows the service: how `check` ends.
///
/// # Errors
/// As [`examine`], and what of the database, `[mcias]` and `[sso]` is in the way of a start.
pub fn check<T>(
    service: &Service,
    config: &Config<T>,
    made: &str,
) -> Result<ExitCode, ServiceError> {
    let condition = examine(service.name, config, made)?;
    for (key, address) in [
        ("server.listen", config.server.listen),
        ("server.grpc_listen", config.server.grpc_listen),
    ] {
        if let Some(warning) = server::needs_capability(key, address) {
            eprintln!("warning: {warning}");
        }
    }
    let path = &config.database.path;
    if path.exists() {
        db::check(&db::open_as_it_is(path)?, path, service.migrations)?;
    }
    if let Some(warning) = closed(&archive::backups(path)) {
        eprintln!("warning: {warning}");
    }
    let asked = runtime()?.block_on(async {
        let mcias = Client::new(&config.mcias, Clock::default())?;
        let sso = Sso::new(
            &config.sso,
            &config.mcias,
            Arc::clone(&mcias),
            &Shutdown::new(),
        )?;
        Ok::<_, ServiceError>((mcias.examine().await, sso.examine().await))
    });
    let (mcias, sso) = asked?;
    let place = (&config.mcias.server_url, &config.sso.issuer);
    let token = config.mcias.token_file.display();
    let problems = [
        mcias.err().map(|why| {
            format!("MCIAS at {} {why}; look at [mcias] server_url and token_file ({token})", place.0)
        }),
        sso.err().map(|why| {
            format!(
                "nobody can log in to the pages by {}: {why}; look at [mcias] service_name and [sso], and at `mciasctl service show {}`",
                place.1, config.mcias.service_name
            )
        }),
    ];
    for problem in problems.iter().flatten() {
        eprintln!("error: {problem}");
    }
    Ok(match problems.iter().all(Option::is_none) {
        true => condition.of_check(),
        false => Condition::Hindered.of_check(),
    })
}

fn runtime() -> Result<Runtime, ServiceError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(io_error("start its threads"))
}

/// Archives a consistent copy of a service's database, running or not, in `to` or in `backups` beside it; a terminal sees that it goes on. Of
/// the service's snapshots there the newest `keep` stay, this one among them; without a number all do.
///
/// # Errors
/// [`ServiceError::Db`] and [`ServiceError::Archive`].
pub fn snapshot(
    service: &str,
    database: &Path,
    to: Option<&Path>,
    keep: Option<NonZero<usize>>,
) -> Result<PathBuf, ServiceError> {
    let directory = to.map_or_else(|| archive::backups(database), Path::to_owned);
    let database = db::open_as_it_is(database)?;
    let now = SystemTime::now();
    let _progress = Progress::begin("copying the database");
    let made = archive::snapshot(service, &database, &directory, now)?;
    if let Some(keep) = keep {
        archive::keep(service, &made, keep)?;
    }
    Ok(made)
}

/// Runs what `start` starts until SIGTERM or SIGINT, and lets it end; SIGHUP reads its certificate again.
///
/// # Errors
/// If it does not start.
pub fn serve<E: Into<Box<dyn Error + Send + Sync>>>(
    log: &LogConfig,
    format: LogFormat,
    start: impl AsyncFnOnce(&Shutdown) -> Result<Arc<Handle>, E>,
) -> Result<ExitCode, ServiceError> {
    telemetry::init(log, format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(io_error("start its threads"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(io_error("install signal handlers"))?;
        let shutdown = Shutdown::new();
        let handle = start(&shutdown).await;
        let handle = handle.map_err(|error| ServiceError::Own(error.into()))?;
        tracing::info!(https = %handle.address, grpc = %handle.grpc, "ready");
        let reload = async || {
            let handle = Arc::clone(&handle);
            // It reads files. Fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || handle.reload()).await;
        };
        shutdown.wait_for_signal(&mut signals, reload).await;
        Ok(match shutdown.finish(GRACE).await {
            Ended::Clean => ExitCode::SUCCESS,
            ended => {
                tracing::error!(?ended, "not everything ended as it should");
                ExitCode::FAILURE
            }
        })
    })
}
