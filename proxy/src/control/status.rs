//! What an operator should look at, and how the last load of everything that is loaded again went.

use std::{
    fs,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use mcdsl::human;

use super::Control;
use crate::{kernel::LinkMode, listener::ListenerState, router::LiveRoute};

/// A certificate that ends within this time should have been renewed: platforms renew at two thirds of its life, of weeks or
/// months.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

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
        if self.listeners.full() {
            let most = self.config.max_connections;
            warnings.push(format!(
                "all {most} connections of server.max_connections are open: new ones wait"
            ));
        }
        warnings.extend(self.config_changed());
        warnings.extend(self.not_listening());
        warnings.extend(self.without_listener());
        warnings.extend(self.unfiltered());
        let geoip = self.geoip.status();
        if let Some(error) = geoip.error {
            let instead = match geoip.table {
                Some(_) => "the table before it stays in force",
                None => "the country of every address is unknown",
            };
            warnings.push(format!("GeoIP: {error}; {instead}"));
        }
        let now = SystemTime::now();
        let routes = self.context.router.all();
        warnings.extend(routes.iter().filter_map(|route| certificate(route, now)));
        warnings
    }

    /// That the configuration file is no longer what was read.
    pub(super) fn config_changed(&self) -> Option<String> {
        // Not by its time: what deploys it may write the same again.
        let now = fs::read(&self.config.file).ok();
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
            Some(format!(
                "{routes} no listener on port {port}; `mcproxyctl listener add 0.0.0.0:{port}`"
            ))
        });
        told.collect()
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
