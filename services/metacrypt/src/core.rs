//! The service: the seal, and what is behind it while it is open.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use mcdsl::{
    audit::Detail,
    auth::client::Client,
    db::Awaited,
    policy::Rule,
    server::{Caller, Recorder},
};
use rusqlite::Transaction;
use tokio::sync::{Mutex, Notify, watch};
use zeroize::Zeroizing;

use crate::{
    barrier::{
        Cost, Fresh, ItemError, Items, Log, Mount, Seal, SealError, Secret, Unsealed, Wanted,
    },
    engine::{self, Cores, EngineError},
    gate::{Gate, Opened},
    log as newest,
    past::Past,
    policy,
};

/// Metacrypt.
pub(crate) struct Metacrypt {
    pub(crate) seal: Seal,
    pub(crate) gate: Gate,
    /// For what is asked by another way than methods, whose calls the server writes down.
    pub(crate) audit: Arc<Recorder>,
    /// Held by who changes the seal or what is behind it: one at a time, from the proof to the end, so that each is of what the one before left.
    changes: Mutex<()>,
    /// A mount was removed, or something of before is still in the database's file.
    pub(crate) removed: Notify,
    /// What is wrong with the audit log, as far as was looked.
    pub(crate) log_flaw: Arc<ArcSwapOption<String>>,
    /// Whether what is public is to be had without TLS; not said in tests of parts.
    pub(crate) without_tls: OnceLock<bool>,
    /// Who knows what MCIAS revoked; not in tests of parts.
    pub(crate) mcias: OnceLock<Arc<Client>>,
    pub(crate) past: Arc<Past>,
    /// What takes a processor for long takes turns at them.
    pub(crate) cores: Arc<Cores>,
    /// What the installation is called, of which no password is made; not in tests of parts.
    pub(crate) names: OnceLock<Vec<String>>,
}

/// What another master key is opened by; nothing said: as the one before.
#[derive(Default)]
pub(crate) struct Rotation {
    /// Else the password that was shown.
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) recovery: Option<bool>,
    pub(crate) shares: Shares,
}

/// Shares of another master key.
#[derive(Clone, Copy, Default)]
pub(crate) enum Shares {
    /// As many as there are, of which as many open it.
    #[default]
    AsNow,
    /// None any more.
    Dropped,
    /// So many of so many.
    Of(u8, u8),
}

