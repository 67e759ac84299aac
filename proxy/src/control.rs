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
    firewall::{CountryCounter, Desired, Firewall, FirewallError, VerdictCounter},
    geoip::{GeoIp, GeoIpStatus},
    hostname::Hostname,
    kernel::KernelError,
    listener::{ListenerState, Listeners},
    router::{LiveRoute, Miss},
    routes::RouteTableError,
    spec::{
        CountryPolicy, Difference, Listener, MapEntry, MapFill, RateLimits, Route, RouteId, Rule, RuleKind,
    },
    store::{Actor, State, Store, StoreError},
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
    geoip: Option<Arc<GeoIp>>,
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
        geoip: Option<Arc<GeoIp>>,
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

    // ---- listeners

    /// Binds a listener and keeps it.
    ///
    /// # Errors
    /// If the address is taken, refused by the system, or known already.
    pub fn add_listener(&self, listener: Listener, actor: &Actor) -> Result<ListenerState, ControlError> {
        if listener.address.port() == 0 {
            return Err(ControlError::invalid(("address".into(), "needs a port other than 0".into())));
        }
        let mut store = self.store();
        let address = listener.address;
        let stored = store.add_listener(&listener, actor)?;
        if let Err(source) = self.listeners.add(stored) {
            store.remove_listener(address, actor)?;
            return Err(ControlError::Bind { address, source });
        }
        if let Err(e) = self.guard_ports() {
            self.listeners.remove(address);
            store.remove_listener(address, actor)?;
            return Err(e);
        }
        let added = self.listeners.list().into_iter().find(|l| l.listener.address == address);
        added.ok_or_else(|| ControlError::invalid(("address".into(), "was removed meanwhile".into())))
    }

    /// Closes a listener; its connections go on.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove_listener(&self, address: SocketAddr, actor: &Actor) -> Result<(), ControlError> {
        let mut store = self.store();
        store.remove_listener(address, actor)?;
        self.listeners.remove(address);
        self.guard_ports()
    }

    fn guard_ports(&self) -> Result<(), ControlError> {
        Ok(self.firewall.set_guarded(&self.guarded_ports())?)
    }

    fn guarded_ports(&self) -> Vec<u16> {
        let listeners = self.listeners.list();
        listeners.iter().filter(|l| l.listener.guarded).map(|l| l.listener.address.port()).collect()
    }

    // ---- routes

    /// Adds or (with `replace`) replaces a route.
    ///
    /// # Errors
    /// If it cannot be, exists already, or the kernel refuses it.
    pub fn add_route(&self, route: &Route, replace: bool, actor: &Actor) -> Result<Arc<LiveRoute>, ControlError> {
        config::validate_route(route).map_err(ControlError::invalid)?;
        let mut store = self.store();
        let previous = self.context.router.get(&route.key);
        let stored = store.add_route(route, replace, actor)?;
        match self.context.router.set(stored) {
            Ok(live) => Ok(live),
            Err(e) => {
                match previous {
                    Some(previous) => drop(store.add_route(&previous.route, true, actor)?),
                    None => drop(store.remove_route(&route.key, actor)?),
                }
                Err(e.into())
            }
        }
    }

    /// Removes a route; its connections go on.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn remove_route(&self, id: &RouteId, actor: &Actor) -> Result<(), ControlError> {
        let mut store = self.store();
        let removed = store.remove_route(id, actor)?;
        if let Err(e) = self.context.router.remove(id) {
            store.add_route(&removed, false, actor)?;
            return Err(e.into());
        }
        Ok(())
    }

    /// Enables or disables a route.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn set_route_enabled(&self, id: &RouteId, enabled: bool, actor: &Actor) -> Result<Arc<LiveRoute>, ControlError> {
        let mut store = self.store();
        let stored = store.set_route_enabled(id, enabled, actor)?;
        match self.context.router.set(stored) {
            Ok(live) => Ok(live),
            Err(e) => {
                store.set_route_enabled(id, !enabled, actor)?;
                Err(e.into())
            }
        }
    }

    // ---- firewall

    /// Adds rules, all or none.
    ///
    /// # Errors
    /// If one cannot be, exists already (without `replace`), or the kernel refuses it.
    pub fn add_rules(&self, rules: &[Rule], replace: bool, actor: &Actor) -> Result<Vec<Rule>, ControlError> {
        let mut store = self.store();
        let before = store.load()?.rules;
        let stored = store.add_rules(rules, replace, actor)?;
        if let Err(e) = self.firewall.insert(&stored) {
            let keys: Vec<_> = stored.iter().map(|r| (r.kind, r.cidr)).collect();
            store.remove_rules(&keys, actor)?;
            let replaced: Vec<Rule> = before.iter().filter(|r| keys.contains(&(r.kind, r.cidr))).cloned().collect();
            store.add_rules(&replaced, true, actor)?;
            self.firewall.reconcile(&self.desired_from(&store.load()?), true)?;
            return Err(e.into());
        }
        Ok(stored)
    }

    /// Removes rules, all or none.
    ///
    /// # Errors
    /// If one is not there.
    pub fn remove_rules(&self, keys: &[(RuleKind, IpNet)], actor: &Actor) -> Result<usize, ControlError> {
        let mut store = self.store();
        let removed = store.remove_rules(keys, actor)?;
        if let Err(e) = self.firewall.remove(&removed) {
            store.add_rules(&removed, true, actor)?;
            self.firewall.reconcile(&self.desired_from(&store.load()?), true)?;
            return Err(e.into());
        }
        Ok(removed.len())
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
    pub fn expire_bans(&self) {
        let mut store = self.store();
        let result = store
            .expire_bans(SystemTime::now())
            .map_err(ControlError::from)
            .and_then(|ended| Ok(if ended.is_empty() { () } else { self.firewall.remove(&ended)? }));
        if let Err(error) = result {
            tracing::error!(%error, "cannot end bans that have run out");
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
    /// If a country is unknown or the kernel refuses.
    pub fn set_countries(&self, policy: &CountryPolicy, actor: &Actor) -> Result<(), ControlError> {
        let mut store = self.store();
        let previous = store.load()?.countries;
        store.set_countries(policy, actor)?;
        if let Err(e) = self.firewall.set_countries(policy) {
            store.set_countries(&previous, actor)?;
            return Err(e.into());
        }
        Ok(())
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
    pub fn set_rates(&self, rates: &RateLimits, actor: &Actor) -> Result<(), ControlError> {
        let mut store = self.store();
        let previous = store.load()?.rates;
        store.set_rates(rates, actor)?;
        if let Err(e) = self.firewall.set_rates(rates) {
            store.set_rates(&previous, actor)?;
            return Err(e.into());
        }
        Ok(())
    }

    // ---- kernel against database

    fn desired_from(&self, state: &State) -> Desired {
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
        let store = self.store();
        let state = store.load()?;
        if repair {
            for route in &state.routes {
                self.context.router.adopt(route.clone());
            }
        }
        let mut differences = self.context.router.table.verify(state.routes.iter(), repair)?;
        differences.extend(self.firewall.reconcile(&self.desired_from(&state), repair)?);
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

    /// The GeoIP database in force; `None` when none is configured.
    pub fn geoip_status(&self) -> Option<GeoIpStatus> {
        self.geoip.as_ref().map(|g| g.status())
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
