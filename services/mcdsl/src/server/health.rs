//! Health (gRPC's health checking protocol): whether the service as a whole, and each of its own by name, takes calls.

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
}

impl Health {
    pub(super) fn new(package: &str, reporter: HealthReporter) -> Self {
        let mut names = service_names(package);
        names.insert("");
        Self {
            reporter,
            names,
            said: None,
        }
    }

    pub(super) async fn say(&mut self, serving: bool) {
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
        mut serving: watch::Receiver<bool>,
        sealed: impl Fn() -> bool,
        stop: CancellationToken,
        draining: CancellationToken,
    ) {
        // A panic too is to end the server.
        let draining = draining.drop_guard();
        let watching = async {
            loop {
                let now = *serving.borrow_and_update() && !sealed();
                self.say(now).await;
                tokio::select! {
                    Ok(()) = serving.changed() => {}
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
