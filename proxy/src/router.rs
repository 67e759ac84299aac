//! From (port, hostname) to a route's live state: the kernel's table decides, the live state counts.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use mc_edge_common::route::RouteValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    hostname::Hostname,
    http::{Tls, TlsError},
    routes::{self, RouteTable, RouteTableError},
    spec::{Route, RouteId},
    stats::{BackendStats, RouteStats},
};

/// A route as the connection path sees it.
#[derive(Debug)]
pub struct LiveRoute {
    /// As declared.
    pub route: Route,
    /// Its counters.
    pub stats: Arc<RouteStats>,
    /// One per backend, in the order of `route.backends`.
    pub backends: Vec<Arc<BackendStats>>,
    /// Of an L7 route.
    pub tls: Option<Arc<Tls>>,
    /// Cancelled once it has changed or is gone: its HTTP connections drain, or clients would go on asking by what was in force.
    pub superseded: CancellationToken,
}

/// Why a hostname has no route.
#[derive(Debug)]
pub enum Miss {
    /// No entry, exact or wildcard.
    Unknown,
    /// There is one, and it is disabled.
    Disabled,
    /// The kernel's table and the live state disagree; `maps verify --repair` mends it.
    Diverged(u64),
    /// The kernel refused the look-up.
    Table(RouteTableError),
}

impl Miss {
    /// The label for counters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_sni",
            Self::Disabled => "route_disabled",
            Self::Diverged(_) => "route_diverged",
            Self::Table(_) => "route_table_error",
        }
    }
}

#[derive(Debug, Default)]
struct Live {
    by_id: HashMap<u64, Arc<LiveRoute>>,
    by_key: BTreeMap<RouteId, Arc<LiveRoute>>,
}

/// All routes.
#[derive(Debug)]
pub struct Router {
    /// The kernel's table.
    pub table: RouteTable,
    live: RwLock<Live>,
    /// Told of each change, for the one who checks the backends.
    pub(crate) changed: Notify,
}

impl Router {
    /// No live route yet: see [`Self::adopt`].
    pub fn new(table: RouteTable) -> Self {
        Self {
            table,
            live: RwLock::default(),
            changed: Notify::new(),
        }
    }

    /// The route of `name` on `port`.
    ///
    /// # Errors
    /// [`Miss`] says why there is none.
    pub fn find(&self, port: u16, name: &Hostname) -> Result<Arc<LiveRoute>, Miss> {
        let value = self.look_up(port, name)?;
        let found = self.live().resolve(&value);
        let Err(Miss::Diverged(_)) = found else {
            return found;
        };
        // A change may have come between the two look-ups. Changes hold the lock: under it, both sides are seen.
        let live = self.live();
        live.resolve(&self.look_up(port, name)?)
    }

