//! What is kept in memory of a mount: its CAs, ready to sign, and their last CRLs. It goes with the keys when the seal is closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{acme, issuer::Issuer, signed::SigningKey, store::StoredIssuer};
use crate::{
    barrier::{Items, KeyError, Mount, SealError},
    engine::EngineError,
};

/// A CRL as it is served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) der: Vec<u8>,
    /// From then on another is made.
    pub(super) renewed_at: SystemTime,
}

#[derive(Default)]
pub(super) struct Kept {
    issuers: HashMap<String, Arc<Issuer>>,
    pub(super) crls: HashMap<String, Arc<Served>>,
    /// How often an issuer was changed: what was read before is not kept after it.
    changes: u64,
}

/// As [`Mount::memory`] has it.
#[derive(Default)]
pub(super) struct Ready {
    kept: Mutex<Kept>,
    /// Held by who makes a CRL: those who wait for one find it then.
    pub(super) making: tokio::sync::Mutex<()>,
    pub(super) acme: acme::Memory,
}

impl Ready {
    pub(super) fn of(mount: &Mount) -> Result<&Self, EngineError> {
        let ready: Option<&Self> = mount.memory();
        Ok(ready.ok_or_else(|| SealError::NoMount(mount.name().to_owned()))?)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A CA was made or deleted: what was committed is in force.
    pub(super) fn changed(&self, name: &str) {
        let mut kept = self.kept();
        kept.changes += 1;
        kept.issuers.remove(name);
        kept.crls.remove(name);
    }
}

/// The CA of this name, ready to sign.
pub(super) fn issuer(
    mount: &Mount,
    items: &Items<'_>,
    name: &str,
) -> Result<Arc<Issuer>, EngineError> {
    let ready = Ready::of(mount)?;
    let changes = {
        let kept = ready.kept();
        if let Some(issuer) = kept.issuers.get(name) {
            return Ok(Arc::clone(issuer));
        }
        kept.changes
    };
    let stored = StoredIssuer::get(items, name)?;
    let key = StoredIssuer::key(items, name)?;
    let key = SigningKey::from_pkcs8(stored.algorithm, &key)?;
    let made = Issuer::new(name, stored.chain()?, key);
    let broken = |fault| {
        tracing::error!(issuer = name, error = %fault, "a CA cannot be used");
        KeyError::Opened("a CA".to_owned())
    };
    let made = Arc::new(made.map_err(broken)?);
    let mut kept = ready.kept();
    if kept.changes == changes {
        kept.issuers.insert(name.to_owned(), Arc::clone(&made));
    }
    Ok(made)
}
