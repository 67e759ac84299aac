//! Changes and questions of the operator. A change is: validate, commit to SQLite, put in force in the kernel,
//! answer. One at a time, under the store's lock; what the kernel refuses is taken out of SQLite again.
//!
//! All of it blocks (SQLite, syscalls): callers on the runtime go through `spawn_blocking`.

mod held;
mod interfaces;
mod maps;
mod own;
mod reload;
mod rules;
mod status;
mod upgrade;

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use crate::{
    bans::Watched,
    config::{self, Config},
    connection::Context,
    firewall::{Firewall, FirewallError},
    geoip::GeoIp,
    http::TlsError,
    kernel::{Kernel, KernelError},
    listener::{ListenerState, Listeners},
    router::LiveRoute,
    routes::RouteTableError,
    spec::{Listener, Route, RouteId},
    store::{Actor, AuditEntry, Store, StoreError, Undo},
    workers::Workers,
};

pub(crate) use own::told as own_backends;
pub use reload::Reload;
pub use rules::{Added, CountedRule};
pub use upgrade::{Estate, Upgraded};

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A field of the request cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel's route table refused; the change was undone.
    #[error(transparent)]
    Routes(#[from] RouteTableError),
    /// The kernel's firewall maps refused; the change was undone.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Loading or attaching failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The files of an L7 route cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Another daemon has the database, or is about to.
    #[error("an upgrade of the daemon is in progress; try again in a moment")]
    Suspended,
    /// Nothing comes of it before the next daemon.
    #[error(
        "the daemon drains and will end: it takes no changes of listeners and routes; try again once the next one runs"
    )]
    Draining,
    /// The database cannot be put back after an upgrade that failed.
    #[error("cannot put the database back from {path}")]
    Copy {
        /// The copy.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl ControlError {
    fn invalid((field, reason): (String, String)) -> Self {
        Self::Invalid { field, reason }
    }
}