/// Asks a mount what of it is not to be lost by a slip of the pen; nothing: it may be removed.
pub(crate) type Keeps = fn(&Items<'_>) -> Result<Option<String>, EngineError>;

/// That nothing of a mount is lost by a slip of the pen.
///
/// # Errors
/// [`SealError::Kept`], and the database's.
fn not_kept(mount: &Mount, tx: &Transaction<'_>) -> Result<(), SealError> {
    let kept = match engine::kind(mount.engine()) {
        Ok(kind) => (kind.keeps)(&mount.items(tx)),
        Err(_) => {
            let unknown = mount.engine();
            let what =
                format!("what an engine {unknown:?} keeps, which this program does not know");
            return Err(SealError::Kept(what));
        }
    };
    match kept {
        Ok(None) => Ok(()),
        Ok(Some(kept)) => Err(SealError::Kept(kept)),
        Err(EngineError::Store(error) | EngineError::Item(ItemError::Store(error))) => {
            Err(error.into())
        }
        // What cannot be read is lost already, which is no reason to have whoever deletes it not say that he means it.
        Err(error) => Err(SealError::Kept(format!("what cannot be read: {error}"))),
    }
}

impl Metacrypt {
    /// Sealed, as every start is.
    pub(crate) fn new(seal: Seal, audit: Arc<Recorder>) -> Self {
        Self {
            seal,
            gate: Gate::default(),
            audit,
            changes: Mutex::default(),
            removed: Notify::new(),
            log_flaw: Arc::default(),
            without_tls: OnceLock::new(),
            mcias: OnceLock::new(),
            past: Arc::default(),
            cores: Cores::all(),
            names: OnceLock::new(),
        }
    }

    /// Whether it is.
    pub(crate) fn is_sealed(&self) -> bool {
        self.gate.is_closed()
    }

    /// The same, as it changes.
    pub(crate) fn sealed(&self) -> watch::Receiver<bool> {
        self.gate.closed()
    }

    /// What is behind the seal, for as long as it is held: sealing waits for it.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub(crate) fn open(&self) -> Result<Opened, SealError> {
        self.gate.enter()
    }

    /// Opens it, unless it is closed meanwhile.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn unseal(
        &self,
        secret: Secret,
        source: IpAddr,
        log: Log,
    ) -> Result<(), SealError> {
        let closes = self.gate.closes();
        if !self.is_sealed() {
            return Err(SealError::Unsealed);
        }
        // Known from here on, so that what was done can be told.
        self.seal.status().await?;
        let (past, now) = (Arc::clone(&self.past), self.seal.clock().steady());
        let flaw = Arc::clone(&self.log_flaw);
        let ready = move |tx: &Transaction<'_>, unsealed: &Unsealed| {
            policy::load(unsealed, tx)?;
            past.begin(unsealed, tx, now)?;
            flaw.store(newest::flaw(tx)?.map(Arc::new));
            log(tx)
        };
        let unsealed = self.seal.open(secret, source, ready).await?;
        self.gate.open(unsealed, closes)
    }

    /// Closes it: nothing begins from now on, and no key is left when this returns.
    pub(crate) async fn close(&self) {
        self.gate.close().await;
    }

    /// Another password, by whoever knows one of the secrets.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn set_password(
        &self,
        current: Secret,
        password: Zeroizing<String>,
        source: IpAddr,
        log: Log,
    ) -> Result<(), SealError> {
        let _turn = self.changes.lock().await;
        // Not held through the proof: sealing would wait for it.
        self.open()?;
        self.seal.verify(current, source).await?;
        let open = self.open()?;
        // Who was told nothing believes that the one of before is good.
        let awaited = Awaited::here();
        let log: Log = Box::new(move |tx| {
            awaited.still()?;
            log(tx)
        });
        let changed = self.seal.set_password(&open, password, Cost::DEFAULT, log);
        changed.await?;
        // Sealing does not wait for that.
        drop(open);
        self.settle().await;
        Ok(())
    }

    /// Has nothing of before in the database's file; what that cannot be now is the job's.
    async fn settle(&self) {
        self.seal.settle().await;
        if !self.seal.is_settled() {
            self.removed.notify_one();
        }
    }

    /// Another master key, by whoever knows one of the secrets.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn rotate(
        &self,
        current: Secret,
        rotation: Rotation,
        source: IpAddr,
        log: Log,
    ) -> Result<Fresh, SealError> {
        let _turn = self.changes.lock().await;
        self.open()?;
        let password = match (rotation.password, &current) {
            (Some(password), _) => password,
            (None, Secret::Password(password)) => password.clone(),
            (None, _) => return Err(SealError::NoPassword),
        };
        let now = self.seal.status().await?.ok_or(SealError::NotInitialised)?;
        self.seal.verify(current, source).await?;
        let open = self.open()?;
        let wanted = Wanted {
            cost: Cost::DEFAULT,
            recovery: rotation.recovery.unwrap_or(now.recovery),
            shares: match rotation.shares {
                Shares::AsNow => now.shares,
                Shares::Dropped => None,
                Shares::Of(needed, of) => Some((needed, of)),
            },
        };
        let mut next = Unsealed::clone(&open);
        // What opens it then is nobody's but the caller's: not without him.
        let awaited = Awaited::here();
        let log: Log = Box::new(move |tx| {
            awaited.still()?;
            log(tx)
        });
        let fresh = self.seal.rotate(&mut next, password, wanted, log).await?;
        self.gate.change(&open, next);
        drop(open);
        self.settle().await;
        Ok(fresh)
    }

    /// Makes a mount of an engine.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn mount(
        &self,
        name: &str,
        engine: &'static str,
        log: Log,
    ) -> Result<Arc<Mount>, SealError> {
        let _turn = self.changes.lock().await;
        let open = self.open()?;
        let mut next = Unsealed::clone(&open);
        let mount = self.seal.mount(&mut next, name, engine, log).await?;
        self.gate.change(&open, next);
        Ok(mount)
    }

    /// Removes a mount with all that it has. `meant`: also what is not to be lost by a slip of the pen, of which its engine says what it is; of an engine that this
    /// program does not know nobody can say, so that it is to be meant always.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn unmount(&self, name: &str, meant: bool, log: Log) -> Result<(), SealError> {
        let _turn = self.changes.lock().await;
        let open = self.open()?;
        let mut next = Unsealed::clone(&open);
        let mount = next.take(name)?;
        let looked = Arc::clone(&mount);
        let check = move |tx: &Transaction<'_>| -> Result<(), SealError> {
            match meant {
                true => log(tx),
                false => not_kept(&looked, tx).and_then(|()| log(tx)),
            }
        };
        // Who comes to it until it is gone changes nothing in it any more once it is.
        self.seal.unmount(&next, mount, Box::new(check)).await?;
        self.gate.change(&open, next);
        self.removed.notify_one();
        Ok(())
    }

    /// Changes the policy's rules and writes that down; what comes of it is in force when this returns. `whole`: all of them are replaced, which needs no policy that can
    /// be used.
    ///
    /// # Errors
    /// Those of `change`, and the database's; then the policy is as it was.
    pub(crate) async fn change_policy(
        &self,
        caller: &Caller,
        whole: bool,
        detail: Detail,
        change: impl FnOnce(&mut Vec<Rule>) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let open = self.open()?;
        let (who, now) = (caller.clone(), self.seal.clock().now());
        let write = move |tx: &Transaction<'_>| -> Result<_, EngineError> {
            let changed = policy::change(&open, tx, whole, change)?;
            policy::append(tx, &who, detail, &changed, now)?;
            Ok((changed.next, open))
        };
        let then = |(next, open): (policy::InForce, Opened)| policy::apply(&open, next);
        self.seal.store().write_then(write, then).await?;
        caller.recorded();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{Arc, mpsc},
    };

    use futures_util::FutureExt as _;
    use mcdsl::{
        clock::Clock,
        db::{self, Store, StoreError},
    };
    use tokio::sync::oneshot;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        barrier::SlotError,
        testing::{MIGRATIONS, World, nothing, password},
    };

    #[tokio::test]
    async fn of_two_changes_at_once_one_is_made() {
        let world = World::sealed().await;
        let metacrypt = &world.metacrypt;
        let here = Ipv4Addr::LOCALHOST.into();
        let one = || Secret::Password(password());
        metacrypt.unseal(one(), here, nothing()).await.unwrap();
        let change = |word: &str| {
            let word = Zeroizing::new(word.to_owned());
            metacrypt.set_password(one(), word, here, nothing())
        };
        let (first, second) = tokio::join!(change("two"), change("three"));
        let wrong = |changed: &Result<(), SealError>| {
            matches!(changed, Err(SealError::Slot(SlotError::Wrong)))
        };
        let both = [first, second];
        let made = both.iter().filter(|changed| changed.is_ok()).count();
        assert_eq!(
            (made, both.iter().filter(|c| wrong(c)).count()),
            (1, 1),
            "{both:?}"
        );
    }

    #[tokio::test]
    async fn a_mount_of_an_engine_that_is_not_known_is_removed_if_that_is_meant() {
        let world = World::open().await;
        let metacrypt = &world.metacrypt;
        let other = metacrypt.mount("other", "of-a-later-version", nothing());
        other.await.unwrap();
        let refused = metacrypt.unmount("other", false, nothing()).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("of-a-later-version") && refused.contains("confirm"),
            "{refused}"
        );
        assert!(metacrypt.open().unwrap().mounts().contains_key("other"));
        metacrypt.unmount("other", true, nothing()).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_rotation_made_is_told_whoever_keeps_the_database_busy() {
        let world = World::sealed().await;
        let metacrypt = &world.metacrypt;
        let here = Ipv4Addr::LOCALHOST.into();
        let one = || Secret::Password(password());
        metacrypt.unseal(one(), here, nothing()).await.unwrap();
        let wanted = Rotation {
            shares: Shares::Of(2, 3),
            ..Rotation::default()
        };
        let fresh = metacrypt.rotate(one(), wanted, here, nothing());
        assert_eq!(fresh.await.unwrap().shares.len(), 3);
        // At once: it waits for nothing that could fail.
        let status = metacrypt.seal.status().now_or_never().unwrap();
        let status = status.unwrap().unwrap();
        assert_eq!((status.generation, status.shares), (2, Some((2, 3))));
    }

    /// The new recovery key would be seen by nobody, and the old one opens nothing any more.
    #[tokio::test]
    async fn nothing_is_rotated_once_nobody_waits_for_it() {
        let world = World::sealed().await;
        let metacrypt = Arc::clone(&world.metacrypt);
        let here = Ipv4Addr::LOCALHOST.into();
        let one = || Secret::Password(password());
        metacrypt.unseal(one(), here, nothing()).await.unwrap();
        let turn = metacrypt.changes.lock().await;
        let (tasks, ended) = (TaskTracker::new(), oneshot::channel());
        let (tracker, other) = (tasks.clone(), Arc::clone(&metacrypt));
        let caller = tokio::spawn(async move {
            let rotate = async move {
                let made = other.rotate(one(), Rotation::default(), here, nothing());
                ended.0.send(made.await.map(drop)).unwrap();
            };
            db::to_the_end(&tracker, rotate).await
        });
        while tasks.is_empty() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        drop(turn);
        let rotated = ended.1.await.unwrap();
        assert!(
            matches!(rotated, Err(SealError::Store(StoreError::GivenUp))),
            "{rotated:?}"
        );
        let status = metacrypt.seal.status().await.unwrap().unwrap();
        assert_eq!(status.generation, 1);
        metacrypt.seal.verify(one(), here).await.unwrap();
    }

    /// A copy of the file alone is what many backups are.
    #[tokio::test]
    async fn the_file_alone_does_not_open_by_what_opened_it_before() {
        let here = Ipv4Addr::LOCALHOST.into();
        let one = || Secret::Password(password());
        for rotates in [false, true] {
            let world = World::sealed().await;
            let metacrypt = &world.metacrypt;
            metacrypt.unseal(one(), here, nothing()).await.unwrap();
            metacrypt.seal.settle().await;
            let copied = async |secret: Secret| {
                let directory = tempfile::tempdir().unwrap();
                let copy = directory.path().join("copy.db");
                std::fs::copy(metacrypt.seal.store().path(), &copy).unwrap();
                let store = Store::open(&copy, MIGRATIONS).unwrap();
                let seal = Seal::new(store, Clock::default());
                seal.verify(secret, here).await
            };
            copied(one()).await.unwrap();
            let two = Zeroizing::new("two".to_owned());
            match rotates {
                false => {
                    let set = metacrypt.set_password(one(), two, here, nothing());
                    set.await.unwrap();
                }
                true => {
                    let to = Rotation {
                        password: Some(two),
                        ..Rotation::default()
                    };
                    metacrypt.rotate(one(), to, here, nothing()).await.unwrap();
                }
            }
            let before = copied(one()).await;
            assert!(
                matches!(before, Err(SealError::Slot(SlotError::Wrong))),
                "rotates: {rotates}: {before:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_was_opening_when_it_was_closed_does_not_open_it() {
        let world = World::sealed().await;
        let metacrypt = &world.metacrypt;
        let here = Ipv4Addr::LOCALHOST.into();
        let (begun, opening) = oneshot::channel();
        let (go, wait) = mpsc::channel::<()>();
        let log: Log = Box::new(move |_| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        });
        let late = Arc::clone(metacrypt);
        let unseal = async move { late.unseal(Secret::Password(password()), here, log).await };
        let unseal = tokio::spawn(unseal);
        opening.await.unwrap();
        metacrypt.close().await;
        go.send(()).unwrap();
        let late = unseal.await.unwrap();
        assert!(matches!(late, Err(SealError::Closed)), "{late:?}");
        assert!(metacrypt.is_sealed() && metacrypt.open().is_err());
        let again = metacrypt.unseal(Secret::Password(password()), here, nothing());
        again.await.unwrap();
        assert!(!metacrypt.is_sealed() && metacrypt.open().is_ok());
    }
}
