//! The seal and what is behind it.
//!
//! A secret opens a slot, a slot has the master key, the master key has a data key for each mount, and a data key has what the mount's engine stores. The
//! [`Seal`] is always there and has no key. [`Unsealed`] is what opening it gives: whoever has none can read nothing, and an engine is given its [`Mount`] alone.
//! Another password is a slot written anew, another master key the data keys sealed anew: what is stored is never written again, and each is one transaction,
//! so that the database opens by the secret before or by the one after, and nothing in between.

mod attempts;
mod items;
mod key;
mod slot;
mod written;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mcdsl::{
    clock::Clock,
    db::{Store, StoreError},
};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::{Mutex, TryLockError};
use zeroize::Zeroizing;

use self::{
    attempts::Attempts,
    key::Key,
    slot::{Kind, Slot},
};
pub use self::{
    attempts::Origin,
    items::{ItemError, Items},
    key::KeyError,
    slot::{Cost, MAX_SHARES, Secret, SlotError},
    written::Slip,
};

/// The tables.
pub(crate) const SCHEMA: &str = include_str!("schema.sql");
/// Networks that are remembered for having opened the seal.
const MAX_NETWORKS: i64 = 16;
/// Characters of a password.
pub const MAX_PASSWORD: usize = 1024;

/// Why the seal is not made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is none yet.
    #[error("Metacrypt is not initialised; run `metacrypt init`")]
    NotInitialised,
    /// There is one.
    #[error("Metacrypt is initialised already; what it has would be lost")]
    Initialised,
    /// It is sealed.
    #[error("Metacrypt is sealed; unseal it first")]
    Sealed,
    /// It is unsealed.
    #[error("Metacrypt is unsealed already")]
    Unsealed,
    /// Too soon after others that failed.
    #[error("too many attempts failed; try again in {} s", .0.as_secs() + 1)]
    Wait(Duration),
    /// Another attempt is under way: they take memory.
    #[error("another attempt is under way; try again in a few seconds")]
    Busy,
    /// Its secret.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A key in the database is not what it should be.
    #[error("the database was changed by somebody else: {0}")]
    Key(#[from] KeyError),
    /// Another process has changed the seal since this one opened it.
    #[error("the seal was changed by another process; seal and unseal again")]
    Changed,
    /// What is kept of a slot is none.
    #[error("the database was changed by somebody else: the {0} of its seal cannot be read")]
    Form(String),
    /// A mount that is there, or is not.
    #[error("the mount {name:?} is {what}")]
    Mount {
        /// Its name.
        name: String,
        /// "there already" or "not there".
        what: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for SealError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a new seal opens by.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What hashing the password costs.
    pub cost: Cost,
    /// With a recovery key.
    pub recovery: bool,
    /// With shares: how many of how many.
    pub shares: Option<(u8, u8)>,
}

/// Secrets that were made with a seal, shown once.
#[derive(Debug, Default)]
pub struct Fresh {
    /// The recovery key.
    pub recovery: Option<Zeroizing<String>>,
    /// The shares.
    pub shares: Vec<Zeroizing<String>>,
}

/// What is known of a seal without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which master key it has; the first is 1.
    pub generation: i64,
    /// Whether it has a recovery key.
    pub recovery: bool,
    /// How many of how many shares open it.
    pub shares: Option<(u8, u8)>,
}

/// The seal, open or not.
#[derive(Debug)]
pub struct Seal {
    store: Arc<Store>,
    clock: Clock,
    /// One attempt at a time.
    trying: Mutex<()>,
}

/// A mount's id, name, engine and data key.
pub struct Mount {
    id: String,
    name: String,
    engine: String,
    key: Key,
}

impl Mount {
    /// As it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of engine.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }
}

/// What is behind the seal while it is open.
pub struct Unsealed {
    master: Key,
    generation: i64,
    mounts: BTreeMap<String, Arc<Mount>>,
}

