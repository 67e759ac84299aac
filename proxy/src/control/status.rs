//! What an operator should look at, and how the last load of everything that is loaded again went.

use std::{
    error::Error,
    os::fd::OwnedFd,
    sync::{Arc, MutexGuard, PoisonError},
    time::SystemTime,
};

use mcdsl::{
    certificate::ENDS_SOON, config::MAX_FILE, files::read_regular, human, server::little_left,
};

use super::Control;
use crate::{
    health::{self, state::Standing},
    kernel::LinkMode,
    listener::ListenerState,
    router::LiveRoute,
    spec::{EngineKind, RouteId},
    stats::BackendStats,
};

impl Control {
    /// Things that an operator should look at.
    pub fn warnings(&self) -> Vec<String> {
        let noted = self.warnings.lock();
        let mut warnings = noted.unwrap_or_else(PoisonError::into_inner).clone();
        match self.store() {
            Err(_) => {
                warnings.push("another daemon has the database: changes are refused".to_owned());
            }
            Ok(store) => warnings.extend(store.in_place().err().map(|e| mcdsl::cli::chain(&e))),
        }
        warnings.extend(little_left(&self.config.database));
        if self.listeners.full() {
            let most = self.config.max_connections;
            warnings.push(format!(
                "all {most} connections of server.max_connections are open: new ones wait"
            ));
        }
        warnings.extend(self.config_changed());
        warnings.extend(self.not_listening());
        warnings.extend(self.metrics().clone());
        warnings.extend(self.without_listener());
        warnings.extend(self.copied());
        warnings.extend(self.unfiltered());
        warnings.extend(self.without_backend());
        let geoip = self.geoip.status();
        if let Some(error) = geoip.error {
            let instead = match geoip.table {
                Some(_) => "the table before it stays in force",
                None => "the country of every address is unknown",
            };
            warnings.push(format!("GeoIP: {error}; {instead}"));
        } else if geoip.table.is_none() && self.judges_countries() {
            warnings.push(
                "rules for countries are set, and without a GeoIP database (`[geoip]`) the country of every address is unknown"
                    .to_owned(),
            );
        }
        let now = SystemTime::now();
        let routes = self.context.router.all();
        warnings.extend(routes.iter().filter_map(|route| certificate(route, now)));
        warnings
    }

    /// The metrics' address cannot be listened on; it is tried again. Logged where the reason is another than before.
    pub(crate) fn metrics_fail(&self, error: &dyn Error) {
        let error = mcdsl::cli::chain(error);
        let told = format!("no metrics: {error}; trying again");
        let mut before = self.metrics();
        if before.as_ref() != Some(&told) {
            tracing::warn!(error, "no metrics; trying again");
            *before = Some(told);
        }
    }

    /// Their address is listened on: `socket` is for the daemon that takes over.
    pub(crate) fn metrics_listen(&self, socket: OwnedFd) {
        *self.metrics() = None;
        self.hold(socket);
    }

    fn metrics(&self) -> MutexGuard<'_, Option<String>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That the configuration file is no longer what was read.
    pub(super) fn config_changed(&self) -> Option<String> {
        // Not by its time: what deploys it may write the same again.
        let now = read_regular(&self.config.file, MAX_FILE).ok();
        (now != self.config.contents).then(|| {
            let file = self.config.file.display();
            format!("{file} has changed since it was read; `mcproxyctl upgrade` applies it")
        })
    }

    /// The listeners that cannot listen, and why.
    pub(super) fn not_listening(&self) -> Vec<String> {
        let listeners = self.listeners.list();
        let failed = listeners.iter().filter(|l| !l.draining).filter_map(|l| {
            let error = l.error.as_ref()?;
            Some(format!("listener {}: {error}", l.listener.address))
        });
        failed.collect()
    }

