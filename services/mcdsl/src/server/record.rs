//! The audit log, where the server writes it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::Transaction;
use tonic::{Code, Status};

use super::access::Caller;
use crate::{
    audit::{self, Actor, AuditError, Detail, Entry},
    clock::Clock,
    db::{Store, StoreError},
};

/// Rows a [`WINDOW`] of failures of nobody who is known: the log is never pruned, and anybody can fail.
const MAX_ANONYMOUS: u32 = 60;
/// What [`MAX_ANONYMOUS`] is counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// Says how many failures of a window have no row.
const SUPPRESSED: &str = "audit.suppressed";

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

/// The log of [`crate::audit`] in a service's database. Of calls that fail and whose callers have no identity at most 60 a minute get a row;
/// the others are counted, and the first row after that minute is `audit.suppressed` with their number.
pub struct Recorder {
    store: Arc<Store>,
    clock: Clock,
    anonymous: Mutex<Anonymous>,
}

impl Recorder {
    /// In this database, which has [`audit::SCHEMA`].
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self::by(Clock::default(), store)
    }

    /// The same, with the times of this clock.
    #[must_use]
    pub fn by(clock: Clock, store: Arc<Store>) -> Self {
        Self {
            store,
            clock,
            anonymous: Mutex::default(),
        }
    }

    /// Makes a change and writes it down in one transaction: both are, or neither is. What fails is the
    /// server's to write down.
    ///
    /// # Errors
    /// What the database says; then nothing was changed.
    pub async fn change<T: Send + 'static>(
        &self,
        caller: &Caller,
        resource: &str,
        detail: Detail,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let (who, resource) = (caller.clone(), resource.to_owned());
        let now = self.clock.now();
        let write = move |tx: &Transaction<'_>| -> Result<T, RecordError> {
            let value = change(tx).map_err(StoreError::from)?;
            let entry = Entry {
                actor: who.identity.as_ref().into(),
                source: Some(who.source),
                action: who.method,
                resource: &resource,
                outcome: Code::Ok,
                detail,
            };
            audit::append(tx, &entry, now)?;
            Ok(value)
        };
        let value = self.store.write(write).await?;
        caller.recorded();
        Ok(value)
    }

    async fn write(
        &self,
        caller: &Caller,
        outcome: Code,
        message: &str,
        now: Instant,
    ) -> Result<(), RecordError> {
        let counted = caller.identity.is_none() && outcome != Code::Ok;
        let (fits, suppressed) = self.anonymous().admit(counted, now);
        if !fits && suppressed == 0 {
            return Ok(());
        }
        let (caller, detail) = (caller.clone(), Detail::new().text("message", message));
        let clock = self.clock.clone();
        let write = move |tx: &Transaction<'_>| -> Result<(), RecordError> {
            let now = clock.now();
            if suppressed > 0 {
                let number = i64::try_from(suppressed).unwrap_or(i64::MAX);
                let entry = Entry {
                    actor: Actor::Anonymous,
                    source: None,
                    action: SUPPRESSED,
                    resource: "",
                    outcome: Code::ResourceExhausted,
                    detail: Detail::new().number("calls", number),
                };
                audit::append(tx, &entry, now)?;
            }
            if fits {
                let entry = Entry {
                    actor: caller.identity.as_ref().into(),
                    source: Some(caller.source),
                    action: caller.method,
                    resource: "",
                    outcome,
                    detail,
                };
                audit::append(tx, &entry, now)?;
            }
            Ok(())
        };
        let written = self.store.write(write).await;
        if written.is_err() {
            // They are still to be told.
            self.anonymous().untold += suppressed;
        }
        written
    }

    fn anonymous(&self) -> std::sync::MutexGuard<'_, Anonymous> {
        self.anonymous
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audit for Recorder {
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
        Box::pin(async move {
            let written = self.write(caller, outcome, message, Instant::now()).await;
            written.map_err(|error| {
                tracing::error!(
                    error = crate::cli::chain(&error),
                    "a call is not in the audit log"
                );
                let text = "the call cannot be written to the audit log; see the service's log";
                match error {
                    RecordError::Store(StoreError::Busy) => Status::unavailable(text),
                    _ => Status::internal(text),
                }
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

impl From<RecordError> for Status {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            RecordError::Audit(error) => error.into(),
        }
    }
}

/// Failures of nobody who is known.
#[derive(Default)]
struct Anonymous {
    /// When the window began; `None` before the first.
    since: Option<Instant>,
    /// Rows of the window.
    rows: u32,
    /// What has no row in the window.
    suppressed: u64,
    /// What had none in windows before, and no row says so yet.
    untold: u64,
}

impl Anonymous {
    /// Whether a call gets its row, and how many are to be told of before it. `counted`: it is a failure of nobody.
    fn admit(&mut self, counted: bool, now: Instant) -> (bool, u64) {
        if (self.since).is_some_and(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.untold += std::mem::take(&mut self.suppressed);
            (self.since, self.rows) = (None, 0);
        }
        let fits = !counted || self.rows < MAX_ANONYMOUS;
        if counted {
            self.since.get_or_insert(now);
            self.rows += u32::from(fits);
            self.suppressed += u64::from(!fits);
        }
        (fits, std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Filter, Record},
        db::Migration,
        server::access::tests::caller,
    };

    fn rows(records: &[Record], action: &str) -> usize {
        let of = records.iter().filter(|record| record.action == action);
        of.count()
    }

    #[tokio::test]
    async fn what_nobody_fails_at_is_bounded_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let migration = Migration {
            version: 1,
            name: "audit",
            sql: audit::SCHEMA,
        };
        let store = Store::open(&directory.path().join("a.db"), &[migration]).unwrap();
        let recorder = Recorder::new(Arc::clone(&store));
        let (nobody, somebody) = (caller("/s/Nobody", false), caller("/s/Somebody", true));
        let begin = Instant::now();
        let more = MAX_ANONYMOUS + 40;
        for _ in 0..more {
            let written = recorder.write(&nobody, Code::Unauthenticated, "no", begin);
            written.await.unwrap();
        }
        for code in [Code::Unauthenticated, Code::Ok] {
            let written = recorder.write(&somebody, code, "", begin);
            written.await.unwrap();
        }
        let written = recorder.write(&nobody, Code::Ok, "", begin);
        written.await.unwrap();
        let read = async || {
            let all = |db: &rusqlite::Connection| -> Result<_, StoreError> {
                Ok(audit::query(db, &Filter::default())?)
            };
            store.read(all).await.unwrap()
        };
        let before = read().await;
        assert_eq!(rows(&before, "/s/Nobody"), MAX_ANONYMOUS as usize + 1);
        assert_eq!(rows(&before, "/s/Somebody"), 2);
        assert_eq!(rows(&before, SUPPRESSED), 0, "the minute is not over");
        for _ in 0..2 {
            let written = recorder.write(&nobody, Code::Unauthenticated, "", begin + WINDOW);
            written.await.unwrap();
        }
        let after = read().await;
        assert_eq!(rows(&after, "/s/Nobody"), MAX_ANONYMOUS as usize + 3);
        let told = after.iter().filter(|record| record.action == SUPPRESSED);
        let told: Vec<_> = told.map(|record| record.detail.as_str()).collect();
        assert_eq!(told, [r#"{"calls":40}"#], "told once");
    }
}