/// The daemon's state and everything that changes it.
pub struct Control {
    /// As started.
    pub config: Config,
    /// The connection path.
    pub context: Arc<Context>,
    /// Listening sockets.
    pub listeners: Listeners,
    /// In-kernel firewall.
    pub firewall: Firewall,
    /// Country tables.
    pub geoip: Arc<GeoIp>,
    // `None` while another daemon has the database.
    store: Mutex<Option<Store>>,
    // Its programs stay loaded, and attachable, as long as it lives.
    kernel: Mutex<Kernel>,
    warnings: Mutex<Vec<String>>,
    // What is to be filtered; empty while detached.
    filtered: Mutex<Vec<interfaces::Filtered>>,
    // By the operator, and not attached since.
    detached: AtomicBool,
    life: upgrade::Life,
    reload: Mutex<Option<Reload>>,
    // Why the metrics are not served.
    metrics: Mutex<Option<String>>,
    /// How the subscription to MCIAS's bans goes, if one is configured.
    pub bans_watched: Watched,
    /// When the daemon started.
    pub started: Instant,
    /// When it read its configuration.
    pub configured: SystemTime,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Puts the parts together; nothing listens yet.
    pub fn new(
        config: Config,
        context: Arc<Context>,
        geoip: Arc<GeoIp>,
        kernel: Kernel,
        store: Store,
        workers: Workers,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            listeners: Listeners::new(Arc::clone(&context), workers, config.max_connections),
            firewall: context.firewall.clone(),
            context,
            geoip,
            store: Mutex::new(Some(store)),
            kernel: Mutex::new(kernel),
            warnings: Mutex::new(warnings),
            filtered: Mutex::default(),
            detached: AtomicBool::new(false),
            life: upgrade::Life::default(),
            reload: Mutex::default(),
            metrics: Mutex::default(),
            bans_watched: Watched::default(),
            started: Instant::now(),
            configured: SystemTime::now(),
            config,
        }
    }

    /// For changes that concern connections to come: a daemon that drains has none. What the firewall does goes on
    /// without the daemon, and so do its changes.
    fn serves(&self) -> Result<(), ControlError> {
        match self.listeners.draining() {
            Some(_) => Err(ControlError::Draining),
            None => Ok(()),
        }
    }

    /// Takes a change out of SQLite again that the kernel refused, and says why it failed.
    fn undo(
        store: &mut Store,
        by: &Actor,
        undo: &Undo,
        error: impl Into<ControlError>,
    ) -> ControlError {
        let error = error.into();
        if let Err(second) = store.undo(by, undo, &mcdsl::cli::chain(&error)) {
            tracing::error!(
                error = mcdsl::cli::chain(&second),
                "a refused change could not be undone; run `mcproxyctl maps verify`"
            );
        }
        error
    }

    // ---- listeners

    /// Binds a listener and keeps it.
    ///
    /// # Errors
    /// If the address is taken, refused by the system, or known already.
    pub fn add_listener(
        &self,
        by: &Actor,
        listener: &Listener,
    ) -> Result<ListenerState, ControlError> {
        config::validate_listener(listener).map_err(ControlError::invalid)?;
        self.serves()?;
        let mut store = self.store()?;
        let address = listener.address;
        own::check_listener(address, &self.context.router.all())?;
        let done = store.add_listener(by, listener)?;
        self.listeners.declare(done.value.clone());
        let bind = || {
            let refused = |source| ControlError::Bind { address, source };
            self.listeners.bind(address).map_err(refused)
        };
        if let Err(e) = self.guard_ports().and_then(|()| bind()) {
            self.listeners.remove(address);
            let error = Self::undo(&mut store, by, &done.undo, e);
            self.guard_ports()?;
            return Err(error);
        }
        Ok(ListenerState {
            listener: done.value,
            active: 0,
            error: None,
            draining: false,
        })
    }

    /// Closes a listener; its connections go on. Returns how many routes have none now.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove_listener(&self, by: &Actor, address: SocketAddr) -> Result<usize, ControlError> {
        self.serves()?;
        let mut store = self.store()?;
        // The socket closes whatever becomes of the guard: a guarded port without a listener does no harm.
        let _removed = store.remove_listener(by, address)?;
        self.listeners.remove(address);
        self.guard_ports()?;
        Ok(self.unserved(address.port()))
    }

    /// Declares what the database holds and guards its ports.
    ///
    /// # Errors
    /// If the kernel refuses the guard.
    pub fn declare_listeners(&self, listeners: &[Listener]) -> Result<(), ControlError> {
        for listener in listeners {
            self.listeners.declare(listener.clone());
        }
        self.guard_ports()
    }

    /// Listens on what was declared. One address that cannot be bound must not keep the others down: it is logged, shown in
    /// the list and tried again.
    pub fn listen(&self, listeners: &[Listener]) {
        self.listeners.close_undeclared();
        for listener in listeners {
            if let Err(error) = self.listeners.bind(listener.address) {
                tracing::error!(address = %listener.address, %error, "cannot listen; retrying");
            }
        }
    }

    /// Tells the firewall which ports have listeners.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn guard_ports(&self) -> Result<(), ControlError> {
        Ok(self
            .firewall
            .set_guarded(&self.guarded_ports(false), &self.guarded_ports(true))?)
    }

    /// Ports of guarded listeners whose clients a proxy stands for, or of those where none does.
    fn guarded_ports(&self, behind_proxy: bool) -> Vec<u16> {
        let listeners = self.listeners.list();
        let mut ports: Vec<u16> = listeners
            .iter()
            .filter(|l| l.listener.guarded && l.listener.trusted_proxies.is_empty() != behind_proxy)
            .map(|l| l.listener.address.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    // ---- routes

    /// Adds or (with `replace`) replaces a route.
    ///
    /// # Errors
    /// If it cannot be, exists already, or the kernel refuses it.
    pub fn add_route(
        &self,
        by: &Actor,
        route: &Route,
        replace: bool,
    ) -> Result<Arc<LiveRoute>, ControlError> {
        config::validate_route(route).map_err(ControlError::invalid)?;
        self.serves()?;
        let router = &self.context.router;
        let tls = router.load_tls(route)?;
        let mut store = self.store()?;
        let listeners = self.listeners.list().into_iter();
        let listeners: Vec<_> = listeners.map(|l| l.listener.address).collect();
        own::check_route(route, &listeners)?;
        let done = store.add_route(by, route, replace)?;
        router
            .set(done.value, tls)
            .map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// Removes a route; its L4 connections go on, those of HTTP to the end of what is under way.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn remove_route(&self, by: &Actor, id: &RouteId) -> Result<(), ControlError> {
        self.serves()?;
        let mut store = self.store()?;
        let done = store.remove_route(by, id)?;
        self.context
            .router
            .remove(id)
            .map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// Enables or disables a route.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn set_route_enabled(
        &self,
        by: &Actor,
        id: &RouteId,
        enabled: bool,
    ) -> Result<Arc<LiveRoute>, ControlError> {
        self.serves()?;
        let mut store = self.store()?;
        let done = store.set_route_enabled(by, id, enabled)?;
        self.context
            .router
            .set(done.value, None)
            .map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// The latest changes, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, ControlError> {
        Ok(self.store()?.audit_log(limit)?)
    }
}
