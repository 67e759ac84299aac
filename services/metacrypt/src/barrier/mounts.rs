//! Mounts that are made and removed.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use mcdsl::db::StoreError;
use rusqlite::Transaction;

use super::{Log, Mount, Seal, SealError, Unsealed, rows, seconds};

impl Seal {
    /// Makes a mount for an engine of this kind.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn mount(
        &self,
        unsealed: &mut Unsealed,
        name: &str,
        engine: &'static str,
        log: Log,
    ) -> Result<Arc<Mount>, SealError> {
        let (master, generation) = (unsealed.master.clone(), unsealed.generation);
        let (wanted, now) = (name.to_owned(), seconds(self.clock.now()));
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            rows::is_still(tx, generation)?;
            let mount = rows::new_mount(tx, &master, &wanted, engine, now)?;
            log(tx)?;
            Ok(mount)
        };
        let mount = Arc::new(self.store.write(write).await?);
        unsealed.mounts.insert(name.to_owned(), Arc::clone(&mount));
        Ok(mount)
    }

    /// Removes a mount that was taken out, with its data key; what it had is deleted by [`Self::sweep`]. Snapshots have both: whoever opens the seal of their time
    /// can read them.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn unmount(
        &self,
        unsealed: &Unsealed,
        mount: Arc<Mount>,
        log: Log,
    ) -> Result<(), SealError> {
        let generation = unsealed.generation;
        let write = move |tx: &Transaction<'_>| -> Result<_, SealError> {
            rows::is_still(tx, generation)?;
            rows::drop_mount(tx, &mount)?;
            log(tx)
        };
        self.store.write(write).await
    }

    /// Writes what was changed and deleted into the database's file itself, so that neither that file alone nor SQLite's log has anything of before. What fails is
    /// left for the next time ([`Self::is_settled`]).
    pub(crate) async fn settle(&self) {
        let store = Arc::clone(&self.store);
        // Before: whoever fails at the same time says that it is not.
        self.settled.store(true, Relaxed);
        let settled = tokio::task::spawn_blocking(move || store.settle()).await;
        let failed = match settled {
            Ok(Ok(())) => return,
            Ok(Err(error)) => mcdsl::cli::chain(&error),
            Err(_) => mcdsl::cli::chain(&StoreError::Thread),
        };
        self.settled.store(false, Relaxed);
        tracing::warn!(
            error = failed,
            "what was changed or deleted is still in the database's file or log; it is tried again"
        );
    }

    /// Whether nothing is left for [`Self::settle`]; of a new process it is not known.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Deletes what removed mounts had, in pieces, so that others write in between. Whether there was any.
    ///
    /// # Errors
    /// [`SealError`]; what is left is deleted by the next.
    pub async fn sweep(&self) -> Result<bool, SealError> {
        let mut any = false;
        while self.store.write(rows::sweep).await? {
            any = true;
        }
        Ok(any)
    }
}
