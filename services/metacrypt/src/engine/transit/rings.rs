//! Keys that are ready to be used, and what is written down of their use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use mc_proto::metacrypt::v1::TransitKey;
use mcdsl::audit::Detail;

use super::{
    key::{Due, Key, Next},
    message, path,
    ring::Ring,
    stored,
};
use crate::{
    barrier::{Items, Mount, SealError},
    engine::EngineError,
    entered::Entered,
};

/// Most keys that are kept ready; others are read again.
const MAX_READY: usize = 1024;
/// How often a change is tried again that somebody else came before.
const TRIES: usize = 8;

/// Keys that are ready to be used.
#[derive(Default)]
pub(super) struct Rings(Mutex<Kept>);

#[derive(Default)]
pub(super) struct Kept {
    rings: HashMap<String, Arc<Ring>>,
    /// How often a key was changed: what was read before a change is not kept after it.
    changes: u64,
}

impl Rings {
    pub(super) fn of(mount: &Mount) -> Result<MutexGuard<'_, Kept>, EngineError> {
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
    pub(super) fn change(&mut self, name: &str, ring: Option<&Arc<Ring>>) {
        self.changes += 1;
        match ring {
            Some(ring) => self.keep(name, ring),
            None => {
                self.rings.remove(name);
            }
        }
    }
}

/// A key that was read or changed, made ready. Of one that should rotate itself and cannot, the log is told.
pub(super) fn made(mount: &Mount, name: &str, key: &Key, left: u64) -> Result<Ring, EngineError> {
    if key.rotate_after_s > 0 && !key.can_rotate() {
        tracing::warn!(
            mount = mount.name(),
            key = name,
            "the key has as many versions as it may, so it does not rotate itself any more; raise its min_decryption_version (UpdateKey)"
        );
    }
    Ok(Ring::new(key, left)?)
}

/// Puts a key that was committed in force, and gives it on.
pub(super) fn apply(mount: &Mount, name: &str, ring: Ring) -> Result<Arc<Ring>, EngineError> {
    let ring = Arc::new(ring);
    Rings::of(mount)?.change(name, Some(&ring));
    Ok(ring)
}

/// The key, to decrypt and verify.
pub(super) async fn ring(at: &Arc<Entered>) -> Result<Arc<Ring>, EngineError> {
    let changes = {
        let kept = Rings::of(at.mount())?;
        if let Some(ring) = kept.rings.get(at.name()) {
            return Ok(Arc::clone(ring));
        }
        kept.changes
    };
    let read = |items: &Items<'_>, at: &Entered| {
        made(at.mount(), at.name(), &stored(items, at.name())?, 0)
    };
    let ring = Arc::new(at.read(read).await?);
    let mut kept = Rings::of(at.mount())?;
    if kept.changes == changes {
        kept.keep(at.name(), &ring);
    }
    Ok(ring)
}

/// What came of asking for uses.
enum Lot {
    /// Somebody else had it written down.
    Taken(Arc<Ring>),
    /// It was written down.
    Made(Ring),
    /// The key is to be rotated first.
    Due(Due, Next),
}

/// The key, to encrypt or sign so often: that is written down before it is done. Of many who find that nothing is left one writes down a lot, and the others,
/// who come after it, take of that.
pub(super) async fn ring_for(
    at: &Arc<Entered>,
    uses: u64,
    now: SystemTime,
) -> Result<Arc<Ring>, EngineError> {
    for _ in 0..TRIES {
        let found = ring(at).await?;
        if found.take(uses, now) {
            return Ok(found);
        }
        let then = |lot, at: &Entered| match lot {
            Lot::Made(ring) => apply(at.mount(), at.name(), ring).map(Lot::Taken),
            other => Ok(other),
        };
        let lot =
            move |items: &Items<'_>, at: &Entered| lot(items, at.mount(), at.name(), uses, now);
        let (due, next) = match at.keep_then(lot, then).await?? {
            Lot::Taken(ring) => return Ok(ring),
            Lot::Due(due, next) => (due, next),
            Lot::Made(_) => continue,
        };
        match rotate(at, due.word(), next, uses, now).await {
            Err(EngineError::Changed) => {}
            rotated => return rotated.map(|(_, ring)| ring),
        }
    }
    Err(EngineError::Changed)
}

fn lot(
    items: &Items<'_>,
    mount: &Mount,
    name: &str,
    uses: u64,
    now: SystemTime,
) -> Result<Lot, EngineError> {
    // Nobody else writes now, and what was committed before is in force.
    let kept = Rings::of(mount)?.rings.get(name).cloned();
    if let Some(ring) = kept.filter(|ring| ring.take(uses, now)) {
        return Ok(Lot::Taken(ring));
    }
    let mut key = stored(items, name)?;
    if let Some(due) = key.due(uses, now)? {
        return Ok(Lot::Due(due, key.next()?));
    }
    let left = key.reserve(uses)?;
    items.put(&path(name), &key)?;
    Ok(Lot::Made(made(mount, name, &key, left - uses)?))
}

