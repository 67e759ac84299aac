//! The stream of what MCIAS revokes.

use std::{sync::Arc, time::Duration};

use mc_proto::mcias::v1::{WatchRevocationsRequest, revocation::What, revocation_event::Event};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Client, SILENCE};
use crate::auth::{Revocation, Revocations, Revoked};

/// Between attempts to have the stream again.
const RETRY: Duration = Duration::from_secs(1);
/// Between what is told of attempts that fail one after the other: once at first, then so often.
const TOLD: Duration = Duration::from_secs(60);

impl Client {
    /// Keeps the revocations up to date until it is cancelled.
    pub async fn watch(self: Arc<Self>, cancel: CancellationToken) {
        let watching = async {
            let mut told = None;
            loop {
                let failed = self.stream().await.err();
                // What was whole in between is told at once when it fails again.
                if self.state().heard.is_some() {
                    told = None;
                }
                if let Some(error) = failed
                    && told.is_none_or(|at| self.since(at) >= TOLD)
                {
                    told = Some(self.clock.steady());
                    tracing::warn!(
                        error = error.message(),
                        "MCIAS's revocations are not known as they happen; tokens are asked for"
                    );
                }
                self.state().heard = None;
                tokio::time::sleep(RETRY).await;
            }
        };
        cancel.run_until_cancelled(watching).await;
    }

    async fn stream(&self) -> Result<(), Status> {
        self.refresh_keys(true).await?;
        let request = self.request(WatchRevocationsRequest {}, None);
        let mut stream = self
            .grpc
            .clone()
            .watch_revocations(request)
            .await?
            .into_inner();
        // Collected anew: what was revoked before and is not sent is forgotten.
        let (mut all, mut synced) = (Revocations::default(), false);
        loop {
            let event = tokio::time::timeout(SILENCE, stream.message()).await;
            let event = event.map_err(|_| Status::unavailable("the stream is silent"))??;
            let event = event
                .ok_or_else(|| Status::unavailable("the stream ended"))?
                .event;
            if self.heard(event, &mut all, &mut synced)? {
                // A key that was retired is to verify nothing any more.
                self.refresh_keys(true).await?;
            }
        }
    }

    /// Takes an event in. Whether it is time to look at the keys.
    fn heard(
        &self,
        event: Option<Event>,
        all: &mut Revocations,
        synced: &mut bool,
    ) -> Result<bool, Status> {
        let mut state = self.state();
        let mut keys = false;
        match event {
            Some(Event::Revoked(revoked)) => {
                // One that is not understood would be missed: tokens are asked for then.
                let revocation = revocation(revoked)
                    .ok_or_else(|| Status::internal("a revocation of an unknown kind"))?;
                // Perhaps since a key is known to others: it is not to verify anything any more.
                keys = revocation.what == Revoked::Everything;
                state.forget_answers();
                let into = if *synced { &mut state.revocations } else { all };
                into.add(revocation, self.clock.now())
                    .map_err(|e| Status::resource_exhausted(e.to_string()))?;
            }
            Some(Event::Synced(_)) => {
                state.revocations = std::mem::take(all);
                state.forget_answers();
                *synced = true;
                tracing::info!(
                    revocations = state.revocations.len(),
                    "MCIAS's revocations are known as they happen"
                );
            }
            Some(Event::Heartbeat(_)) => keys = true,
            None => return Err(Status::internal("an event of an unknown kind")),
        }
        if *synced {
            state.heard = Some(self.clock.steady());
        }
        Ok(keys)
    }
}

fn revocation(sent: mc_proto::mcias::v1::Revocation) -> Option<Revocation> {
    let what = match sent.what? {
        What::Token(id) => Revoked::Token(id),
        What::Session(id) => Revoked::Session(id),
        What::Account(id) => Revoked::Account(id),
        What::Everything(_) => Revoked::Everything,
    };
    Some(Revocation {
        what,
        issued_until: sent.issued_until?.try_into().ok()?,
        forget: sent.forget?.try_into().ok()?,
    })
}
