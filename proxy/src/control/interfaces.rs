//! Which interfaces are filtered.

use std::sync::{MutexGuard, PoisonError};

use super::{Control, ControlError};
use crate::{
    kernel::{self, Kernel, LinkMode, LinkStatus},
    store::Actor,
};

impl Control {
    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configured interfaces and how the firewall is attached to them.
    ///
    /// # Errors
    /// If the pins cannot be read.
    pub fn interfaces(&self) -> Result<Vec<LinkStatus>, ControlError> {
        let mut links = kernel::links(&self.kernel().pins)?;
        for interface in &self.config.interfaces {
            if !links.iter().any(|l| l.interface == *interface) {
                links.push(LinkStatus {
                    interface: interface.clone(),
                    mode: LinkMode::Detached,
                    detail: "unfiltered; the log says why, SIGHUP tries again".to_owned(),
                });
            }
        }
        Ok(links)
    }

    /// Attaches the firewall to the configured interfaces. One that fails does not keep the daemon down: it is
    /// logged and shown in the status, and the others filter.
    pub fn attach(&self) {
        let mut filtered = self.filtered();
        filtered.clear();
        for interface in &self.config.interfaces {
            filtered.push((interface.clone(), kernel::index(interface)));
            self.attach_one(interface);
        }
    }

    /// Attaches the firewall to interfaces that have come, or come back as another, since [`Self::attach`]: the link
    /// of one that was deleted filters nothing.
    pub fn follow_interfaces(&self) {
        for (interface, seen) in self.filtered().iter_mut() {
            let index = kernel::index(interface);
            if *seen == index {
                continue;
            }
            *seen = index;
            if index.is_some() {
                self.attach_one(interface);
            } else {
                tracing::error!(interface, "the interface is gone, and its filter with it");
            }
        }
    }

    pub(super) fn filtered(&self) -> MutexGuard<'_, Vec<(String, Option<u32>)>> {
        self.filtered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach_one(&self, interface: &str) {
        match self.kernel().attach(interface) {
            Ok(status) if status.mode == LinkMode::Native => {
                tracing::info!(interface, "firewall attached");
            }
            Ok(status) => tracing::warn!(
                interface,
                mode = status.mode.name(),
                detail = status.detail,
                "firewall attached"
            ),
            Err(error) => tracing::error!(
                interface,
                error = mcdsl::cli::chain(&error),
                "the firewall is not attached: this interface is unfiltered"
            ),
        }
    }

    /// Takes the firewall off every interface and unpins it.
    ///
    /// # Errors
    /// If a link or pin cannot be removed.
    pub fn detach(&self, by: &Actor) -> Result<Vec<String>, ControlError> {
        let mut store = self.store()?;
        let mut filtered = self.filtered();
        filtered.clear();
        let interfaces = kernel::detach(&self.config.pin_path)?;
        store.audit(by, "detach", &interfaces.join(" "), "ok")?;
        Ok(interfaces)
    }
}
