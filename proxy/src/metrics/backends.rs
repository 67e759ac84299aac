//! Backends: what was sent to them, and whether they live.

use std::{fmt, sync::atomic::Ordering::Relaxed};

use prometheus_client::encoding::DescriptorEncoder;

use super::{Keyed, add, counter, gauge, labels, set};
use crate::{
    health::{self, state::Standing},
    router::LiveRoute,
};

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, routes: &[Keyed<'_>]) -> fmt::Result {
    let addresses: Vec<Vec<String>> = routes
        .iter()
        .map(|(r, _)| r.backends.iter().map(|b| b.address.to_string()).collect())
        .collect();
    let backends = || {
        let routes = routes.iter().zip(&addresses);
        routes.flat_map(|((route, key), addresses)| {
            let backends = route.backends.iter().zip(addresses);
            backends.map(move |(backend, address)| {
                let mut labels = labels(key);
                labels.push(("backend", address));
                (route, backend, labels)
            })
        })
    };
    let mut m = counter(
        encoder,
        "backend_connections",
        "Connections made to a backend",
    )?;
    for (_, backend, labels) in backends() {
        add(&mut m, &labels, backend.connections.load(Relaxed))?;
    }
    let mut m = counter(
        encoder,
        "backend_connect_failures",
        "Attempts at a backend that failed",
    )?;
    for (_, backend, labels) in backends() {
        add(&mut m, &labels, backend.failures.load(Relaxed))?;
    }
    let mut m = gauge(
        encoder,
        "backend_up",
        "0 = the backend is down or ejected, see `mcproxyctl backend list`",
    )?;
    for (route, backend, labels) in backends() {
        let standing = backend.health.standing(health::now, route.slow_start());
        let up = matches!(standing, Standing::Share(_));
        set(&mut m, &labels, u64::from(up))?;
    }
    let mut m = counter(
        encoder,
        "backend_ejections",
        "Times that a backend was ejected for failed requests",
    )?;
    for (_, backend, labels) in backends() {
        add(&mut m, &labels, backend.health.ejections.load(Relaxed))?;
    }
    let mut m = counter(
        encoder,
        "backend_health_checks",
        "Health checks of a backend",
    )?;
    let checked = |route: &LiveRoute| {
        route
            .route
            .l7
            .as_ref()
            .is_some_and(|l7| l7.health.is_some())
    };
    for (_, backend, labels) in backends().filter(|(route, ..)| checked(route)) {
        let health = &backend.health;
        for (result, count) in [("passed", &health.passed), ("failed", &health.failed)] {
            let mut labels = labels.clone();
            labels.push(("result", result));
            add(&mut m, &labels, count.load(Relaxed))?;
        }
    }
    Ok(())
}
