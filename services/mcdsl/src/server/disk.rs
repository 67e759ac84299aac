//! A service whose disk is full is not ready, whatever it says of itself: this looks whether there is room again.

use std::{io, path::Path, sync::Arc, time::Duration};

use super::Handle;
use crate::{db::Store, shutdown::Shutdown};

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

/// Bytes that the file system of a path has left for who is not root.
///
/// # Errors
/// If the path is not there.
pub fn room(path: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(found
        .blocks_available()
        .saturating_mul(found.fragment_size()))
}

async fn follow(handle: &Handle, store: &Arc<Store>) {
    let mut full = store.full();
    loop {
        // It is closed with the store, which is held here.
        let _ = full.wait_for(|full| *full).await;
        handle.room.send_replace(false);
        while *full.borrow() {
            tokio::time::sleep(LOOK).await;
            // Why it fails is known.
            let _ = store.probe().await;
        }
        handle.room.send_replace(true);
    }
}