impl Unsealed {
    /// The mounts by their names.
    #[must_use]
    pub fn mounts(&self) -> &BTreeMap<String, Arc<Mount>> {
        &self.mounts
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn generation(db: &Connection) -> Result<i64, SealError> {
    let found = db.query_row("SELECT generation FROM seal", [], |row| row.get(0));
    found.optional()?.ok_or(SealError::NotInitialised)
}

fn slots(db: &Connection) -> Result<Vec<Slot>, SealError> {
    let mut statement = db.prepare("SELECT kind, parameters, master_key FROM key_slot")?;
    let rows = statement.query_map([], |row| <(String, String, Vec<u8>)>::try_from(row))?;
    rows.map(|row| {
        let (name, parameters, sealed) = row?;
        let kind: Kind =
            serde_json::from_str(&parameters).map_err(|_| SealError::Form(name.clone()))?;
        // One of each: what is a row's name is what it says.
        (kind.name() == name)
            .then_some(Slot { kind, sealed })
            .ok_or(SealError::Form(name))
    })
    .collect()
}

fn put(tx: &Transaction<'_>, slot: &Slot) -> Result<(), SealError> {
    let parameters =
        serde_json::to_string(&slot.kind).map_err(|_| SealError::Form(slot.kind.name().into()))?;
    tx.execute(
        "INSERT OR REPLACE INTO key_slot VALUES (?1, ?2, ?3)",
        params![slot.kind.name(), parameters, slot.sealed],
    )?;
    Ok(())
}

/// As what a mount's data key is sealed.
fn place(id: &str, engine: &str) -> String {
    format!("mount/{engine}/{id}")
}

fn mounts(db: &Connection, master: &Key) -> Result<BTreeMap<String, Arc<Mount>>, SealError> {
    let mut statement = db.prepare("SELECT id, name, engine, data_key FROM mount")?;
    let rows = statement.query_map([], |row| <(String, String, String, Vec<u8>)>::try_from(row))?;
    rows.map(|row| {
        let (id, name, engine, sealed) = row?;
        let what = place(&id, &engine);
        let key = Key::of(&master.open(&what, &sealed)?).ok_or(KeyError::Opened(what))?;
        let mount = Mount {
            id,
            name: name.clone(),
            engine,
            key,
        };
        Ok((name, Arc::new(mount)))
    })
    .collect()
}

/// All slots of a seal, and what they open by.
struct Slots {
    all: Vec<Slot>,
    fresh: Fresh,
}

impl Slots {
    /// Takes as long as hashing the password does.
    fn new(
        password: &str,
        wanted: Wanted,
        generation: i64,
        master: &Key,
    ) -> Result<Self, SlotError> {
        let mut all = vec![Slot::password(password, wanted.cost, generation, master)?];
        let mut fresh = Fresh::default();
        if wanted.recovery {
            let (slot, key) = Slot::recovery(generation, master)?;
            all.push(slot);
            fresh.recovery = Some(key);
        }
        if let Some((needed, of)) = wanted.shares {
            let (slot, shares) = Slot::shares(needed, of, generation, master)?;
            all.push(slot);
            fresh.shares = shares;
        }
        Ok(Self { all, fresh })
    }
}

/// Runs what takes a processor for long beside the async threads.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SlotError> + Send + 'static,
) -> Result<T, SealError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| StoreError::Thread)??)
}

