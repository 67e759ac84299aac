//! Changes and questions of the operator. A change is: validate, commit to SQLite, put in force in the kernel,
//! answer. One at a time, under the store's lock; what the kernel refuses is taken out of SQLite again.
//!
//! All of it blocks (SQLite, syscalls): callers on the runtime go through `spawn_blocking`.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use ipnet::IpNet;

use crate::{
    config::{self, Config},
    connection::Context,
    firewall::{CountryCounter, Desired, Firewall, FirewallError, InterfaceStatus, VerdictCounter},
    geoip::GeoIp,
    hostname::Hostname,
    kernel::KernelError,
    listener::{ListenerState, Listeners},
    router::{LiveRoute, Miss},
    routes::RouteTableError,
    spec::{
        CountryPolicy, Difference, Listener, MapEntry, MapFill, RateLimits, Route, RouteId, Rule, RuleKind,
    },
    store::{Actor, AuditEntry, State, Store, StoreError, Undo},
};

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
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
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

/// A rule and its counters.
#[derive(Clone, Debug)]
pub struct CountedRule {
    /// The rule.
    pub rule: Rule,
    /// Packets that it decided or observed.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
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
    pub firewall: Arc<Firewall>,
    /// Country tables.
    pub geoip: Arc<GeoIp>,
    store: Mutex<Store>,
    warnings: Mutex<Vec<String>>,
    /// When the daemon started.
    pub started: Instant,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Control {
    /// Puts the parts together; nothing listens yet.
    pub fn new(
        config: Config,
        context: Arc<Context>,
        geoip: Arc<GeoIp>,
        store: Store,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            listeners: Listeners::new(Arc::clone(&context), config.max_connections),
            firewall: Arc::clone(&context.firewall),
            context,
            geoip,
            store: Mutex::new(store),
            warnings: Mutex::new(warnings),
            started: Instant::now(),
            config,
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Things that an operator should look at.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a change out of SQLite again that the kernel refused, and says why it failed.
    fn undo(store: &mut Store, by: &Actor, undo: &Undo, error: impl Into<ControlError>) -> ControlError {
        let error = error.into();
        if let Err(second) = store.undo(by, undo, &mcdsl::cli::chain(&error)) {
            tracing::error!(error = mcdsl::cli::chain(&second), "a refused change could not be undone; run `mcproxyctl maps verify`");
        }
        error
    }

    // ---- listeners

    /// Binds a listener and keeps it.
    ///
    /// # Errors
    /// If the address is taken, refused by the system, or known already.
    pub fn add_listener(&self, by: &Actor, listener: &Listener) -> Result<ListenerState, ControlError> {
        if listener.address.port() == 0 {
            return Err(ControlError::invalid(("address".into(), "needs a port other than 0".into())));
        }
        let mut store = self.store();
        let address = listener.address;
        let done = store.add_listener(by, listener)?;
        if let Err(source) = self.listeners.add(done.value.clone()) {
            return Err(Self::undo(&mut store, by, &done.undo, ControlError::Bind { address, source }));
        }
        if let Err(e) = self.guard_ports() {
            self.listeners.remove(address);
            return Err(Self::undo(&mut store, by, &done.undo, e));
        }
        Ok(ListenerState { listener: done.value, active: 0, error: None })
    }

    /// Closes a listener; its connections go on.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove_listener(&self, by: &Actor, address: SocketAddr) -> Result<(), ControlError> {
        let mut store = self.store();
        let _removed = store.remove_listener(by, address)?;
        self.listeners.remove(address);
        self.guard_ports()
    }

    /// Tells the firewall which ports have listeners.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn guard_ports(&self) -> Result<(), ControlError> {
        Ok(self.firewall.set_guarded(&self.guarded_ports())?)
    }

