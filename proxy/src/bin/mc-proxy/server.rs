//! The daemon: from its configuration to its end.

use anyhow::Context as _;
use mc_proxy::{
    config::Config,
    upgrade::{Inherited, Origin, Predecessor, Program},
    workers,
};
use mcdsl::{
    shutdown::{Shutdown, Signals},
    telemetry::{self, LogFormat},
};

/// The control plane; connections have threads of their own ([`mc_proxy::workers`]).
#[tokio::main(worker_threads = 2)]
pub(crate) async fn run(
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
    let metrics = match (handle.metrics(), handle.control().config.metrics) {
        (Some(address), _) => address.to_string(),
        (None, Some(_)) => "not yet".to_owned(),
        (None, None) => "off".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        // Of two daemons of one service, which one speaks; here and where it ends.
        pid,
        socket = %handle.control().config.admin_socket.display(),
        metrics,
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
