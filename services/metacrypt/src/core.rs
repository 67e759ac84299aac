//! The service: the seal, and what is behind it while it is open.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use mcdsl::policy::PolicySet;
use rusqlite::{Connection, Transaction};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use zeroize::Zeroizing;

use crate::{
    barrier::{Cost, Fresh, Items, Log, Mount, Seal, SealError, Secret, Unsealed, Wanted},
    engine::EngineError,
    policy,
};

/// What is behind the seal, and the seal held open.
pub(crate) type Opened = OwnedRwLockReadGuard<Option<Unsealed>, Unsealed>;

/// Metacrypt.
pub(crate) struct Metacrypt {
    pub(crate) seal: Seal,
    pub(crate) unsealed: Arc<RwLock<Option<Unsealed>>>,
    /// What the server asks before it lets a call in.
    sealed: AtomicBool,
    /// How often it was closed: what began to open it before the last time does not.
    closes: AtomicU64,
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

impl Metacrypt {
    /// Sealed, as every start is.
    pub(crate) fn new(seal: Seal) -> Self {
        Self {
            seal,
            unsealed: Arc::default(),
            sealed: AtomicBool::new(true),
            closes: AtomicU64::new(0),
        }
    }

    /// Whether it is.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Relaxed)
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
    ) -> Result<(), EngineError> {
        let closes = self.closes.load(SeqCst);
        if !self.is_sealed() {
            return Err(SealError::Unsealed.into());
        }
        // Known from here on, so that what was done can be told.
        self.seal.status().await?;
        let unsealed = self.seal.open(secret, source, log).await?;
        let load = move |db: &Connection| -> Result<_, EngineError> {
            policy::load(&unsealed, db)?;
            Ok(unsealed)
        };
        let unsealed = self.seal.store().read(load).await?;
        let mut open = self.unsealed.write().await;
        if self.closes.load(SeqCst) != closes {
            return Err(SealError::Closed.into());
        }
        if open.is_some() {
            return Err(SealError::Unsealed.into());
        }
        *open = Some(unsealed);
        self.sealed.store(false, Relaxed);
        Ok(())
    }

    /// Closes it: nothing begins from now on, and no key is left when this returns.
    pub(crate) async fn close(&self) {
        self.closes.fetch_add(1, SeqCst);
        self.sealed.store(true, Relaxed);
        let mut open = self.unsealed.write().await;
        *open = None;
        // One that was let in before it began to close.
        self.sealed.store(true, Relaxed);
    }

    /// Another password, by whoever knows one of the secrets. One change at a time, the secret's proof included: each is of what the one before left.
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
        let open = self.unsealed.write().await;
        let unsealed = open.as_ref().ok_or(SealError::Sealed)?;
        self.seal.verify(current, source).await?;
        let changed = self
            .seal
            .set_password(unsealed, password, Cost::DEFAULT, log);
        changed.await
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
        let mut open = self.unsealed.write().await;
        let unsealed = open.as_mut().ok_or(SealError::Sealed)?;
        let password = match (rotation.password, &current) {
            (Some(password), _) => password,
            (None, Secret::Password(password)) => password.clone(),
            (None, _) => return Err(SealError::NoPassword),
        };
        let now = self.seal.status().await?.ok_or(SealError::NotInitialised)?;
        self.seal.verify(current, source).await?;
        let wanted = Wanted {
            cost: Cost::DEFAULT,
            recovery: rotation.recovery.unwrap_or(now.recovery),
            shares: match rotation.shares {
                Shares::AsNow => now.shares,
                Shares::Dropped => None,
                Shares::Of(needed, of) => Some((needed, of)),
            },
        };
        self.seal.rotate(unsealed, password, wanted, log).await
    }

    /// Makes a mount of an engine; what `shown` gives of it.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn mount<T>(
        &self,
        name: &str,
        engine: &'static str,
        log: Log,
        shown: fn(&Mount) -> T,
    ) -> Result<T, SealError> {
        let mut open = self.unsealed.write().await;
        let unsealed = open.as_mut().ok_or(SealError::Sealed)?;
        self.seal
            .mount(unsealed, name, engine, log)
            .await
            .map(shown)
    }

    /// Removes a mount with all that it has.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn unmount(&self, name: &str, log: Log) -> Result<(), SealError> {
        let mut open = self.unsealed.write().await;
        let unsealed = open.as_mut().ok_or(SealError::Sealed)?;
        self.seal.unmount(unsealed, name, log).await
    }

    /// Changes the policy's rules; what comes of it is in force when this returns.
    ///
    /// # Errors
    /// Those of `change`, and the database's; then the policy is as it was.
    pub(crate) async fn change_policy(
        &self,
        log: Log,
        change: impl FnOnce(&Items<'_>) -> Result<PolicySet, EngineError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let open = self.open().await?;
        let write = move |tx: &Transaction<'_>| -> Result<_, EngineError> {
            let set = change(&policy::system(&open)?.items(tx))?;
            log(tx)?;
            Ok((set, open))
        };
        let then = |(set, open): (PolicySet, Opened)| policy::apply(&open, set);
        self.seal.store().write_then(write, then).await
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
        db::{Migration, Store},
    };
    use tempfile::TempDir;
    use tokio::sync::oneshot;

    use super::*;
    use crate::barrier::{SCHEMA, SlotError};

    const MIGRATIONS: &[Migration] = &[Migration::new(1, "seal", SCHEMA)];
    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };

    fn password() -> Zeroizing<String> {
        Zeroizing::new("one".to_owned())
    }

    async fn metacrypt() -> (TempDir, Arc<Metacrypt>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("metacrypt.db"), MIGRATIONS).unwrap();
        let seal = Seal::new(store, Clock::default());
        let wanted = Wanted {
            cost: CHEAP,
            recovery: false,
            shares: None,
        };
        seal.init(password(), wanted).await.unwrap();
        (directory, Arc::new(Metacrypt::new(seal)))
    }

    fn nothing() -> Log {
        Box::new(|_| Ok(()))
    }

    #[tokio::test]
    async fn of_two_changes_at_once_one_is_made() {
        let (_directory, metacrypt) = metacrypt().await;
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
    async fn what_a_rotation_made_is_told_whoever_keeps_the_database_busy() {
        let (_directory, metacrypt) = metacrypt().await;
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

    #[tokio::test]
    async fn what_was_opening_when_it_was_closed_does_not_open_it() {
        let (_directory, metacrypt) = metacrypt().await;
        let here = Ipv4Addr::LOCALHOST.into();
        let (begun, opening) = oneshot::channel();
        let (go, wait) = mpsc::channel::<()>();
        let log: Log = Box::new(move |_| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        });
        let late = Arc::clone(&metacrypt);
        let unseal = async move { late.unseal(Secret::Password(password()), here, log).await };
        let unseal = tokio::spawn(unseal);
        opening.await.unwrap();
        metacrypt.close().await;
        go.send(()).unwrap();
        let late = unseal.await.unwrap();
        assert!(
            matches!(late, Err(EngineError::Seal(SealError::Closed))),
            "{late:?}"
        );
        assert!(metacrypt.is_sealed() && metacrypt.open().await.is_err());
        let again = metacrypt.unseal(Secret::Password(password()), here, nothing());
        again.await.unwrap();
        assert!(!metacrypt.is_sealed() && metacrypt.open().await.is_ok());
    }
}