    fn guarded_ports(&self) -> Vec<u16> {
        let listeners = self.listeners.list();
        let mut ports: Vec<u16> =
            listeners.iter().filter(|l| l.listener.guarded).map(|l| l.listener.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    // ---- routes

    /// Adds or (with `replace`) replaces a route.
    ///
    /// # Errors
    /// If it cannot be, exists already, or the kernel refuses it.
    pub fn add_route(&self, by: &Actor, route: &Route, replace: bool) -> Result<Arc<LiveRoute>, ControlError> {
        config::validate_route(route).map_err(ControlError::invalid)?;
        let mut store = self.store();
        let done = store.add_route(by, route, replace)?;
        self.context.router.set(done.value).map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// Removes a route; its connections go on.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn remove_route(&self, by: &Actor, id: &RouteId) -> Result<(), ControlError> {
        let mut store = self.store();
        let done = store.remove_route(by, id)?;
        self.context.router.remove(id).map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// Enables or disables a route.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn set_route_enabled(&self, by: &Actor, id: &RouteId, enabled: bool) -> Result<Arc<LiveRoute>, ControlError> {
        let mut store = self.store();
        let done = store.set_route_enabled(by, id, enabled)?;
        self.context.router.set(done.value).map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    // ---- firewall

    /// Adds rules, all or none.
    ///
    /// # Errors
    /// If one cannot be, exists already (without `replace`), or the kernel refuses it.
    pub fn add_rules(&self, by: &Actor, rules: &[Rule], replace: bool) -> Result<Vec<Rule>, ControlError> {
        let mut store = self.store();
        let done = store.add_rules(by, rules, replace)?;
        if let Err(e) = self.firewall.insert(&done.value) {
            let error = Self::undo(&mut store, by, &done.undo, e);
            self.restore_maps(&mut store);
            return Err(error);
        }
        Ok(done.value)
    }

    /// Removes rules, all or none.
    ///
    /// # Errors
    /// If one is not there.
    pub fn remove_rules(&self, by: &Actor, keys: &[(RuleKind, IpNet)]) -> Result<usize, ControlError> {
        let mut store = self.store();
        let done = store.remove_rules(by, keys)?;
        if let Err(e) = self.firewall.remove(&done.value) {
            let error = Self::undo(&mut store, by, &done.undo, e);
            self.restore_maps(&mut store);
            return Err(error);
        }
        Ok(done.value.len())
    }

    /// After a batch that the kernel took half of.
    fn restore_maps(&self, store: &mut Store) {
        let restored = store
            .load()
            .map_err(ControlError::from)
            .and_then(|state| Ok(self.firewall.reconcile(&self.desired(&state), true)?));
        if let Err(error) = restored {
            tracing::error!(error = mcdsl::cli::chain(&error), "the firewall maps could not be restored");
        }
    }

    /// All rules with their counters.
    pub fn rules_with_counters(&self) -> Vec<CountedRule> {
        let rules = match self.store().load() {
            Ok(state) => state.rules,
            Err(error) => {
                tracing::error!(%error, "cannot read the rules");
                Vec::new()
            }
        };
        let ids: Vec<u32> = rules.iter().map(|r| r.id).collect();
        let counters: HashMap<u32, (u64, u64)> = match self.firewall.rule_counters(&ids) {
            Ok(counters) => counters.into_iter().map(|c| (c.id, (c.packets, c.bytes))).collect(),
            Err(error) => {
                tracing::error!(%error, "cannot read the rule counters");
                HashMap::new()
            }
        };
        rules
            .into_iter()
            .map(|rule| {
                let (packets, bytes) = counters.get(&rule.id).copied().unwrap_or_default();
                CountedRule { rule, packets, bytes }
            })
            .collect()
    }

    /// Ends bans that have run out.
    pub fn expire_bans(&self, now: SystemTime) {
        let mut store = self.store();
        let swept = store
            .expire_bans(now)
            .map_err(ControlError::from)
            .and_then(|ended| Ok(self.firewall.remove(&ended)?));
        if let Err(error) = swept {
            tracing::error!(error = mcdsl::cli::chain(&error), "cannot end bans that have run out");
        }
    }

    /// The country policy in force.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn countries(&self) -> Result<CountryPolicy, ControlError> {
        Ok(self.store().load()?.countries)
    }

    /// Replaces the country policy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_countries(&self, by: &Actor, policy: &CountryPolicy) -> Result<(), ControlError> {
        let mut store = self.store();
        let done = store.set_countries(by, policy)?;
        self.firewall.set_countries(policy).map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    /// The rate limits in force.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn rates(&self) -> Result<RateLimits, ControlError> {
        Ok(self.store().load()?.rates)
    }

    /// Replaces the rate limits.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_rates(&self, by: &Actor, rates: &RateLimits) -> Result<(), ControlError> {
        let mut store = self.store();
        let done = store.set_rates(by, rates)?;
        self.firewall.set_rates(rates).map_err(|e| Self::undo(&mut store, by, &done.undo, e))
    }

    // ---- kernel against database

