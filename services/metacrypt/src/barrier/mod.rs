//! The seal and what is behind it.
//!
//! A secret opens a slot, a slot has the master key, the master key has a data key for each mount, and a data key has what the mount's engine stores. The
//! [`Seal`] is always there and has no key. [`Unsealed`] is what opening it gives: whoever has none can read nothing, and an engine is given its [`Mount`] alone.
//! Another password is a slot written anew, another master key the data keys sealed anew: what is stored is never written again, and each is one transaction,
//! so that the database opens by the secret before or by the one after, and nothing in between.

mod attempts;
mod drill;
mod error;
mod items;
mod key;
mod line;
mod mounts;
mod open;
mod prints;
mod rows;
mod slot;
mod written;

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use mcdsl::{
    clock::Clock,
    db::{Store, StoreError},
};
use rusqlite::{Connection, Transaction};
use zeroize::Zeroizing;

pub use self::{
    attempts::Origin,
    drill::{DrillError, Drilled, drill},
    error::SealError,
    items::{ItemError, Items},
    key::KeyError,
    open::is_share,
    prints::{Hashed, Prints},
    slot::{Cost, MAX_SHARES, Secret, SlotError, threshold},
    written::Slip,
};
use self::{
    key::Key,
    line::Lines,
    slot::{Kind, Slot},
};
pub(crate) use self::{prints::few, slot::BY_PASSWORD};

/// The tables.
pub(crate) const SCHEMA: &str = include_str!("schema.sql");
/// Bytes of a password, at most.
pub const MAX_PASSWORD: usize = 1024;
/// The core's own mount, and its kind of engine.
pub const SYSTEM: &str = "system";
/// What who would remove it is told.
pub(crate) const SYSTEM_STAYS: &str = "the mount \"system\" is Metacrypt's own, with the policy, and stays; remove rules by `metacrypt policy delete`";

/// Writes what is done to the audit log, in the transaction that does it: if it cannot, nothing is done.
pub type Log = Box<dyn FnOnce(&Transaction<'_>) -> Result<(), SealError> + Send>;

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

impl Status {
    /// That of the seal in a database; `None`: there is none.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn read(db: &Connection) -> Result<Option<Self>, SealError> {
        let generation = match rows::generation(db) {
            Err(SealError::NotInitialised) => return Ok(None),
            found => found?,
        };
        Ok(Some(Self::of(generation, &rows::slots(db)?)))
    }

    fn of(generation: i64, slots: &[Slot]) -> Self {
        let shares = |slot: &Slot| match slot.kind {
            Kind::Shares { needed, of, .. } => Some((needed, of)),
            _ => None,
        };
        Self {
            generation,
            recovery: slots.iter().any(|slot| slot.kind == Kind::Recovery),
            shares: slots.iter().find_map(shares),
        }
    }
}

/// The seal, open or not.
#[derive(Debug)]
pub struct Seal {
    store: Arc<Store>,
    clock: Clock,
    lines: Lines,
    /// What is known of it without a look into the database, which strangers may keep busy; nothing while there is none.
    status: ArcSwapOption<Status>,
    /// See [`Self::settle`].
    settled: AtomicBool,
}

/// A mount: its names, its engine and its data key.
pub struct Mount {
    number: i64,
    id: String,
    name: String,
    engine: String,
    made_s: i64,
    key: Key,
    memory: OnceLock<Box<dyn Any + Send + Sync>>,
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

    /// When it was made.
    #[must_use]
    pub fn made(&self) -> SystemTime {
        let since = Duration::from_secs(self.made_s.try_into().unwrap_or_default());
        UNIX_EPOCH + since
    }

    /// That it was not removed, as `db` has it: what changes it asks this in its transaction.
    ///
    /// # Errors
    /// [`SealError::NoMount`].
    pub(crate) fn is_there(&self, db: &Connection) -> Result<(), SealError> {
        let none = || SealError::NoMount(self.name.clone());
        rows::is_there(db, self)?.then_some(()).ok_or_else(none)
    }

    /// A key of its own for `purpose`; who has that does not have the mount's.
    pub(crate) fn derived(&self, purpose: &str) -> key::Key {
        self.key.derived(purpose)
    }

    /// What its engine keeps of it in memory, empty at first; it is dropped with the keys. An engine has one such type: `None` for others.
    #[must_use]
    pub fn memory<T: Any + Default + Send + Sync>(&self) -> Option<&T> {
        let memory = self.memory.get_or_init(|| Box::<T>::default());
        memory.downcast_ref()
    }
}

/// What is behind the seal while it is open.
#[derive(Clone)]
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

    /// What the audit log has in the place of secrets. The same for as long as the database lives: its key comes of the core's own data key, which rotations keep.
    #[must_use]
    pub(crate) fn prints(&self) -> Prints {
        let system = self.mounts.get(SYSTEM);
        Prints::new(system.map_or(&self.master, |mount| &mount.key))
    }

    /// Takes a mount out, so that nobody comes to it any more.
    ///
    /// # Errors
    /// [`SealError::NoMount`]; the core's own is none that could be.
    pub fn take(&mut self, name: &str) -> Result<Arc<Mount>, SealError> {
        let none = || SealError::NoMount(name.to_owned());
        let found = self.mounts.get(name).filter(|m| m.engine != SYSTEM);
        let mount = Arc::clone(found.ok_or_else(none)?);
        self.mounts.remove(name);
        Ok(mount)
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
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
            lines: Lines::new(),
            status: ArcSwapOption::empty(),
            settled: AtomicBool::new(false),
        }
    }

    /// The clock that it goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Its database.
    #[must_use]
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What is known without opening it; `None`: there is none yet.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn status(&self) -> Result<Option<Status>, SealError> {
        if let Some(known) = self.status.load_full() {
            return Ok(Some(Status::clone(&known)));
        }
        let found = self.read_status().await?;
        self.status.store(found.clone().map(Arc::new));
        Ok(found)
    }

    async fn read_status(&self) -> Result<Option<Status>, SealError> {
        self.store.read(|db: &Connection| Status::read(db)).await
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
            slots.all.iter().try_for_each(|slot| rows::put(tx, slot))?;
            rows::new_mount(tx, &master, SYSTEM, SYSTEM, now)?;
            Ok(slots.fresh)
        };
        self.store.write(write).await
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
        log: Log,
    ) -> Result<(), SealError> {
        let (master, generation) = (unsealed.master.clone(), unsealed.generation);
        let made = move || Slot::password(&password, cost, generation, &master);
        let slot = beside(made).await?;
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            rows::is_still(tx, generation)?;
            rows::put(tx, &slot)?;
            log(tx)
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
        log: Log,
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
            rows::is_still(tx, before)?;
            rows::one(tx.execute(
                "UPDATE seal SET generation = ?1, made_s = ?2",
                [next, seconds(now)],
            )?)?;
            tx.execute("DELETE FROM key_slot", [])?;
            slots.all.iter().try_for_each(|slot| rows::put(tx, slot))?;
            rows::seal_anew(tx, &old, &new)?;
            log(tx)?;
            Ok((Status::of(next, &slots.all), slots.fresh))
        };
        let (status, fresh) = self.store.write(write).await?;
        // From here on nothing may fail: what opens it now is nobody's but the caller's.
        self.status.store(Some(Arc::new(status)));
        (unsealed.master, unsealed.generation) = (master, next);
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