/// Rotates a key of which another version is `next`, and takes so many uses of that, in one transaction with the row of the log that says so.
///
/// # Errors
/// [`EngineError::Changed`] if somebody else was first.
async fn rotate(
    at: &Arc<Entered>,
    because: &str,
    next: Next,
    uses: u64,
    now: SystemTime,
) -> Result<(TransitKey, Arc<Ring>), EngineError> {
    let mut detail = Detail::new()
        .text("rotated_because_of", because)
        .number("version", next.version.into());
    if let Some(dropped) = next.dropped {
        detail = detail.number("dropped_version", dropped.into());
    }
    let rotate = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let mut key = stored(items, at.name())?;
        if key.next()? != next {
            return Err(EngineError::Changed);
        }
        key.rotate(now)?;
        let left = match uses {
            0 => 0,
            uses => key.reserve(uses)? - uses,
        };
        items.put(&path(at.name()), &key)?;
        let ring = made(at.mount(), at.name(), &key, left)?;
        let mut message = message::key(at.name(), &key);
        message.removed_versions.extend(next.dropped);
        Ok((message, ring))
    };
    let then = |(message, ring), at: &Entered| -> Result<_, EngineError> {
        Ok((message, apply(at.mount(), at.name(), ring)?))
    };
    at.change(detail, rotate, then).await?
}

/// Rotates a key since somebody says so.
pub(super) async fn rotate_now(
    at: &Arc<Entered>,
    now: SystemTime,
) -> Result<TransitKey, EngineError> {
    for _ in 0..TRIES {
        let read = |items: &Items<'_>, at: &Entered| stored(items, at.name())?.next();
        let next = at.read(read).await?;
        match rotate(at, "request", next, 0, now).await {
            Err(EngineError::Changed) => {}
            rotated => return rotated.map(|(message, _)| message),
        }
    }
    Err(EngineError::Changed)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use mcdsl::{clock::Clock, db::Store};
    use rusqlite::Connection;
    use zeroize::Zeroizing;

    use super::{
        super::{algorithm::Algorithm, key::LOT},
        *,
    };
    use crate::{
        SERVICE,
        barrier::{Cost, Seal, Secret, Unsealed, Wanted},
    };

    /// A mount `vault` of an open seal, and a database with its tables.
    pub(in crate::engine::transit) async fn vault() -> (tempfile::TempDir, Unsealed, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metacrypt.db");
        let store = Store::open(&path, SERVICE.migrations).unwrap();
        let seal = Seal::new(store, Clock::default());
        let password = || Zeroizing::new("one".to_owned());
        let wanted = Wanted {
            cost: Cost {
                memory_kib: 64,
                passes: 1,
                lanes: 1,
            },
            recovery: false,
            shares: None,
        };
        seal.init(password(), wanted).await.unwrap();
        let here = "127.0.0.1".parse().unwrap();
        let opened = seal.open(Secret::Password(password()), here, |_, _| Ok(()));
        let mut open = opened.await.unwrap();
        let log = Box::new(|_: &rusqlite::Transaction<'_>| Ok(()));
        seal.mount(&mut open, "vault", "transit", log)
            .await
            .unwrap();
        (directory, open, Connection::open(path).unwrap())
    }

    #[tokio::test]
    async fn of_many_who_find_no_uses_left_one_writes_a_lot_down() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let (_directory, open, db) = vault().await;
        let mount = &open.mounts()["vault"];
        let items = mount.items(&db);
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::Ed25519] {
            let mut key = Key::new(algorithm, now).unwrap();
            key.rotate_after_s = 60;
            items.put(&path("busy"), &key).unwrap();
            apply(mount, "busy", made(mount, "busy", &key, 0).unwrap()).unwrap();
            for first in [true, false, false] {
                let lot = lot(&items, mount, "busy", 1024, now).unwrap();
                match lot {
                    Lot::Made(ring) if first && algorithm == Algorithm::Aes256Gcm => {
                        apply(mount, "busy", ring).unwrap();
                    }
                    Lot::Taken(_) if !first || algorithm != Algorithm::Aes256Gcm => {}
                    _ => panic!("{algorithm:?} {first}"),
                }
            }
            let bounded = algorithm.max_uses().is_some();
            let written = stored(&items, "busy").unwrap().uses();
            assert_eq!(written, if bounded { LOT } else { 0 }, "{algorithm:?}");
            let old = now + Duration::from_secs(60);
            let due = lot(&items, mount, "busy", 1, old).unwrap();
            let next = Next {
                version: 2,
                dropped: None,
            };
            assert!(
                matches!(due, Lot::Due(Due::Age, n) if n == next),
                "{algorithm:?}"
            );
            assert_eq!(crate::engine::seconds(old), 1_000_060);
        }
    }
}