    fn desired(&self, state: &State) -> Desired {
        Desired {
            rules: state.rules.clone(),
            countries: state.countries.clone(),
            rates: state.rates,
            guarded: self.guarded_ports(),
            unparsed: self.config.unparsed,
            log_sample: self.config.log_sample,
        }
    }

    /// Compares the kernel maps with the database; with `repair`, rewrites them. Returns the differences and how
    /// many entries were compared.
    ///
    /// # Errors
    /// If database or kernel cannot be read or written.
    pub fn verify(&self, repair: bool) -> Result<(Vec<Difference>, u64), ControlError> {
        let mut store = self.store();
        let state = store.load()?;
        if repair {
            for route in &state.routes {
                self.context.router.adopt(route.clone());
            }
        }
        let mut differences = self.context.router.table.verify(state.routes.iter(), repair)?;
        differences.extend(self.firewall.reconcile(&self.desired(&state), repair)?);
        Ok((differences, (state.routes.len() + state.rules.len()) as u64))
    }

    /// Entries of the kernel maps, or of one.
    ///
    /// # Errors
    /// If there is no such map or it cannot be read.
    pub fn dump(&self, map: &str) -> Result<Vec<MapEntry>, ControlError> {
        let mut entries = Vec::new();
        if map.is_empty() || map == crate::routes::MAP {
            entries.extend(self.context.router.table.dump()?);
        }
        if map != crate::routes::MAP {
            entries.extend(self.firewall.dump(map)?);
        }
        Ok(entries)
    }

    /// How full the kernel maps are.
    pub fn map_fills(&self) -> Vec<MapFill> {
        let mut fills = Vec::new();
        match self.context.router.table.fill() {
            Ok(fill) => fills.push(fill),
            Err(error) => tracing::error!(%error, "cannot read the route table's fill level"),
        }
        match self.firewall.map_fill() {
            Ok(more) => fills.extend(more),
            Err(error) => tracing::error!(%error, "cannot read the firewall maps' fill level"),
        }
        fills
    }

    /// Packets by verdict and reason.
    pub fn verdict_counters(&self) -> Vec<VerdictCounter> {
        self.firewall.verdict_counters().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the verdict counters");
            Vec::new()
        })
    }

    /// New connections by country.
    pub fn country_counters(&self) -> Vec<CountryCounter> {
        self.firewall.country_counters().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the country counters");
            Vec::new()
        })
    }

    /// The latest changes, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, ControlError> {
        Ok(self.store().audit_log(limit)?)
    }

    /// Interfaces and how the firewall is attached to them.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.firewall.interfaces(&self.config.interfaces)
    }

    /// Attaches the firewall to the configured interfaces. One that fails does not keep the daemon down: it is logged
    /// and shown in the status, and the others filter.
    pub fn attach(&self) {
        for interface in &self.config.interfaces {
            match self.firewall.attach(interface) {
                Ok(status) if status.mode == "native" => tracing::info!(interface, "firewall attached"),
                Ok(status) => tracing::warn!(interface, mode = status.mode, detail = status.detail, "firewall attached"),
                Err(error) => tracing::error!(
                    interface,
                    error = mcdsl::cli::chain(&error),
                    "the firewall is not attached: this interface is unfiltered"
                ),
            }
        }
    }

    /// Takes the firewall off every interface and unpins it.
    ///
    /// # Errors
    /// If a link or pin cannot be removed.
    pub fn detach(&self, by: &Actor) -> Result<Vec<String>, ControlError> {
        let interfaces = self.firewall.detach(&self.config.pin_path)?;
        self.store().audit(by, "detach", &interfaces.join(" "), "ok")?;
        Ok(interfaces)
    }

    /// SIGHUP: looks at files again that are read at start.
    pub fn reload(&self) {
        self.listeners.retry();
    }

    /// The route that a hostname takes on a port, by the live kernel table.
    ///
    /// # Errors
    /// [`Miss`].
    pub fn find_route(&self, port: u16, name: &Hostname) -> Result<Arc<LiveRoute>, Miss> {
        self.context.router.find(port, name)
    }

    /// What the firewall would do with a new connection.
    ///
    /// # Errors
    /// If the kernel maps cannot be read.
    pub fn explain(&self, address: IpAddr, port: u16) -> Result<crate::firewall::Trace, ControlError> {
        Ok(self.firewall.explain(address, port)?)
    }
}