impl Seal {
    /// That of a database.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            trying: Mutex::new(()),
        }
    }

    /// What is known without opening it; `None`: there is none yet.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn status(&self) -> Result<Option<Status>, SealError> {
        let read = |db: &Connection| -> Result<_, SealError> {
            let generation = match generation(db) {
                Err(SealError::NotInitialised) => return Ok(None),
                found => found?,
            };
            let slots = slots(db)?;
            let shares = |slot: &Slot| match slot.kind {
                Kind::Shares { needed, of, .. } => Some((needed, of)),
                _ => None,
            };
            Ok(Some(Status {
                generation,
                recovery: slots.iter().any(|slot| slot.kind == Kind::Recovery),
                shares: slots.iter().find_map(shares),
            }))
        };
        self.store.read(read).await
    }

    /// Makes a seal with a first mount, which is the core's own, and leaves it sealed.
    ///
    /// # Errors
    /// [`SealError::Initialised`] if there is one, and the others.
    pub async fn init(
        &self,
        password: Zeroizing<String>,
        wanted: Wanted,
    ) -> Result<Fresh, SealError> {
        if self.status().await?.is_some() {
            return Err(SealError::Initialised);
        }
        let made = move || {
            let master = Key::random().map_err(SlotError::Key)?;
            let slots = Slots::new(&password, wanted, 1, &master)?;
            Ok((master, slots))
        };
        let (master, slots) = beside(made).await?;
        let now = seconds(self.clock.now());
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            if tx.execute("INSERT OR IGNORE INTO seal VALUES (1, 1, ?1)", [now])? == 0 {
                return Err(SealError::Initialised);
            }
            slots.all.iter().try_for_each(|slot| put(tx, slot))?;
            new_mount(tx, &master, SYSTEM, SYSTEM, now)?;
            Ok(slots.fresh)
        };
        self.store.write(write).await
    }

    /// Where an attempt from an address comes from.
    async fn origin(&self, source: IpAddr) -> Result<Origin, SealError> {
        if source.is_loopback() {
            return Ok(Origin::Known);
        }
        let network = mcdsl::server::network(source).to_string();
        let known = self.store.rows(
            "SELECT 1 FROM known_network WHERE network = ?1",
            [network],
            |_| Ok(()),
        );
        Ok(match known.await?.is_empty() {
            true => Origin::Stranger,
            false => Origin::Known,
        })
    }

    /// Opens it by a secret that came from `source`, whether it is open or not.
    ///
    /// # Errors
    /// [`SealError`]; a wrong secret makes the next attempt wait.
    pub async fn open(&self, secret: Secret, source: IpAddr) -> Result<Unsealed, SealError> {
        let _one = self
            .trying
            .try_lock()
            .map_err(|_: TryLockError| SealError::Busy)?;
        let (origin, now) = (self.origin(source).await?, self.clock.now());
        let begin = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            let (generation, slots) = (generation(tx)?, slots(tx)?);
            let before = attempts(tx, origin)?;
            match before.wait(milliseconds(now)) {
                Duration::ZERO => note(tx, origin, before.begun(milliseconds(now)))?,
                wait => return Err(SealError::Wait(wait)),
            }
            Ok((generation, slots, before))
        };
        let (generation, slots, before) = self.store.write(begin).await?;
        let try_it = move || {
            let slot = slots.iter().find(|slot| slot.kind.name() == secret.kind());
            let slot = slot.ok_or(SlotError::Missing(secret.kind()))?;
            slot.open(&secret, generation)
        };
        let opened = beside(try_it).await;
        let network = mcdsl::server::network(source).to_string();
        let end = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            match opened {
                Ok(master) => {
                    note(tx, origin, Attempts::default())?;
                    remember(tx, &network, seconds(now))?;
                    let mounts = mounts(tx, &master)?;
                    Ok(Ok(Unsealed {
                        master,
                        generation,
                        mounts,
                    }))
                }
                Err(error @ SealError::Slot(SlotError::Wrong)) => Ok(Err(error)),
                Err(error) => {
                    // Nobody learned anything by it.
                    note(tx, origin, before)?;
                    Ok(Err(error))
                }
            }
        };
        self.store.write(end).await?
    }

    /// Gives it another password. What was made beside the one before still opens it.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn set_password(
        &self,
        unsealed: &Unsealed,
        password: Zeroizing<String>,
        cost: Cost,
    ) -> Result<(), SealError> {
        let (master, generation) = (unsealed.master.clone(), unsealed.generation);
        let made = move || Slot::password(&password, cost, generation, &master);
        let slot = beside(made).await?;
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            is_still(tx, generation)?;
            put(tx, &slot)
        };
        self.store.write(write).await
    }

    /// Gives it another master key, and all that opens it anew: who had the one before has nothing. Data keys are sealed anew, what they seal stays.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn rotate(
        &self,
        unsealed: &mut Unsealed,
        password: Zeroizing<String>,
        wanted: Wanted,
    ) -> Result<Fresh, SealError> {
        let (before, next) = (unsealed.generation, unsealed.generation + 1);
        let made = move || {
            let master = Key::random().map_err(SlotError::Key)?;
            let slots = Slots::new(&password, wanted, next, &master)?;
            Ok((master, slots))
        };
        let (master, slots) = beside(made).await?;
        let (old, new, now) = (unsealed.master.clone(), master.clone(), self.clock.now());
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            is_still(tx, before)?;
            tx.execute(
                "UPDATE seal SET generation = ?1, made_s = ?2",
                [next, seconds(now)],
            )?;
            tx.execute("DELETE FROM key_slot", [])?;
            slots.all.iter().try_for_each(|slot| put(tx, slot))?;
            for mount in mounts(tx, &old)?.values() {
                let sealed = new.seal(&place(&mount.id, &mount.engine), mount.key.bytes())?;
                tx.execute(
                    "UPDATE mount SET data_key = ?2 WHERE id = ?1",
                    params![mount.id, sealed],
                )?;
            }
            Ok(slots.fresh)
        };
        let fresh = self.store.write(write).await?;
        (unsealed.master, unsealed.generation) = (master, next);
        Ok(fresh)
    }

    /// Makes a mount for an engine of this kind.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn mount(
        &self,
        unsealed: &mut Unsealed,
        name: &str,
        engine: &'static str,
    ) -> Result<Arc<Mount>, SealError> {
        let (master, generation) = (unsealed.master.clone(), unsealed.generation);
        let (wanted, now) = (name.to_owned(), seconds(self.clock.now()));
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            is_still(tx, generation)?;
            new_mount(tx, &master, &wanted, engine, now)
        };
        let mount = Arc::new(self.store.write(write).await?);
        unsealed.mounts.insert(name.to_owned(), Arc::clone(&mount));
        Ok(mount)
    }

    /// Drops a mount with all that it has: its data key, without which what is left of it in files and snapshots of now is nothing.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn unmount(&self, unsealed: &mut Unsealed, name: &str) -> Result<(), SealError> {
        let none = || SealError::Mount {
            name: name.to_owned(),
            what: "not there",
        };
        let mount = unsealed.mounts.get(name).filter(|m| m.engine != SYSTEM);
        let id = mount.ok_or_else(none)?.id.clone();
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            tx.execute("DELETE FROM mount WHERE id = ?1", [id])?;
            Ok(())
        };
        self.store.write(write).await?;
        unsealed.mounts.remove(name);
        Ok(())
    }
}

