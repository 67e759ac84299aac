//! SIGHUP, and what is looked at every second.

use std::{sync::MutexGuard, sync::PoisonError, time::SystemTime};

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
        for problem in &problems {
            tracing::error!(problem, "reload");
        }
        let at = SystemTime::now();
        *self.reload_slot() = Some(Reload { at, problems });
    }

    fn try_reload(&self) -> Vec<String> {
        // Nothing may hand over meanwhile.
        let _held = match self.store() {
            Ok(held) => held,
            Err(error) => return vec![error.to_string()],
        };
        self.listeners.retry();
        self.attach();
        let mut problems = Vec::new();
        if self.geoip.status().path.is_some()
            && let Err(error) = self.geoip.load_now()
        {
            problems.push(mcdsl::cli::chain(&error));
        }
        self.context.router.reload_certificates();
        for route in self.context.router.all() {
            if let Some(error) = route.tls.as_ref().and_then(|tls| tls.error()) {
                let key = &route.route.key;
                problems.push(format!(
                    "certificate of {} on port {}: {error}",
                    key.hostname, key.port
                ));
            }
        }
        problems.extend(self.not_listening());
        problems.extend(self.unfiltered());
        problems.extend(self.config_changed());
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
