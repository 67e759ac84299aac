//! From a checked configuration to a running daemon, and back.
//!
//! Order: lock, database, kernel maps (taken over or made), seed, maps reconciled with the database, GeoIP, XDP attached, backends
//! checked once; only then does anything listen, so that no packet is served before it can be filtered.

mod database;
mod endpoint;
mod open;
mod stop;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aya_log::EbpfLogger;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::open::{descriptors, lock, open_services};
use crate::{
    admin::{self, SocketError},
    bans,
    config::Config,
    connection::{Context, Engines, Timeouts},
    control::{Control, ControlError, Estate},
    firewall::{Firewall, FirewallError},
    geoip::{GeoIp, GeoIpError},
    health::check::Checks,
    kernel::{self, Kernel, KernelError},
    relay::{BufferPool, CopyEngine, Engine, SockmapEngine},
    router::Router,
    routes::{RouteTable, RouteTableError},
    sources::Sources,
    store::{Store, StoreError},
    upgrade::{Origin, Predecessor},
    workers::Workers,
};

/// How often bans are swept, lost listeners retried and interfaces looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Bytes of an error in the log.
const MAX_ERROR: usize = 2048;
/// How often the programs' log is read, when it is on.
const PROGRAM_LOG: Duration = Duration::from_millis(100);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The root directory cannot be used.
    #[error("cannot open {path}")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon runs there.
    #[error("another mc-proxy runs with this root ({0} is locked); stop it first")]
    Running(PathBuf),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was lost, or is another one's.
    #[error(
        "the database {database} is new, while the firewall that is pinned in {pins} holds {held}: a new database would take all \
         of it out of force, so nothing was changed; put the database or a snapshot in its place, or run `mc-proxy detach` \
         to begin anew"
    )]
    NewDatabase {
        /// Its path.
        database: PathBuf,
        /// `firewall.pin_path`.
        pins: PathBuf,
        /// What is in force.
        held: String,
    },
    /// See [`KernelError`].
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// See [`RouteTableError`].
    #[error(transparent)]
    Routes(#[from] RouteTableError),
    /// See [`FirewallError`].
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// See [`GeoIpError`].
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// See [`ControlError`].
    #[error(transparent)]
    Control(#[from] ControlError),
    /// See [`SocketError`].
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system refuses threads.
    #[error("cannot start the threads that serve connections; see `ulimit -u` and `ulimit -n`")]
    Workers(#[source] io::Error),
    /// The predecessor serves on while this daemon could not.
    #[error("cannot accept on {address}: {reason}")]
    Listener {
        /// The listener's.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Too many files are open, or an inherited socket cannot be used.
    #[error("cannot use the sockets of the admin API and the metrics; see `ulimit -n`")]
    Descriptors(#[source] io::Error),
    /// MCIAS cannot be asked for bans.
    #[error(transparent)]
    Mcias(#[from] mcdsl::auth::client::ClientError),
}

/// A running daemon.
pub struct Handle {
    control: Arc<Control>,
    metrics: Option<SocketAddr>,
    tasks: TaskTracker,
}

impl Handle {
    /// What the admin API speaks to.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Where the metrics are, port 0 resolved; `None` also if their address could not be listened on yet.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

async fn wait_for_go(predecessor: Option<Predecessor>, bare: usize) -> Result<(), StartError> {
    let Some(predecessor) = predecessor else {
        return Ok(());
    };
    let ready = tokio::task::spawn_blocking(move || predecessor.ready(bare));
    let ready = ready.await.map_err(io::Error::other);
    ready.map_err(StartError::Workers)
}

/// Starts the daemon.
///
/// # Errors
/// [`StartError`]; nothing listens then, and what was pinned before still filters.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    start_from(config, Origin::default()).await
}

/// [`start`], with what is open already, and in place of a running daemon if there is a predecessor.
///
/// # Errors
/// As [`start`]; a predecessor goes on then, once it learns of it.
pub async fn start_from(config: Config, origin: Origin) -> Result<Handle, StartError> {
    let Origin {
        program,
        mut inherited,
        predecessor,
    } = origin;
    let root = lock(&config, &mut inherited)?;
    let mut store = Store::open(&config.database)?;
    let pins = kernel::lock_inherited(&config.pin_path, inherited.lock(&config.pin_path))?;
    // Before it is opened: afterwards there always are pins.
    let taken_over = kernel::pins(&config.pin_path).exists();
    let mut kernel = Kernel::open(&config.pin_path)?;
    let router = Router::new(RouteTable::take(&mut kernel)?);
    let pool = BufferPool::default();
    let sockmap = sockmap(&mut kernel, pool.clone());
    let geoip = Arc::new(GeoIp::open(&mut kernel, config.geoip.clone())?);
    let located = Arc::clone(&geoip);
    let firewall = Firewall::open(&mut kernel, Arc::new(move |address| located.index(address)))?;
    database::check_new(&store, &config, &kernel, &firewall, &router.table)?;

    let mcias = config.mcias.as_ref().map(bans::client).transpose()?;
    let (socket, metrics) = open_services(&config, &mut inherited).await?;
    let (metrics_listener, metrics_error) = match metrics {
        Ok(listener) => (listener, None),
        Err(error) => (None, Some(error)),
    };
    let estate = Estate {
        root,
        pins,
        sockets: descriptors(&socket, metrics_listener.as_ref())
            .map_err(StartError::Descriptors)?,
    };
    // What a mistake in the configuration lets fail is behind us: a mended one is to seed the database as well.
    let mut warnings = config.warnings.clone();
    let (state, told) = database::load(&mut store, &config)?;
    warnings.extend(told);
    for route in &state.routes {
        router.adopt(route.clone());
    }
    let timeouts = Timeouts {
        client_hello: config.client_hello_timeout,
        connect: config.connect_timeout,
        idle: config.idle_timeout,
        max_age: config.max_age,
    };
    let workers = Workers::start().map_err(StartError::Workers)?;
    let program_log = program_log(&mut kernel, config.log_sample);
    let copy: Arc<dyn Engine> = Arc::new(CopyEngine::new(pool));
    let context = Arc::new(Context::new(
        router,
        firewall,
        Engines {
            copy,
            sockmap,
            default: config.engine,
        },
        timeouts,
        Sources::new(config.per_source()),
        config.max_connections,
    ));
    let control = Control::new(config, context, geoip, kernel, store, workers, warnings);
    let control = Arc::new(control.with_estate(program, predecessor.clone(), estate));
    if let Some(error) = metrics_error {
        control.metrics_fail(&error);
    }
    reconcile(&control, taken_over)?;
    control.set_policies(&state)?;
    load_geoip(&control).await;
    if inherited.detached {
        control.stay_detached();
    } else {
        control.attach();
    }

    let metrics = metrics_listener.as_ref().and_then(|l| l.local_addr().ok());
    control.listeners.inherit(inherited);
    control.declare_listeners(&state.listeners)?;
    let checks = Checks::begin(Arc::clone(&control.context));
    checks.first().await;
    wait_for_go(predecessor.clone(), control.context.router.bare()).await?;
    control.listen(&state.listeners);
    if let Some(predecessor) = &predecessor {
        if let Some((address, reason)) = control.listeners.not_taken_over() {
            return Err(StartError::Listener { address, reason });
        }
        // It stops accepting, and takes nothing back any more.
        predecessor.serving();
    }
    control.remove_left_copy();
    let tasks = TaskTracker::new();
    tasks.spawn(checks.run(control.services().clone()));
    spawn_services(&control, socket, metrics_listener, &tasks);
    if let Some(client) = mcias {
        let (control, stop) = (Arc::clone(&control), control.services().clone());
        tasks.spawn(bans::subscribe(control, client, stop));
    }
    if let Some(log) = program_log {
        tasks.spawn(forward(log, control.services().clone()));
    }
    Ok(Handle {
        control,
        metrics,
        tasks,
    })
}

fn sockmap(kernel: &mut Kernel, pool: BufferPool) -> Result<Arc<dyn Engine>, String> {
    match SockmapEngine::new(kernel, pool) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(error) => {
            // The verifier may have written megabytes.
            let mut error = mcdsl::cli::chain(&error);
            error.truncate(error.floor_char_boundary(MAX_ERROR));
            tracing::warn!(error, "no sockmap engine; its routes are copied");
            Err(error)
        }
    }
}

type ProgramLog = EbpfLogger<&'static dyn log::Log>;

/// What the programs log (aya-log), if the configuration asks for a sample of it.
fn program_log(kernel: &mut Kernel, sample: u32) -> Option<ProgramLog> {
    if sample == 0 {
        return None;
    }
    EbpfLogger::init(&mut kernel.ebpf)
        .inspect_err(|error| tracing::warn!(%error, "the programs' log cannot be read"))
        .ok()
}

/// From the kernel's ring, whose size is its bound, into tracing at debug level.
async fn forward(mut log: ProgramLog, stop: CancellationToken) {
    let mut tick = interval(PROGRAM_LOG);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        log.flush();
    }
}

/// Makes the kernel maps what the database says. After a reboot they are empty, which is no divergence.
fn reconcile(control: &Control, taken_over: bool) -> Result<(), StartError> {
    let (differences, _) = control.verify(true)?;
    if taken_over {
        for d in &differences {
            tracing::error!(map = d.map, key = d.key, kind = ?d.kind, detail = d.detail, "kernel map differed from the database; repaired");
        }
    }
    Ok(())
}

/// Before anything listens, unless an earlier daemon's table is still in force. A file that is refused does not keep
/// the daemon down: it is logged, shown in the status, and the country of everyone is then unknown.
async fn load_geoip(control: &Control) {
    let geoip = &control.geoip;
    if geoip.status().path.is_some() && geoip.status().table.is_none() {
        // Logged where it happens.
        let _ = geoip.reload_if_changed().await;
    }
}

fn spawn_services(
    control: &Arc<Control>,
    socket: tokio::net::UnixListener,
    metrics_listener: Option<tokio::net::TcpListener>,
    tasks: &TaskTracker,
) {
    let stop = control.services();
    let serving = admin::serve(socket, Arc::clone(control), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin API ended");
        }
    });
    let scraped = Arc::clone(control);
    tasks.spawn(endpoint::serve(scraped, metrics_listener, stop.clone()));
    tasks.spawn(housekeeping(Arc::clone(control), stop.clone()));
    tasks.spawn(Arc::clone(&control.geoip).watch(stop.clone()));
}

async fn housekeeping(control: Arc<Control>, stop: CancellationToken) {
    let mut tick = interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let sweeping = Arc::clone(&control);
        let swept = tokio::task::spawn_blocking(move || sweeping.keep_house());
        if swept.await.is_err() {
            tracing::error!("housekeeping failed");
        }
    }
}
