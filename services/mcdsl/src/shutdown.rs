//! The one way a service stops: a token that everything watches, a tracker that everything runs on, and a
//! grace period after which the process leaves regardless.
//!
//! A task that the service cannot do without is started by [`Shutdown::spawn`]: if it panics, the service
//! stops rather than live on half-alive. Tasks per connection go to [`Shutdown::tracker`] directly, where a
//! panic costs that connection. No task is detached. Rejected: a `JoinSet`, which one owner must poll.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Shared by every task of a service; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    panicked: Arc<AtomicBool>,
}

/// The signals of a service. From its creation on none of them kills.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// To be made before there is anything that an untimely end would harm.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn stop(&mut self) {
        stop(&mut self.terminate, &mut self.interrupt).await;
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything ended within the grace period.
    Clean,
    /// This many tasks were still running when it was over.
    Unfinished(usize),
    /// Everything ended, but a task of [`Shutdown::spawn`] had panicked.
    Panicked,
}

impl Shutdown {
    /// Nothing runs, nothing is cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the service is to stop. Use `child_token` for what may stop earlier.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// For tasks that may fail on their own.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Starts a task that the service cannot do without: its panic is logged and stops the service.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PanicGuard {
            name,
            shutdown: self.clone(),
        };
        self.tracker.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Tells systemd that the service is ready, then waits for SIGTERM, SIGINT or a cancelled token and cancels the
    /// token. Each SIGHUP calls `on_hangup`, which ends when the reload has; systemd is told of both.
    pub async fn wait_for_signal(&self, signals: &mut Signals, mut on_hangup: impl AsyncFnMut()) {
        tell_systemd(&[NotifyState::Ready]);
        loop {
            let Signals {
                terminate,
                interrupt,
                hangup,
            } = &mut *signals;
            tokio::select! {
                () = stop(terminate, interrupt) => {}
                () = self.token.cancelled() => {}
                _ = hangup.recv() => {
                    reloading();
                    on_hangup().await;
                    tell_systemd(&[NotifyState::Ready]);
                    continue;
                }
            }
            tell_systemd(&[NotifyState::Stopping]);
            self.token.cancel();
            return;
        }
    }

    /// Cancels the token and waits for every task, at most for `grace`. What is left then ends with the process.
    pub async fn finish(&self, grace: Duration) -> Ended {
        self.token.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            return Ended::Unfinished(self.tracker.len());
        }
        match self.panicked.load(Ordering::Acquire) {
            true => Ended::Panicked,
            false => Ended::Clean,
        }
    }
}

/// Tells systemd that the service is this process from now on: the one that takes over, said by both (either may be
/// the one whose word systemd takes).
pub fn main_process_is(pid: u32) {
    tell_systemd(&[NotifyState::MainPid(pid)]);
}

/// For `Type=notify`; without systemd, nothing.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, ?state, "cannot tell systemd");
    }
}

/// The time lets systemd tell this reload from an earlier one (`Type=notify-reload`).
fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_systemd(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot tell systemd of the reload"),
    }
}

/// Notices the unwinding of the task that owns it.
struct PanicGuard {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked; stopping the service");
            self.shutdown.panicked.store(true, Ordering::Release);
            self.shutdown.token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn tasks_that_heed_the_token_end_cleanly() {
        let shutdown = Shutdown::new();
        let token = shutdown.token().clone();
        shutdown.spawn("watcher", async move { token.cancelled().await });
        assert_eq!(shutdown.finish(LONG).await, Ended::Clean);
    }

    #[tokio::test]
    async fn a_panic_stops_the_service() {
        let shutdown = Shutdown::new();
        shutdown.spawn("broken", async { panic!("on purpose") });
        let mut signals = Signals::new().unwrap();
        shutdown.wait_for_signal(&mut signals, async || {}).await;
        assert_eq!(shutdown.finish(LONG).await, Ended::Panicked);
    }

    #[tokio::test]
    async fn a_stuck_task_is_reported() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stuck", std::future::pending());
        assert_eq!(
            shutdown.finish(Duration::from_millis(1)).await,
            Ended::Unfinished(1)
        );
    }
}
