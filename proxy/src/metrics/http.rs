//! Requests and certificates of L7 routes.

use std::{
    fmt,
    sync::atomic::Ordering::Relaxed,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::encoding::DescriptorEncoder;

use super::{Keyed, add, counter, gauge, histogram, labels, set};

/// By the first digit of the status; first those that ended without one.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, routes: &[Keyed<'_>]) -> fmt::Result {
    let routes: Vec<Keyed<'_>> = routes
        .iter()
        .filter(|(route, _)| route.tls.is_some())
        .copied()
        .collect();
    let mut m = counter(encoder, "requests", "Requests ended, by class of status")?;
    for (route, key) in &routes {
        for (class, count) in CLASSES.iter().zip(&route.stats.http.classes) {
            let mut labels = labels(key);
            labels.push(("class", class));
            add(&mut m, &labels, count.load(Relaxed))?;
        }
    }
    let mut m = counter(
        encoder,
        "retries",
        "Requests that a backend may have seen and that were to be sent again: made, or denied for want of budget",
    )?;
    for (route, key) in &routes {
        let http = &route.stats.http;
        for (result, count) in [("made", &http.retries), ("denied", &http.retries_denied)] {
            let mut labels = labels(key);
            labels.push(("result", result));
            add(&mut m, &labels, count.load(Relaxed))?;
        }
    }
    histogram(
        encoder,
        "tls_handshake_seconds",
        "ClientHello to the end of TLS's handshake",
        &routes,
        |route| &route.stats.http.handshake,
    )?;
    histogram(
        encoder,
        "response_seconds",
        "Request to the headers of its response",
        &routes,
        |route| &route.stats.http.response,
    )?;
    let mut m = gauge(
        encoder,
        "certificate_not_after_seconds",
        "End of the certificate in force, Unix time; 0 = none is in force",
    )?;
    for (route, key) in &routes {
        let current = route.tls.as_ref().and_then(|tls| tls.current());
        let end = current.map_or(UNIX_EPOCH, |current| current.not_after());
        set(&mut m, &labels(key), unix(end))?;
    }
    let mut m = gauge(
        encoder,
        "certificate_load_failed",
        "1 = the files of the certificate were refused, what was in force before still is",
    )?;
    for (route, key) in &routes {
        let failed = route.tls.as_ref().is_some_and(|tls| tls.error().is_some());
        set(&mut m, &labels(key), u64::from(failed))?;
    }
    Ok(())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
