//! What is kept in memory of a mount: its CAs, ready to sign, what its profiles are issued by, and the last CRLs. It goes with the keys when the seal is closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    acme,
    api::wanted::Ground,
    issuer::{Issuer, IssuerId},
    signed::SigningKey,
    store::StoredIssuer,
};
use crate::{
    barrier::{Items, KeyError, Mount, SealError},
    engine::EngineError,
};

/// A CRL as it is served: one copy for all who read it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) der: Bytes,
    pub(super) made_at: SystemTime,
    /// From then on another is made.
    pub(super) renewed_at: SystemTime,
    /// From then on, if something was revoked.
    pub(super) settled_at: SystemTime,
    /// Of how many it is, counted since the seal was opened.
    pub(super) revocations: u64,
}

/// Of an issuer.
#[derive(Default)]
struct List {
    /// Since the seal was opened.
    revocations: u64,
    served: Option<Arc<Served>>,
}

#[derive(Default)]
struct Kept {
    issuers: HashMap<String, Arc<Issuer>>,
    /// Of profiles by which something was issued. Who stores what was made by one looks again at what there is then.
    grounds: HashMap<String, Ground>,
    /// Of issuers that were asked for; one that is deleted leaves its count.
    lists: HashMap<IssuerId, List>,
    /// How often something was changed: what was read before is not kept after it.
    changes: u64,
}

impl Kept {
    fn changed(&mut self) {
        self.changes += 1;
        self.grounds.clear();
    }
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

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A CA was made or deleted: what was committed is in force.
    pub(super) fn changed(&self, name: &str) {
        let mut kept = self.kept();
        kept.changed();
        kept.issuers.remove(name);
    }

    /// Something that certificates are made by was changed, and is in force: a profile, an issuer's state, or the addresses.
    pub(super) fn ground_changed(&self) {
        self.kept().changed();
    }

    /// What a profile's certificates are made by, if that is known; and how often something was changed until now, for [`Self::keep_ground`].
    pub(super) fn ground(&self, profile: &str) -> (Option<Ground>, u64) {
        let kept = self.kept();
        (kept.grounds.get(profile).cloned(), kept.changes)
    }

    /// Keeps what was read since, unless something was changed.
    pub(super) fn keep_ground(&self, profile: &str, ground: &Ground, changes: u64) {
        let mut kept = self.kept();
        if kept.changes == changes {
            kept.grounds.insert(profile.to_owned(), ground.clone());
        }
    }

    /// That a certificate of the issuer was revoked, or the issuer deleted: its list is behind, and made anew when it is asked for.
    pub(super) fn revoked(&self, id: &IssuerId) {
        let mut kept = self.kept();
        kept.lists.entry(id.clone()).or_default().revocations += 1;
    }

    /// How often that was said.
    pub(super) fn revocations(&self, id: &IssuerId) -> u64 {
        self.kept().lists.get(id).map_or(0, |list| list.revocations)
    }

    /// The list that is to be served; none: another is to be made. A clock that was ahead made one of a time that is still to come: that is none.
    pub(super) fn served(&self, id: &IssuerId, now: SystemTime) -> Option<Arc<Served>> {
        let kept = self.kept();
        let list = kept.lists.get(id)?;
        let served = list.served.as_ref()?;
        let whole = served.revocations == list.revocations || now < served.settled_at;
        let is_now = served.made_at <= now && now < served.renewed_at;
        (whole && is_now).then(|| Arc::clone(served))
    }

    /// From now on this is served.
    pub(super) fn serve(&self, id: &IssuerId, served: &Arc<Served>) {
        let mut kept = self.kept();
        kept.lists.entry(id.clone()).or_default().served = Some(Arc::clone(served));
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
