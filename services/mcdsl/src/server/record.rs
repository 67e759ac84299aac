//! The audit log, where the server writes it.

use std::{future::Future, pin::Pin, sync::Arc, time::SystemTime};

use rusqlite::Transaction;
use tonic::{Code, Status};

use super::access::Caller;
use crate::{
    audit::{self, AuditError, Detail, Entry},
    db::{Store, StoreError},
};

/// The audit log, as far as the server writes it.
pub trait Audit: Send + Sync {
    /// Writes how a call ended that the method has not recorded itself.
    ///
    /// # Errors
    /// Then the call fails, whatever it did.
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;
}

/// The log of [`crate::audit`] in a service's database.
pub struct Recorder(pub Arc<Store>);

impl Audit for Recorder {
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
        let (caller, detail) = (caller.clone(), Detail::new().text("message", message));
        Box::pin(async move {
            let write = move |tx: &Transaction<'_>| {
                let entry = Entry {
                    actor: caller.identity.as_ref().into(),
                    source: Some(caller.source),
                    action: caller.method,
                    resource: "",
                    outcome,
                    detail,
                };
                audit::append(tx, &entry, SystemTime::now()).map_err(RecordError::from)
            };
            let written = self.0.write(write).await;
            written.map(drop).map_err(|error| {
                tracing::error!(
                    error = crate::cli::chain(&error),
                    "a call is not in the audit log"
                );
                Status::internal(
                    "the call cannot be written to the audit log; see the service's log",
                )
            })
        })
    }
}

/// Why a call is not in the audit log.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}