/// The core's own mount, and its kind of engine.
pub const SYSTEM: &str = "system";

fn new_mount(
    tx: &Transaction<'_>,
    master: &Key,
    name: &str,
    engine: &str,
    now: i64,
) -> Result<Mount, SealError> {
    let (id, key) = (hex_id()?, Key::random()?);
    let sealed = master.seal(&place(&id, engine), key.bytes())?;
    let made = tx.execute(
        "INSERT INTO mount VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO NOTHING",
        params![id, name, engine, now, sealed],
    )?;
    if made == 0 {
        return Err(SealError::Mount {
            name: name.to_owned(),
            what: "there already",
        });
    }
    Ok(Mount {
        id,
        name: name.to_owned(),
        engine: engine.to_owned(),
        key,
    })
}

fn hex_id() -> Result<String, KeyError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyError::Random)?;
    Ok(mcdsl::human::hex(&id))
}

fn is_still(tx: &Transaction<'_>, expected: i64) -> Result<(), SealError> {
    (generation(tx)? == expected)
        .then_some(())
        .ok_or(SealError::Changed)
}

fn attempts(db: &Connection, origin: Origin) -> Result<Attempts, SealError> {
    let found = db.query_row(
        "SELECT failed, last_ms FROM attempt WHERE origin = ?1",
        [origin.name()],
        |row| {
            Ok(Attempts {
                failed: row.get(0)?,
                last_ms: row.get(1)?,
            })
        },
    );
    Ok(found.optional()?.unwrap_or_default())
}

fn note(tx: &Transaction<'_>, origin: Origin, attempts: Attempts) -> Result<(), SealError> {
    tx.execute(
        "INSERT OR REPLACE INTO attempt VALUES (?1, ?2, ?3)",
        params![origin.name(), attempts.failed, attempts.last_ms],
    )?;
    Ok(())
}

fn remember(tx: &Transaction<'_>, network: &str, now: i64) -> Result<(), SealError> {
    tx.execute(
        "INSERT OR REPLACE INTO known_network VALUES (?1, ?2)",
        params![network, now],
    )?;
    tx.execute(
        "DELETE FROM known_network WHERE network NOT IN (SELECT network FROM known_network ORDER BY opened_s DESC LIMIT ?1)",
        [MAX_NETWORKS],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
