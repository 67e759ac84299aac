//! The audit log, where the server writes it.

use std::{future::Future, pin::Pin, sync::Arc};

use rusqlite::Transaction;
use tonic::{Code, Status};

use super::{
    access::{Attempt, Caller},
    disk::Scarce,
    failures::Failures,
    status::{UNFIT, UNWRITTEN},
};
use crate::{
    audit::{self, AuditError, Detail, Entry},
    auth::Identity,
    clock::Clock,
    db::{Store, StoreError, damage, is_unwritable},
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

    /// How often accounts may have something written into it while the disk has little room.
    fn scarce(&self) -> Arc<Scarce> {
        Arc::default()
    }
}

/// The log of [`crate::audit`] in a service's database. Calls that fail, or give nothing, are bounded, as [`Failures`] says.
pub struct Recorder {
    store: Arc<Store>,
    clock: Clock,
    failures: Arc<Failures>,
    scarce: Arc<Scarce>,
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
            failures: Arc::new(Failures::by(clock.clone())),
            scarce: Arc::new(Scarce::by(clock.clone())),
            clock,
        }
    }

    /// For other ways into the service by which somebody may fail: one bound for all.
    #[must_use]
    pub fn failures(&self) -> Arc<Failures> {
        Arc::clone(&self.failures)
    }

    /// Whether an account may have something written down by another way than methods, of which the server asks: with little room on the disk each has one
    /// share for all ways.
    ///
    /// # Errors
    /// It had its share of this minute.
    pub fn admit(&self, who: Option<&Identity>) -> Result<(), Status> {
        self.scarce.admit(who)
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

    /// Writes how ended what was asked by [`Caller::elsewhere`], unless that was done.
    ///
    /// # Errors
    /// Those of `done`, or that it cannot be written, whatever was done.
    pub async fn outcome<T>(&self, caller: &Caller, done: Result<T, Status>) -> Result<T, Status> {
        if caller.is_recorded() {
            return done;
        }
        let (code, message) = match &done {
            Ok(_) => (Code::Ok, ""),
            Err(status) => (status.code(), status.message()),
        };
        self.record(caller, code, message).await?;
        done
    }

    async fn write(
        &self,
        caller: &Caller,
        outcome: Code,
        message: &str,
    ) -> Result<(), RecordError> {
        let counts = outcome != Code::Ok || caller.is_empty();
        let fits = match caller.attempt() {
            Some(Attempt::Slowed) => true,
            Some(Attempt::Free) => self.failures.admit_attempt(),
            None => {
                let who = caller.identity.as_ref();
                !counts || self.failures.admit(who, caller.source)
            }
        };
        let untold = Arc::new(self.failures.untold());
        if !fits && untold.is_empty() {
            return Ok(());
        }
        let mut detail = Detail::new();
        if !message.is_empty() {
            detail = detail.text("message", message);
        }
        if let Some(by) = caller.about.by() {
            detail = detail.text("by", by);
        }
        let caller = caller.clone();
        let (clock, told) = (self.clock.clone(), Arc::clone(&untold));
        let write = move |tx: &Transaction<'_>| -> Result<(), RecordError> {
            let now = clock.now();
            Failures::tell(tx, &told, now)?;
            if fits {
                let entry = Entry {
                    actor: caller.identity.as_ref().into(),
                    source: Some(caller.source),
                    action: caller.method,
                    resource: caller.about.said().unwrap_or_default(),
                    outcome,
                    detail,
                };
                audit::append(tx, &entry, now)?;
            }
            Ok(())
        };
        let written = self.store.write(write).await;
        if written.is_err() {
            self.failures.still_untold(&untold);
        }
        written
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
            let written = self.write(caller, outcome, message).await;
            written.map_err(|error| {
                if is_unwritable(&error) {
                    return Status::unavailable(UNWRITTEN);
                }
                let unfit = matches!(&error, RecordError::Store(error) if error.is_unfit());
                if unfit || damage(&error).is_some() {
                    return Status::unavailable(UNFIT);
                }
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

    fn scarce(&self) -> Arc<Scarce> {
        Arc::clone(&self.scarce)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mc_testkit::clock::FakeClock;

    use super::*;
    use crate::{
        audit::{Filter, Record},
        db::Migration,
        server::{access::tests::caller, failures::SUPPRESSED},
    };

    fn rows(records: &[Record], action: &str) -> usize {
        let of = records.iter().filter(|record| record.action == action);
        of.count()
    }

    #[tokio::test]
    async fn what_gives_nothing_is_bounded_with_what_fails() {
        let directory = tempfile::tempdir().unwrap();
        let migration = audit::migration(1);
        let store = Store::open(&directory.path().join("a.db"), &[migration]).unwrap();
        // It stands still: all are of one minute.
        let clock = Clock::of(FakeClock::new().source());
        let recorder = Recorder::by(clock, Arc::clone(&store));
        for (description, empty, outcome, wanted) in [
            ("lists that have something", false, Code::Ok, 100),
            ("lists that have nothing", true, Code::Ok, 60),
            ("failures, after those", false, Code::NotFound, 0),
            ("lists that have something, again", false, Code::Ok, 100),
        ] {
            let rows = || async {
                let count = |db: &rusqlite::Connection| -> Result<u32, StoreError> {
                    Ok(db.query_row("SELECT count(*) FROM audit", [], |row| row.get(0))?)
                };
                store.read(count).await.unwrap()
            };
            let before = rows().await;
            for _ in 0..100 {
                let caller = caller("/s/List", true);
                if empty {
                    caller.gave_nothing();
                }
                recorder.write(&caller, outcome, "").await.unwrap();
            }
            assert_eq!(rows().await - before, wanted, "{description}");
        }
    }

    #[tokio::test]
    async fn what_fails_is_bounded_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let migration = Migration {
            version: 1,
            name: "audit",
            sql: audit::SCHEMA,
        };
        let store = Store::open(&directory.path().join("a.db"), &[migration]).unwrap();
        let clock = FakeClock::new();
        let recorder = Recorder::by(Clock::of(clock.source()), Arc::clone(&store));
        let (nobody, somebody) = (caller("/s/Nobody", false), caller("/s/Somebody", true));
        for _ in 0..100 {
            let written = recorder.write(&nobody, Code::Unauthenticated, "no");
            written.await.unwrap();
        }
        for _ in 0..70 {
            let written = recorder.write(&somebody, Code::NotFound, "no");
            written.await.unwrap();
        }
        for _ in 0..10 {
            recorder.write(&somebody, Code::Ok, "").await.unwrap();
        }
        recorder.write(&nobody, Code::Ok, "").await.unwrap();
        let read = async || {
            let all = |db: &rusqlite::Connection| -> Result<_, StoreError> {
                Ok(audit::query(db, &Filter::default())?)
            };
            store.read(all).await.unwrap()
        };
        let before = read().await;
        assert_eq!(rows(&before, "/s/Nobody"), 60 + 1);
        assert_eq!(rows(&before, "/s/Somebody"), 60 + 10);
        assert_eq!(rows(&before, SUPPRESSED), 0, "the minute is not over");
        clock.advance(Duration::from_secs(60));
        for _ in 0..2 {
            let written = recorder.write(&nobody, Code::Unauthenticated, "");
            written.await.unwrap();
        }
        let after = read().await;
        assert_eq!(rows(&after, "/s/Nobody"), 60 + 3);
        let told = after.iter().filter(|record| record.action == SUPPRESSED);
        let mut told: Vec<_> = told
            .map(|record| (record.detail.as_str(), record.name.is_some()))
            .collect();
        told.sort_unstable();
        let wanted = [
            (r#"{"calls":10}"#, true),
            (r#"{"calls":40,"network":"127.0.0.1/32"}"#, false),
        ];
        assert_eq!(told, wanted, "told once");
    }

    #[tokio::test]
    async fn who_tries_a_secret_does_not_hide_it_behind_what_else_fails() {
        let directory = tempfile::tempdir().unwrap();
        let migration = audit::migration(1);
        let store = Store::open(&directory.path().join("a.db"), &[migration]).unwrap();
        // It stands still: all are of one minute.
        let clock = Clock::of(FakeClock::new().source());
        let recorder = Recorder::by(clock, Arc::clone(&store));
        for _ in 0..100 {
            let junk = caller("/s/Junk", false);
            let written = recorder.write(&junk, Code::InvalidArgument, "no");
            written.await.unwrap();
        }
        for (method, attempt, calls, wanted) in [
            ("/s/Guess", Attempt::Slowed, 80, 80),
            ("/s/Random", Attempt::Free, 80, 60),
        ] {
            for _ in 0..calls {
                let caller = caller(method, false);
                caller.tried(attempt);
                let written = recorder.write(&caller, Code::PermissionDenied, "no");
                written.await.unwrap();
            }
            let all = |db: &rusqlite::Connection| -> Result<_, StoreError> {
                Ok(audit::query(db, &Filter::default())?)
            };
            let found: Vec<Record> = store.read(all).await.unwrap();
            assert_eq!(rows(&found, method), wanted, "{method}");
        }
    }
}
