//! The end of a daemon.

use std::{sync::Arc, time::Duration};

use tokio::time::interval;

use super::Handle;
use crate::{control::Control, listener::Deadline, upgrade::Predecessor};

/// How long a stop waits for the admin API and the metrics endpoint once the connections have ended.
const TASKS_END: Duration = Duration::from_secs(3);
/// How often a thread that waits for the predecessor's end looks whether it is waited for itself.
const PREDECESSOR: Duration = Duration::from_secs(1);
/// How often a daemon that was replaced tells what is left of its connections.
const REPORT: Duration = Duration::from_secs(1);

impl Handle {
    /// Stops accepting, drains, stops. The firewall stays attached. A daemon that was replaced takes its time, until `hurry`. Returns
    /// how many connections the deadline cut.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> u64 {
        let control = Arc::clone(&self.control);
        let replaced = tokio::task::spawn_blocking(move || control.end_upgrades()).await;
        let replaced = replaced.unwrap_or(false);
        let config = &self.control.config;
        let deadline = Deadline::new(match replaced {
            true => config.upgrade_drain_timeout,
            false => config.drain_timeout,
        });
        let hurried = async {
            hurry.await;
            deadline.shorten(config.drain_timeout);
            std::future::pending().await
        };
        let drained = async {
            // Under systemd the end of this process ends the one before it, with the connections that it still drains.
            let before = predecessor_ends(self.control.predecessor().cloned(), &deadline);
            tokio::join!(self.control.listeners.drain(&deadline), before).0
        };
        let cut = tokio::select! {
            cut = drained => cut,
            never = hurried => never,
            never = report(&self.control) => never,
        };
        self.control.services().cancel();
        self.tasks.close();
        // A client of the admin API that does not read must not keep the daemon.
        if tokio::time::timeout(TASKS_END, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("an admin or metrics connection was cut");
        }
        if !replaced {
            // Fails only if somebody removed it.
            let _ = std::fs::remove_file(&self.control.config.admin_socket);
        }
        self.control.release();
        cut
    }
}

/// Tells the successor, if there is one, what is left.
async fn report(control: &Control) -> u64 {
    let mut tick = interval(REPORT);
    loop {
        tick.tick().await;
        control.report();
    }
}

async fn predecessor_ends(predecessor: Option<Predecessor>, deadline: &Deadline) {
    let Some(predecessor) = predecessor else {
        return;
    };
    let ended = async {
        loop {
            let predecessor = predecessor.clone();
            let waited = tokio::task::spawn_blocking(move || predecessor.wait_end(PREDECESSOR));
            // A panic there is as good as its end.
            if waited.await.unwrap_or(true) {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = deadline.passed() => {}
    }
}
