//! Health (gRPC's health checking protocol, and `/healthz`): whether the service as a whole, and each of its own by name, takes calls.

use std::{collections::BTreeSet, future};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Says so, and knows why.
pub(super) struct Health {
    pub(super) reporter: HealthReporter,
    /// All that are told; the whole has the empty one.
    names: BTreeSet<&'static str>,
    said: Option<bool>,
    /// Whether it would be but for its seal, for `/healthz`, which knows of that.
    ready: watch::Sender<bool>,
}

/// What makes a service not ready, each with its own owner; they begin with what was said last.
pub(super) struct Causes {
    /// The service says so itself.
    pub(super) serving: watch::Receiver<bool>,
    /// The disk takes what is written.
    pub(super) writable: watch::Receiver<bool>,
    /// The service is sealed.
    pub(super) sealed: watch::Receiver<bool>,
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

    /// That it would take calls, and is sealed or not.
    pub(super) async fn say(&mut self, ready: bool, sealed: bool) {
        self.ready.send_replace(ready);
        let serving = ready && !sealed;
        if self.said.replace(serving) == Some(serving) {
            return;
        }
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
        stop: CancellationToken,
        draining: CancellationToken,
    ) {
        let Causes {
            mut serving,
            mut writable,
            mut sealed,
        } = causes;
        // A panic too is to end the server.
        let draining = draining.drop_guard();
        let watching = async {
            loop {
                let serves = *serving.borrow_and_update();
                let ready = serves && *writable.borrow_and_update();
                let is_sealed = *sealed.borrow_and_update();
                self.say(ready, is_sealed).await;
                tokio::select! {
                    Ok(()) = serving.changed() => {}
                    Ok(()) = writable.changed() => {}
                    Ok(()) = sealed.changed() => {}
                    else => future::pending().await,
                }
            }
        };
        stop.run_until_cancelled(watching).await;
        self.say(false, false).await;
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
    use std::time::Duration;

    use tonic_health::{
        pb::{self, HealthCheckRequest, health_server::Health as _},
        server::HealthService,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_is_ready_when_nothing_speaks_against_it() {
        let reporter = HealthReporter::new();
        let service = HealthService::from_health_reporter(reporter.clone());
        let (health, ready) = Health::new("metacircular.none.v1", reporter);
        assert!(!*ready.borrow(), "before it was looked at");
        let (say_serving, serving) = watch::channel(true);
        let (say_writable, writable) = watch::channel(true);
        let (say_sealed, sealed) = watch::channel(false);
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        let causes = Causes {
            serving,
            writable,
            sealed,
        };
        let watching = tokio::spawn(health.watch(causes, stop.clone(), draining.clone()));
        let told = async || {
            let of = HealthCheckRequest::default();
            let answer = service.check(tonic::Request::new(of)).await;
            answer.unwrap().into_inner().status()
                == pb::health_check_response::ServingStatus::Serving
        };
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
            say_sealed.send_replace(sealed);
            say_serving.send_replace(serving);
            say_writable.send_replace(writable);
            // The clock is the test's: it goes on once nobody has anything to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(told().await, wanted, "{description}");
            assert_eq!(*ready.borrow(), serving && writable, "{description}");
        }
        stop.cancel();
        draining.cancelled().await;
        assert!(!*ready.borrow() && !told().await, "it stops");
        watching.await.unwrap();
    }
}
