//! What Prometheus scrapes.

use std::sync::{Arc, PoisonError, Weak};

use prometheus_client::{encoding::text::encode, metrics::gauge::Gauge, registry::Registry};

use crate::core::Mcias;

/// The metrics: what is in force now, and what costs most. What happened is in the audit log.
pub(crate) struct Metrics {
    mcias: Weak<Mcias>,
    registry: Registry,
    revocations: Gauge,
    bans: Gauge,
    watchers: Gauge,
    ban_watchers: Gauge,
    keys: Gauge,
    sources: Gauge,
}

impl Metrics {
    pub(crate) fn new(mcias: &Arc<Mcias>) -> Self {
        let mut registry = Registry::with_prefix("mcias");
        registry.register(
            "password_checks",
            "Passwords that were checked, right or wrong",
            mcias.passwords.checks.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            mcias: Arc::downgrade(mcias),
            revocations: gauge("revocations", "Revocations in force"),
            bans: gauge("bans", "Networks that are banned"),
            watchers: gauge("watchers", "Services that watch revocations"),
            ban_watchers: gauge("ban_watchers", "Nodes that watch bans"),
            keys: gauge("keys", "Keys that verify tokens"),
            sources: gauge(
                "failing_sources",
                "Networks of which failed logins are remembered",
            ),
            registry,
        }
    }

    pub(crate) fn render(&self) -> String {
        let Some(mcias) = self.mcias.upgrade() else {
            return "# EOF\n".to_owned();
        };
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(
            &self.revocations,
            mcias.revocations.state().revocations.len(),
        );
        set(&self.bans, mcias.bans.state().len());
        set(&self.watchers, mcias.revocations.watchers());
        set(&self.ban_watchers, mcias.bans.watchers());
        set(&self.keys, mcias.keys().public.len());
        let sources = mcias.sources.lock().unwrap_or_else(PoisonError::into_inner);
        set(&self.sources, sources.len());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
