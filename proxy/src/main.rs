//! The daemon's command line.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mc_proxy::{
    config::{Config, Raw},
    kernel::{self, Kernel, KernelError},
    preflight, store,
    upgrade::{Inherited, Origin, Predecessor, Program},
    workers,
};
use mcdsl::{
    config::{ConfigError, Root},
    shutdown::{Shutdown, Signals},
    telemetry::{self, LogFormat},
};

/// MC-Proxy: in-kernel firewall, SNI router and L4 relay of a node
#[derive(Parser)]
#[command(
    name = "mc-proxy",
    version,
    after_help = "Operate a running daemon with mcproxyctl."
)]
struct Cli {
    #[command(flatten)]
    root: Root,
    /// Configuration file [default: <root>/mc-proxy.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Server {
        /// Form of the log on stderr
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
        /// Take over from the running daemon that has started this one
        #[arg(long, hide = true)]
        take_over: bool,
    },
    /// Load every eBPF program through the kernel's verifier, attach nothing
    Check,
    /// Check the configuration file and what it names on this machine, start nothing
    CheckConfig,
    /// Take the firewall off every interface and unpin it; needs no daemon. The node is unfiltered then
    Detach,
    /// Write a consistent copy of the database
    Snapshot {
        /// The new file; must not exist
        to: PathBuf,
    },
    /// Say whether the daemon answers: exits with 0 if it does and serves, else with 1
    Status,
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", mcdsl::cli::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Version => println!("mc-proxy {}", env!("CARGO_PKG_VERSION")),
        Command::Check => {
            check(&cli)?;
        }
        Command::CheckConfig => {
            let config = load(&cli)?;
            let problems = preflight::problems(&config);
            for problem in &problems {
                eprintln!("error: {}: {problem}", config.file.display());
            }
            if !problems.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            println!("{} is fine", config.file.display());
        }
        Command::Detach => {
            for interface in detach(&load(&cli)?.pin_path)? {
                println!("detached from {interface}");
            }
        }
        Command::Snapshot { ref to } => {
            let database = load(&cli)?.database;
            anyhow::ensure!(
                database.exists(),
                "there is no database {}; --root or --config names another",
                database.display()
            );
            store::snapshot(&database, to)?;
            println!("{}", to.display());
        }
        Command::Status => return status(&load(&cli)?.admin_socket),
        Command::Server {
            log_format,
            take_over,
        } => {
            let predecessor = take_over.then(Predecessor::from_stdin).transpose()?;
            let ran = load(&cli).and_then(|c| server(c, log_format, predecessor.clone()));
            if let (Err(error), Some(predecessor)) = (&ran, &predecessor) {
                predecessor.failed(&mcdsl::cli::chain(error.as_ref()));
            }
            ran?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Not under a running daemon, whose maps the next one would not find.
fn detach(pins: &Path) -> anyhow::Result<Vec<String>> {
    if !pins.exists() {
        return Ok(Vec::new());
    }
    let _lock = kernel::lock(pins).map_err(|error| match error {
        KernelError::PinsInUse(path) => anyhow::anyhow!(
            "a running daemon holds the pins in {}; use `mcproxyctl detach`, or stop it first",
            path.display()
        ),
        other => other.into(),
    })?;
    Ok(kernel::detach(pins)?)
}

/// In a pin directory of its own, which it removes: a running daemon's maps are not touched.
fn check(cli: &Cli) -> anyhow::Result<()> {
    let pins = match load(cli) {
        Ok(config) => config.pin_path,
        Err(_) => mc_proxy::config::PIN_PATH.into(),
    };
    let pins = pins.with_file_name(format!("mc-proxy-check-{}", std::process::id()));
    let checked = Kernel::open(&pins).and_then(|mut kernel| kernel.check());
    let removed = kernel::detach(&pins)
        .map_err(anyhow::Error::from)
        .and_then(|_| {
            std::fs::remove_dir(&pins).with_context(|| format!("cannot remove {}", pins.display()))
        });
    checked?;
    removed?;
    println!("this kernel takes every program and map");
    Ok(())
}

fn load(cli: &Cli) -> anyhow::Result<Config> {
    let root = cli.root.of("mc-proxy");
    let file = cli
        .config
        .clone()
        .unwrap_or_else(|| root.join("mc-proxy.toml"));
    // Before reading: a change from here on is told.
    let contents = std::fs::read(&file).ok();
    let loaded = mcdsl::config::load::<Raw>("mc-proxy", Some(&file), std::env::vars());
    let loaded = loaded.map_err(|error| match error {
        ConfigError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            let path = path.display();
            anyhow::anyhow!(
                "permission denied on {path}; run as root or as the daemon's user (sudo mc-proxy …)"
            )
        }
        other => other.into(),
    })?;
    let mut config = Config::check(loaded.value, &file, &root)?;
    config.contents = contents;
    Ok(config)
}

