//! Health (gRPC's health checking protocol, and `/healthz`): whether the service as a whole, and each of its own by name, takes calls.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often a service is looked at whether it is sealed.
const LOOK: Duration = Duration::from_secs(1);

/// Says so, and knows why.
pub(super) struct Health {
    pub(super) reporter: HealthReporter,
    /// All that are told; the whole has the empty one.
    names: BTreeSet<&'static str>,
    said: Option<bool>,
    /// The same, for `/healthz`.
    ready: watch::Sender<bool>,
}

/// What makes a service not ready, each with its own owner; they begin with what was said last.
pub(super) struct Causes {
    /// The service says so itself.
    pub(super) serving: watch::Receiver<bool>,
    /// The disk takes what is written.
    pub(super) writable: watch::Receiver<bool>,
}

impl Health {
    /// What it says can be read behind it.
    pub(super) fn new(package: &str, reporter: HealthReporter) -> (Self, watch::Receiver<bool>) {
        let mut names = service_names(package);
        names.insert("");
        let (ready, is_ready) = watch::channel(false);
        let health = Self {
            reporter,
            names,
            said: None,
            ready,
        };
        (health, is_ready)
    }

    pub(super) async fn say(&mut self, serving: bool) {
        if self.said.replace(serving) == Some(serving) {
            return;
        }
        self.ready.send_replace(serving);
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Until the service is to stop, which is said before `draining` is cancelled.
    pub(super) async fn watch(
        mut self,
        causes: Causes,
        sealed: impl Fn() -> bool,
        stop: CancellationToken,
        draining: CancellationToken,
    ) {
        let Causes {
            mut serving,
            mut writable,
        } = causes;
        // A panic too is to end the server.
        let draining = draining.drop_guard();
        let watching = async {
            loop {
                let serves = *serving.borrow_and_update();
                let now = serves && *writable.borrow_and_update() && !sealed();
                self.say(now).await;
                tokio::select! {
                    Ok(()) = serving.changed() => {}
                    Ok(()) = writable.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        stop.run_until_cancelled(watching).await;
        self.say(false).await;
        drop(draining);
    }
}

/// The services of a package, fully qualified.
pub(super) fn service_names(package: &str) -> BTreeSet<&'static str> {
    let methods = mc_proto::METHODS.iter().filter(|m| m.package == package);
    let name = |path: &'static str| path.split('/').nth(1);
    methods.filter_map(|method| name(method.path)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_is_ready_when_nothing_speaks_against_it() {
        let (reporter, _service) = tonic_health::server::health_reporter();
        let (health, mut ready) = Health::new("metacircular.none.v1", reporter);
        assert!(!*ready.borrow(), "before it was looked at");
        let (say_serving, serving) = watch::channel(true);
        let (say_writable, writable) = watch::channel(true);
        let is_sealed = Arc::new(AtomicBool::new(false));
        let sealed = Arc::clone(&is_sealed);
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        let watching = tokio::spawn(health.watch(
            Causes { serving, writable },
            move || sealed.load(Relaxed),
            stop.clone(),
            draining.clone(),
        ));
        for (description, serving, writable, sealed, wanted) in [
            ("well", true, true, false, true),
            ("it says no", false, true, false, false),
            ("and the disk is full", false, false, false, false),
            (
                "there is room again, it still says no",
                false,
                true,
                false,
                false,
            ),
            ("it says yes", true, true, false, true),
            ("the disk is full", true, false, false, false),
            (
                "it says yes, and the disk is full",
                true,
                false,
                false,
                false,
            ),
            ("there is room", true, true, false, true),
            ("sealed", true, true, true, false),
            ("unsealed", true, true, false, true),
        ] {
            is_sealed.store(sealed, Relaxed);
            say_serving.send_replace(serving);
            say_writable.send_replace(writable);
            // The clock is the test's.
            tokio::time::sleep(2 * LOOK).await;
            assert_eq!(*ready.borrow_and_update(), wanted, "{description}");
        }
        stop.cancel();
        draining.cancelled().await;
        assert!(!*ready.borrow(), "it stops");
        watching.await.unwrap();
    }
}