    /// The ports of routes that nobody can come by.
    fn without_listener(&self) -> Vec<String> {
        let routes = self.context.router.all();
        let mut ports: Vec<u16> = routes.iter().map(|r| r.route.key.port).collect();
        ports.dedup();
        let told = ports.into_iter().filter_map(|port| {
            let routes = match self.unserved(port) {
                0 => return None,
                1 => "1 route has".to_owned(),
                n => format!("{n} routes have"),
            };
            let redirect = self.listeners.list().iter().any(|l| l.listener.address.port() == port);
            let first = match redirect {
                true => "remove the redirect there, then ",
                false => "",
            };
            Some(format!(
                "{routes} no listener on port {port}; {first}`mcproxyctl listener add 0.0.0.0:{port}`"
            ))
        });
        told.collect()
    }

    /// The routes that ask for redirects in the kernel and are copied, since there are none.
    fn copied(&self) -> Option<String> {
        let engines = &self.context.engines;
        let why = engines.sockmap.as_ref().err()?;
        // The verifier's log follows, in lines.
        let why = why.lines().next().unwrap_or_default();
        let asks = |route: &Arc<LiveRoute>| {
            route.route.l7.is_none() && engines.asked(route) == EngineKind::Sockmap
        };
        let routes = self.context.router.all();
        let asking = routes.iter().filter(|route| asks(route));
        let asking: Vec<_> = asking.map(|r| r.route.key.hostname.to_string()).collect();
        (!asking.is_empty()).then(|| {
            let routes = human::some(&asking);
            format!("no sockmap engine ({why}): what asks for it is copied: {routes}")
        })
    }

    /// The routes that can answer nothing, since all of their backends are down. Those that are passed over are used where there is no other.
    fn without_backend(&self) -> Vec<String> {
        let routes = self.context.router.all();
        let dead = routes.iter().filter(|route| {
            let lives = |backend: &Arc<BackendStats>| {
                let standing = backend.health.standing(health::now, route.slow_start());
                standing != Standing::Down
            };
            route.route.enabled && !route.backends.iter().any(lives)
        });
        dead.map(|route| {
            let RouteId { hostname, port } = &route.route.key;
            let count = route.backends.len();
            let whose = if count == 1 { "its backend is" } else { "all its backends are" };
            format!("route {hostname} on port {port}: {whose} down; `mcproxyctl backend list {hostname}` says why")
        })
        .collect()
    }

    /// Whether anybody is let in or kept away by country.
    fn judges_countries(&self) -> bool {
        let policy = self.countries();
        policy.is_ok_and(|policy| policy.others.is_some() || !policy.listed.is_empty())
    }

    /// How many routes of a port have no listener that asks for a name.
    pub fn unserved(&self, port: u16) -> usize {
        let listeners = self.listeners.list();
        let serves =
            |l: &ListenerState| l.listener.address.port() == port && l.listener.redirect.is_none();
        if listeners.iter().any(serves) {
            return 0;
        }
        let routes = self.context.router.all();
        routes.iter().filter(|r| r.route.key.port == port).count()
    }

    /// The interfaces that are not filtered, and why.
    pub(super) fn unfiltered(&self) -> Vec<String> {
        match self.interfaces() {
            Ok(links) => links
                .into_iter()
                .filter(|link| link.mode == LinkMode::Detached)
                .map(|link| format!("interface {}: {}", link.interface, link.detail))
                .collect(),
            Err(error) => vec![mcdsl::cli::chain(&error)],
        }
    }
}

/// What is wrong with a route's certificate.
fn certificate(route: &LiveRoute, now: SystemTime) -> Option<String> {
    let tls = route.tls.as_ref()?;
    let key = &route.route.key;
    let of = format!("certificate of {} on port {}", key.hostname, key.port);
    if let Some(error) = tls.error() {
        return Some(format!("{of}: {error}"));
    }
    let end = tls.current()?.not_after();
    match end.duration_since(now) {
        Ok(left) if left > ENDS_SOON => None,
        Ok(left) => Some(format!("{of} ends in {}", human::duration_short(left))),
        Err(_) => Some(format!("{of} has expired")),
    }
}