    fn look_up(&self, port: u16, name: &Hostname) -> Result<RouteValue, Miss> {
        let value = self.table.find(port, name).map_err(Miss::Table)?;
        value.ok_or(Miss::Unknown)
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a route into kernel table and live state, with its TLS if that is loaded already. Counters of a route with the
    /// same key are kept. Its connections go on, those of HTTP to the end of their requests, or as before if nothing of it
    /// has changed.
    ///
    /// # Errors
    /// If the kernel refuses; nothing has changed then.
    pub fn set(
        &self,
        route: Route,
        tls: Option<Arc<Tls>>,
    ) -> Result<Arc<LiveRoute>, RouteTableError> {
        let tls = tls.or_else(|| self.tls(&route));
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        self.table.insert(&route)?;
        let live = all.adopt(route, tls);
        self.changed.notify_one();
        Ok(live)
    }

    /// Takes a route into the live state only, for one that [`RouteTable::verify`] puts into the kernel.
    pub fn adopt(&self, route: Route) -> Arc<LiveRoute> {
        let tls = self.tls(&route);
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let live = all.adopt(route, tls);
        self.changed.notify_one();
        live
    }

    /// Loads the TLS of a route that is to be [`Self::set`].
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load_tls(&self, route: &Route) -> Result<Option<Arc<Tls>>, TlsError> {
        let Some(l7) = &route.l7 else {
            return Ok(None);
        };
        let tls = self.known_tls(route).unwrap_or_default();
        tls.load(l7, &route.key.hostname)?;
        Ok(Some(tls))
    }

    /// A route whose settings have not changed keeps its TLS, and so its clients' sessions.
    fn known_tls(&self, route: &Route) -> Option<Arc<Tls>> {
        let known = self.get(&route.key).filter(|k| k.route.l7 == route.l7);
        known.and_then(|known| known.tls.clone())
    }

    /// The TLS of a route: known, or loaded, which takes too long for the lock of the live state. A certificate that is refused
    /// does not keep the others out: its route denies until the files are mended.
    fn tls(&self, route: &Route) -> Option<Arc<Tls>> {
        let l7 = route.l7.as_ref()?;
        let load = || {
            let tls = Arc::<Tls>::default();
            if let Err(error) = tls.load(l7, &route.key.hostname) {
                tracing::error!(
                    route = %route.key.hostname,
                    error = mcdsl::cli::chain(&error),
                    "the certificate is not in force"
                );
            }
            tls
        };
        Some(self.known_tls(route).unwrap_or_else(load))
    }

    /// Removes a route, kernel first. Its connections go on, as with [`Self::set`].
    ///
    /// # Errors
    /// If the kernel refuses; the live state is then as before.
    pub fn remove(&self, id: &RouteId) -> Result<(), RouteTableError> {
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        self.table.remove(id)?;
        if let Some(route) = all.by_key.remove(id) {
            all.by_id.remove(&route.route.id);
            route.superseded.cancel();
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Loads the files of L7 routes that have changed; what is refused is logged, once for all the routes that share it, and shown, and
    /// what was in force stays.
    pub fn reload_certificates(&self) {
        let mut refused: BTreeMap<(bool, String), Vec<String>> = BTreeMap::new();
        for live in self.all() {
            let (Some(l7), Some(tls)) = (&live.route.l7, &live.tls) else {
                continue;
            };
            let name = &live.route.key.hostname;
            match tls.reload(l7, name) {
                None => {}
                Some(Ok(())) => tracing::info!(route = %name, "certificate loaded"),
                Some(Err(error)) => {
                    let serves = tls.current().is_some();
                    let refused = refused.entry((serves, mcdsl::cli::chain(&error)));
                    refused.or_default().push(name.to_string());
                }
            }
        }
        for ((serves, error), routes) in refused {
            let route = mcdsl::human::some(&routes);
            if serves {
                tracing::warn!(
                    route,
                    error,
                    "certificate refused; the one before it stays in force"
                );
            } else {
                tracing::error!(route, error, "certificate refused; there is none");
            }
        }
    }

    /// How many L7 routes have no certificate in force.
    pub fn bare(&self) -> usize {
        let routes = self.all();
        let tls = routes.iter().filter_map(|live| live.tls.as_ref());
        tls.filter(|tls| tls.current().is_none()).count()
    }

    /// One route by its key.
    pub fn get(&self, id: &RouteId) -> Option<Arc<LiveRoute>> {
        self.live().by_key.get(id).cloned()
    }

    /// All routes in the order of their keys.
    pub fn all(&self) -> Vec<Arc<LiveRoute>> {
        self.live().by_key.values().cloned().collect()
    }
}

impl Live {
    /// The live state of an entry of the kernel's table.
    fn resolve(&self, value: &RouteValue) -> Result<Arc<LiveRoute>, Miss> {
        if value.enabled != 1 {
            return Err(Miss::Disabled);
        }
        let route = self
            .by_id
            .get(&value.route_id)
            .ok_or(Miss::Diverged(value.route_id))?;
        let same = routes::backends(value).eq(route.route.backends.iter().copied());
        same.then(|| Arc::clone(route))
            .ok_or(Miss::Diverged(value.route_id))
    }

    fn adopt(&mut self, route: Route, tls: Option<Arc<Tls>>) -> Arc<LiveRoute> {
        let previous = self.by_key.get(&route.key).cloned();
        if let Some(same) = previous.as_ref().filter(|p| p.route == route) {
            return Arc::clone(same);
        }
        let known = |address: &SocketAddr| {
            previous
                .iter()
                .flat_map(|p| &p.backends)
                .find(|b| b.address == *address)
                .cloned()
        };
        let live = Arc::new(LiveRoute {
            tls,
            backends: route
                .backends
                .iter()
                .map(|a| known(a).unwrap_or_else(|| Arc::new(BackendStats::new(*a))))
                .collect(),
            stats: previous
                .as_ref()
                .map(|p| Arc::clone(&p.stats))
                .unwrap_or_default(),
            superseded: CancellationToken::new(),
            route,
        });
        if let Some(previous) = previous {
            self.by_id.remove(&previous.route.id);
            previous.superseded.cancel();
        }
        self.by_key
            .insert(live.route.key.clone(), Arc::clone(&live));
        self.by_id.insert(live.route.id, Arc::clone(&live));
        live
    }
}
