//! SIGHUP, and what is looked at every second.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::SystemTime,
};

use mcdsl::human;

use super::Control;

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// What is not as it should be; empty: all is.
    pub problems: Vec<String>,
}

impl Control {
    /// SIGHUP: looks again at what may have changed outside (interfaces, addresses that could not be listened on, the GeoIP
    /// database). Blocks.
    pub fn reload(&self) {
        let problems = self.try_reload();
        let at = SystemTime::now();
        *self.reload_slot() = Some(Reload { at, problems });
    }

    /// What is not as it should be, which is logged: as an error what is not served or filtered, as a warning what goes on as before.
    fn try_reload(&self) -> Vec<String> {
        // Nothing may hand over meanwhile.
        let _held = match self.store() {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "no reload");
                return vec![error.to_string()];
            }
        };
        self.listeners.retry();
        self.attach();
        let mut problems = Vec::new();
        if self.geoip.status().path.is_some()
            && let Err(error) = self.geoip.load_now()
        {
            // Logged where it happens.
            problems.push(mcdsl::cli::chain(&error));
        }
        self.context.router.reload_certificates();
        // One line for all routes that share a file.
        let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for route in self.context.router.all() {
            if let Some(error) = route.tls.as_ref().and_then(|tls| tls.error()) {
                let key = &route.route.key;
                let routes = refused.entry(error).or_default();
                routes.push(format!("{} on port {}", key.hostname, key.port));
            }
        }
        let told = refused.into_iter();
        let as_before = told
            .map(|(error, routes)| format!("certificate of {}: {error}", human::some(&routes)))
            .chain(self.config_changed());
        for problem in as_before {
            tracing::warn!(problem, "reload");
            problems.push(problem);
        }
        let missing = self.not_listening().into_iter().chain(self.unfiltered());
        for problem in missing {
            tracing::error!(problem, "reload");
            problems.push(problem);
        }
        problems
    }

    /// The last reload of this daemon.
    pub fn last_reload(&self) -> Option<Reload> {
        self.reload_slot().clone()
    }

    fn reload_slot(&self) -> MutexGuard<'_, Option<Reload>> {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens where it could not, follows interfaces, ends bans. Blocks; called every second.
    pub fn keep_house(&self) {
        self.take_back_left();
        // Or what they say would pile up, and the latest be lost.
        self.predecessors();
        // While another daemon takes over, it is the one.
        let Ok(held) = self.store() else {
            return;
        };
        self.listeners.retry();
        self.follow_interfaces();
        drop(held);
        self.context.router.reload_certificates();
        self.expire_bans();
    }
}
