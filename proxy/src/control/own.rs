//! Backends that are the daemon's own listeners: what such a route sends out comes in again, until no connection is left.
//!
//! Asked when routes and listeners are added, by the addresses that this network namespace has then, and told of what is stored at the
//! start. Rejected: looking at every connection to a backend, for what comes about later (an address that moves here) is bounded by
//! the share of one source.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nix::ifaddrs::getifaddrs;

use super::ControlError;
use crate::{
    router::LiveRoute,
    spec::{Listener, Route},
};

/// The addresses of this machine, as far as it tells.
fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let of = |storage: nix::sys::socket::SockaddrStorage| {
        let four = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        four.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    interfaces
        .filter_map(|interface| of(interface.address?))
        .collect()
}

/// Whether a connection to `backend` is one to `listener`.
fn is(backend: SocketAddr, listener: SocketAddr, local: &[IpAddr]) -> bool {
    let (ip, listens) = (backend.ip().to_canonical(), listener.ip());
    let here = || ip.is_loopback() || local.contains(&ip);
    backend.port() == listener.port()
        && (ip == listens
            || (listens.is_unspecified() && ip.is_ipv4() == listens.is_ipv4() && here()))
}

/// The first pair of a route's backend and a listener that it is.
fn own(
    route: &Route,
    listeners: &[SocketAddr],
    local: &[IpAddr],
) -> Option<(SocketAddr, SocketAddr)> {
    listeners.iter().find_map(|&listener| {
        let mut backends = route.backends.iter();
        let backend = backends.find(|backend| is(**backend, listener, local))?;
        Some((*backend, listener))
    })
}

/// Refuses a route to one of the listeners.
pub(super) fn check_route(route: &Route, listeners: &[SocketAddr]) -> Result<(), ControlError> {
    match own(route, listeners, &addresses()) {
        None => Ok(()),
        Some((backend, listener)) => Err(ControlError::invalid((
            "backends".into(),
            format!(
                "{backend} is this daemon's own listener {listener}: connections would come back for ever; name the service itself"
            ),
        ))),
    }
}

/// Refuses a listener that is a backend.
pub(super) fn check_listener(
    listener: SocketAddr,
    routes: &[Arc<LiveRoute>],
) -> Result<(), ControlError> {
    let local = addresses();
    let back = |live: &&Arc<LiveRoute>| own(&live.route, &[listener], &local).is_some();
    match routes.iter().find(back).map(|live| &live.route) {
        None => Ok(()),
        Some(route) => Err(ControlError::invalid((
            "address".into(),
            format!(
                "{listener} is a backend of the route {} on port {}, whose connections would come back for ever; change that first",
                route.key.hostname, route.key.port
            ),
        ))),
    }
}

/// A sentence for each stored route to a listener of the daemon.
pub(crate) fn told(routes: &[Route], listeners: &[Listener]) -> Vec<String> {
    let local = addresses();
    let listeners: Vec<_> = listeners.iter().map(|l| l.address).collect();
    let told = routes.iter().filter_map(|route| {
        let (backend, listener) = own(route, &listeners, &local)?;
        let key = &route.key;
        Some(format!(
            "route {} port {}: its backend {backend} is the own listener {listener}, and its connections come back; change or remove it",
            key.hostname, key.port
        ))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_every_address_of_the_machine_and_no_other() {
        let local = ["10.9.1.1", "fd09:1::1"].map(|a| a.parse().unwrap());
        for (backend, listener, own) in [
            ("10.9.1.1:443", "0.0.0.0:443", true),
            ("10.9.1.1:443", "10.9.1.1:443", true),
            ("127.0.0.7:443", "0.0.0.0:443", true),
            ("[::ffff:10.9.1.1]:443", "0.0.0.0:443", true),
            ("[fd09:1::1]:443", "[::]:443", true),
            ("[::1]:443", "[::]:443", true),
            ("192.0.2.1:443", "192.0.2.1:443", true),
            ("10.9.1.1:8443", "0.0.0.0:443", false),
            ("10.9.1.2:443", "0.0.0.0:443", false),
            ("127.0.0.2:443", "127.0.0.1:443", false),
            ("10.9.1.1:443", "[::]:443", false),
            ("[::1]:443", "0.0.0.0:443", false),
        ] {
            let is = is(backend.parse().unwrap(), listener.parse().unwrap(), &local);
            assert_eq!(is, own, "{backend} {listener}");
        }
    }
}
