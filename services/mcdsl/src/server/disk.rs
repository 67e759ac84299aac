//! A service whose disk is full is not ready, whatever it says of itself: this looks whether there is room again.

use std::{path::Path, sync::Arc, time::Duration};

use super::Handle;
use crate::{
    db::Store,
    files::{self, directory_of},
    human,
    shutdown::Shutdown,
};

/// Bytes: with less left on the disk, it is told. SQLite's log alone may need some MiB.
const LITTLE: u64 = 64 << 20;
/// Between two attempts to write.
const LOOK: Duration = Duration::from_secs(1);

impl Handle {
    /// Has health say that the service takes no calls from a write that failed for want of room on the disk until one succeeds.
    pub fn follow_disk(self: &Arc<Self>, store: &Arc<Store>, shutdown: &Shutdown) {
        let (handle, store) = (Arc::clone(self), Arc::clone(store));
        let stop = shutdown.token().clone();
        shutdown.spawn("disk", async move {
            stop.run_until_cancelled(follow(&handle, &store)).await;
        });
    }
}

/// That the disk of a database has little left: of its directory, where its log grows and snapshots are.
#[must_use]
pub fn little_left(database: &Path) -> Option<String> {
    let directory = directory_of(database);
    let left = files::room(directory).ok().filter(|left| *left < LITTLE)?;
    Some(format!(
        "the disk of {} has {} left; make room: what cannot be written is refused",
        directory.display(),
        human::bytes(left)
    ))
}

async fn follow(handle: &Handle, store: &Arc<Store>) {
    let mut full = store.full();
    loop {
        // It is closed with the store, which is held here.
        let _ = full.wait_for(|full| *full).await;
        handle.writable.send_replace(false);
        while *full.borrow() {
            tokio::time::sleep(LOOK).await;
            // Why it fails is known.
            let _ = store.probe().await;
        }
        handle.writable.send_replace(true);
    }
}
