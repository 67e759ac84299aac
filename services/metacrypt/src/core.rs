//! The service: the seal, and what is behind it while it is open.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::{RwLock, RwLockReadGuard};
use zeroize::Zeroizing;

use crate::barrier::{Cost, Fresh, Seal, SealError, Secret, Unsealed, Wanted};

/// Metacrypt.
pub(crate) struct Metacrypt {
    pub(crate) seal: Seal,
    open: RwLock<Option<Unsealed>>,
    /// What the server asks before it lets a call in.
    sealed: AtomicBool,
}

impl Metacrypt {
    /// Sealed, as every start is.
    pub(crate) fn new(seal: Seal) -> Self {
        Self {
            seal,
            open: RwLock::new(None),
            sealed: AtomicBool::new(true),
        }
    }

    /// Whether it is.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    /// What is behind the seal, for as long as it is held: sealing waits for it.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub(crate) async fn open(&self) -> Result<RwLockReadGuard<'_, Unsealed>, SealError> {
        let open = self.open.read().await;
        RwLockReadGuard::try_map(open, Option::as_ref).map_err(|_| SealError::Sealed)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn unseal(&self, secret: Secret, source: IpAddr) -> Result<(), SealError> {
        if !self.is_sealed() {
            return Err(SealError::Unsealed);
        }
        let unsealed = self.seal.open(secret, source).await?;
        let mut open = self.open.write().await;
        *open = Some(unsealed);
        self.sealed.store(false, Relaxed);
        Ok(())
    }

    /// Closes it: nothing begins from now on, and no key is left when this returns.
    pub(crate) async fn close(&self) {
        self.sealed.store(true, Relaxed);
        let mut open = self.open.write().await;
        *open = None;
        // One that was let in before it began to close.
        self.sealed.store(true, Relaxed);
    }

    /// Another password, by whoever knows the one that it has.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn set_password(
        &self,
        current: Zeroizing<String>,
        password: Zeroizing<String>,
        source: IpAddr,
    ) -> Result<(), SealError> {
        drop(self.seal.open(Secret::Password(current), source).await?);
        let open = self.open().await?;
        self.seal.set_password(&open, password, Cost::DEFAULT).await
    }

    /// Another master key, by whoever knows the password.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) async fn rotate(
        &self,
        password: Zeroizing<String>,
        wanted: Wanted,
        source: IpAddr,
    ) -> Result<Fresh, SealError> {
        drop(
            self.seal
                .open(Secret::Password(password.clone()), source)
                .await?,
        );
        let mut open = self.open.write().await;
        let unsealed = open.as_mut().ok_or(SealError::Sealed)?;
        self.seal.rotate(unsealed, password, wanted).await
    }
}