/// The control plane; connections have threads of their own ([`mc_proxy::workers`]).
#[tokio::main(worker_threads = 2)]
async fn server(
    mut config: Config,
    log_format: LogFormat,
    predecessor: Option<Predecessor>,
) -> anyhow::Result<()> {
    telemetry::init(&config.log, log_format)?;
    let most = connections_of(raise_descriptor_limit());
    if config.max_connections > most {
        let warning = format!(
            "max_connections is {most} and not {}: the limit of open files allows no more (two for each); raise it \
             (LimitNOFILE= in systemd's unit, `ulimit -n`)",
            config.max_connections
        );
        tracing::warn!("{warning}");
        config.warnings.push(warning);
        config.max_connections = most;
    }
    if config.max_connections_per_source >= Some(config.max_connections) {
        let warning = "one source may hold all connections: max_connections_per_source is not below max_connections";
        tracing::warn!("{warning}");
        config.warnings.push(warning.to_owned());
    }
    let shutdown = Shutdown::new();
    // From now on no signal kills: a SIGHUP that comes during the start is answered by what the start does, and once connections
    // are accepted a SIGTERM is to drain them.
    let mut signals = Signals::new().context("cannot handle signals")?;
    let starting = async {
        anyhow::Ok(mc_proxy::start_from(config, origin(predecessor.clone()).await?).await?)
    };
    let handle = tokio::select! {
        started = starting => started?,
        // Nothing is accepted yet, and the threads that the start waits for are not to be waited for.
        () = signals.stop() => std::process::exit(1),
    };
    let pid = std::process::id();
    let metrics = handle.metrics().map(|m: SocketAddr| m.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        // Of two daemons of one service, which one speaks; here and where it ends.
        pid,
        socket = %handle.control().config.admin_socket.display(),
        metrics = metrics.as_deref().unwrap_or("off"),
        "mc-proxy runs"
    );
    if predecessor.is_some() {
        mcdsl::shutdown::main_process_is(pid);
    }
    let control = handle.control().clone();
    let signalled = shutdown.wait_for_signal(&mut signals, async || {
        let control = control.clone();
        // Binding and attaching block.
        if let Err(error) = tokio::task::spawn_blocking(move || control.reload()).await {
            tracing::error!(%error, "the reload failed");
        }
    });
    tokio::select! {
        () = signalled => tracing::info!(pid, "stopping; the firewall stays as it is"),
        by = control.replaced() => tracing::info!(pid, by, "replaced"),
    }
    // Of one that stops already, nothing more: the handlers stay.
    let cut = handle.stop(signals.stop()).await;
    tracing::info!(pid, "stopped");
    if cut > 0 {
        tracing::warn!(pid, cut, "connections were cut by the drain deadline");
    }
    Ok(())
}

/// What this daemon need not open itself.
async fn origin(predecessor: Option<Predecessor>) -> anyhow::Result<Origin> {
    let inherited = match predecessor.clone() {
        Some(predecessor) => tokio::task::spawn_blocking(move || predecessor.hello()).await??,
        None => Inherited::from_systemd().context("cannot use the sockets of systemd")?,
    };
    Ok(Origin {
        program: Program::of_this_process(),
        inherited,
        predecessor,
    })
}

/// Two descriptors per connection: take what the hard limit allows. Returns the limit.
fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    raised.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit of open files");
        getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
    })
}

/// Descriptors that are not for connections: maps, SQLite, the admin API's clients, scrapers, health checks; and the workers'.
const RESERVED_DESCRIPTORS: u64 = 128 + mc_proxy::health::check::MAX_CHECKS as u64;

/// Connections that so many descriptors carry. Were it more, clients could take those of the admin API. Backends of HTTP get as many at
/// most as there may be connections, which is within the limit unless relayed ones have taken theirs as well.
fn connections_of(descriptors: u64) -> u32 {
    let reserved = RESERVED_DESCRIPTORS + workers::count() as u64 * workers::DESCRIPTORS;
    let connections = descriptors.saturating_sub(reserved) / 2;
    u32::try_from(connections).unwrap_or(u32::MAX).max(1)
}

#[tokio::main(flavor = "current_thread")]
async fn status(socket: &Path) -> anyhow::Result<ExitCode> {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    // First by hand: tonic buries the kind of the error.
    if let Err(error) = tokio::net::UnixStream::connect(socket).await {
        let at = socket.display();
        anyhow::ensure!(
            error.kind() != ErrorKind::PermissionDenied,
            "permission denied on the admin socket {at}; run as root or as the daemon's user (sudo mc-proxy status)"
        );
        println!("down: nothing answers on {at}: {error}");
        return Ok(ExitCode::FAILURE);
    }
    let channel = mc_proxy::admin::connect(socket).await?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    let status = answer.into_inner().status();
    let (text, code) = match status {
        ServingStatus::Serving => ("serving", ExitCode::SUCCESS),
        ServingStatus::NotServing => (
            "draining: nothing new is accepted, and it ends with its last connection",
            ExitCode::FAILURE,
        ),
        _ => ("unknown", ExitCode::FAILURE),
    };
    println!("{text}");
    Ok(code)
}
