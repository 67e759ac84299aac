//! Which interfaces are filtered.

use std::sync::{MutexGuard, PoisonError, atomic::Ordering::Relaxed};

use super::{Control, ControlError};
use crate::{
    kernel::{self, Kernel, LinkMode, LinkStatus},
    store::Actor,
};

/// What an operator has done who may have forgotten it.
const DETACHED: &str =
    "unfiltered since `mcproxyctl detach`; SIGHUP or a restart attaches again, an upgrade does not";

/// An interface that is to be filtered, as it was when it was last looked at.
#[derive(Debug)]
pub(super) struct Filtered {
    interface: String,
    index: Option<u32>,
    /// Attaching succeeded.
    attached: bool,
}

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
                    detail: match self.detached() {
                        true => DETACHED,
                        false => "unfiltered; the log says why, SIGHUP tries again",
                    }
                    .to_owned(),
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
        self.detached.store(false, Relaxed);
        for interface in &self.config.interfaces {
            let index = kernel::index(interface);
            filtered.push(Filtered {
                interface: interface.clone(),
                index,
                attached: self.attach_one(interface),
            });
        }
    }

    /// Attaches the firewall to interfaces that have come, or come back as another, since [`Self::attach`], for the link of
    /// one that was deleted filters nothing; and to those whose link was detached, or whose pin was removed, which holds it.
    pub fn follow_interfaces(&self) {
        for filtered in self.filtered().iter_mut() {
            let interface = &filtered.interface;
            let index = kernel::index(interface);
            if filtered.index == index {
                let lost = match index {
                    Some(index) if filtered.attached => self.kernel().lost(interface, index),
                    _ => None,
                };
                let Some(lost) = lost else { continue };
                tracing::error!(interface, "{lost}");
            }
            filtered.index = index;
            if index.is_some() {
                filtered.attached = self.attach_one(interface);
            } else {
                filtered.attached = false;
                tracing::error!(interface, "the interface is gone, and its filter with it");
            }
        }
    }

    pub(super) fn filtered(&self) -> MutexGuard<'_, Vec<Filtered>> {
        self.filtered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operator has taken the firewall off since it was last attached.
    pub(super) fn detached(&self) -> bool {
        self.detached.load(Relaxed)
    }

    /// Attaches nothing, since the operator took the firewall off the daemon before this one.
    pub(crate) fn stay_detached(&self) {
        self.detached.store(true, Relaxed);
        tracing::warn!("the firewall stays off, as before the upgrade; SIGHUP attaches it");
    }

    /// Says whether it succeeded.
    fn attach_one(&self, interface: &str) -> bool {
        let attached = self.kernel().attach(interface);
        match &attached {
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
                error = mcdsl::cli::chain(error),
                "the firewall is not attached: this interface is unfiltered"
            ),
        }
        attached.is_ok()
    }

    /// Takes the firewall off every interface and unpins it.
    ///
    /// # Errors
    /// If a link or pin cannot be removed.
    pub fn detach(&self, by: &Actor) -> Result<Vec<String>, ControlError> {
        let mut store = self.store()?;
        let mut filtered = self.filtered();
        filtered.clear();
        self.detached.store(true, Relaxed);
        let interfaces = kernel::detach(&self.config.pin_path)?;
        // It is done, and whoever needs it on a full disk is not to be told that it failed.
        if let Err(error) = store.audit(by, "detach", &interfaces.join(" "), "ok") {
            let error = mcdsl::cli::chain(&error);
            tracing::error!(error, "the detached firewall is not in the audit");
        }
        Ok(interfaces)
    }
}
