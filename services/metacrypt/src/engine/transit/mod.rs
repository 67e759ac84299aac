//! Transit: encryption and signatures for others, with keys that stay here.

mod algorithm;
mod api;
mod key;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod written;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use axum::Router;
use mc_proto::metacrypt::v1::transit_server::TransitServer;

use self::{
    algorithm::Algorithm,
    key::{Key, Ring},
};
use super::{EngineError, Kind};
use crate::{
    barrier::{Items, Mount, SealError},
    entered::Entered,
};

/// What may be done.
pub(crate) mod action {
    actions! {
        ALL:
        CREATE = "transit:create",
        READ = "transit:read",
        UPDATE = "transit:update",
        ROTATE = "transit:rotate",
        DELETE = "transit:delete",
        EXPORT = "transit:export",
        ENCRYPT = "transit:encrypt",
        DECRYPT = "transit:decrypt",
        REWRAP = "transit:rewrap",
        DATAKEY = "transit:datakey",
        SIGN = "transit:sign",
        VERIFY = "transit:verify",
        RANDOM = "transit:random",
    }
}

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "transit",
    description: "encrypts, signs and authenticates what others have, with keys that stay here",
    actions: action::ALL,
    routes: |routes, api| routes.add_service(TransitServer::new(api.clone())),
    http: |_| Router::new(),
    keeps: kept,
    job: None,
};

/// Keys that nobody said may be deleted.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    let mut after = String::new();
    loop {
        let names = items.names(PLACE, &after, LOOKED)?;
        for path in &names {
            if !items.get::<Key>(path)?.is_some_and(|key| key.deletable) {
                let name = path.strip_prefix(PLACE).unwrap_or(path);
                return Ok(Some(format!("keys that are not deletable, like {name:?}")));
            }
        }
        match names.last() {
            Some(last) if names.len() == LOOKED => after = last.clone(),
            _ => return Ok(None),
        }
    }
}

/// Where keys are stored.
const PLACE: &str = "keys/";
/// Keys whose names are read at once.
const LOOKED: usize = 100;
/// Most keys that are kept ready; others are read again.
const MAX_READY: usize = 1024;

fn path(name: &str) -> String {
    format!("{PLACE}{name}")
}

/// Keys that are ready to be used.
#[derive(Default)]
struct Rings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    rings: HashMap<String, Arc<Ring>>,
    /// How often a key was changed: what was read before a change is not kept after it.
    changes: u64,
}

impl Rings {
    fn of(mount: &Mount) -> Result<MutexGuard<'_, Kept>, EngineError> {
        let rings: Option<&Self> = mount.memory();
        let rings = rings.ok_or_else(|| SealError::NoMount(mount.name().to_owned()))?;
        Ok(rings.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn keep(&mut self, name: &str, ring: &Arc<Ring>) {
        if self.rings.len() >= MAX_READY && !self.rings.contains_key(name) {
            // Any: most mounts have fewer.
            if let Some(other) = self.rings.keys().next().cloned() {
                self.rings.remove(&other);
            }
        }
        self.rings.insert(name.to_owned(), Arc::clone(ring));
    }

    /// What was committed is in force.
    fn change(&mut self, name: &str, ring: Option<&Arc<Ring>>) {
        self.changes += 1;
        match ring {
            Some(ring) => self.keep(name, ring),
            None => {
                self.rings.remove(name);
            }
        }
    }
}

/// The key of this name, as it is stored.
fn stored(items: &Items<'_>, name: &str) -> Result<Key, EngineError> {
    let found = items.get(&path(name))?;
    found.ok_or_else(|| EngineError::NotFound("key", name.to_owned()))
}

/// Puts a key that was committed in force, and gives it on.
fn apply(at: &Entered, ring: Ring) -> Result<Arc<Ring>, EngineError> {
    let ring = Arc::new(ring);
    Rings::of(at.mount())?.change(at.name(), Some(&ring));
    Ok(ring)
}

/// The key, to decrypt and verify.
async fn ring(at: &Arc<Entered>) -> Result<Arc<Ring>, EngineError> {
    let changes = {
        let kept = Rings::of(at.mount())?;
        if let Some(ring) = kept.rings.get(at.name()) {
            return Ok(Arc::clone(ring));
        }
        kept.changes
    };
    let read = |items: &Items<'_>, at: &Entered| Ok(Ring::new(&stored(items, at.name())?, 0)?);
    let ring = Arc::new(at.read(read).await?);
    let mut kept = Rings::of(at.mount())?;
    if kept.changes == changes {
        kept.keep(at.name(), &ring);
    }
    Ok(ring)
}

/// The key, to encrypt or sign so often: that is written down before it is done.
async fn ring_for(at: &Arc<Entered>, uses: u64, now: SystemTime) -> Result<Arc<Ring>, EngineError> {
    let found = ring(at).await?;
    if found.take(uses, now) {
        return Ok(found);
    }
    let reserve = move |items: &Items<'_>, at: &Entered| -> Result<Ring, EngineError> {
        let mut key = stored(items, at.name())?;
        let left = key.reserve(uses, now)?;
        items.put(&path(at.name()), &key)?;
        Ok(Ring::new(&key, left - uses)?)
    };
    at.keep(reserve, |ring, at| apply(at, ring)).await?
}
