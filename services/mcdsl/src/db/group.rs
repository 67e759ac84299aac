//! Writers in line, and what they change, committed together.
//!
//! SQLite has one writer at a time, and each commit waits for the disk: who comes meanwhile shares the next one. A change that fails is undone alone, by a savepoint,
//! and told when the others are: it may have failed by what they changed. Whose changes they are takes turns ([`crate::turns`]).
//! What puts a change in force in memory runs before the next change is made, so one that has such a part is the last of its commit.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Transaction, TransactionBehavior, ffi};
use tokio::sync::oneshot;

use super::{
    DbError,
    asker::{Owner, Place},
    store::{Store, StoreError, run},
};
use crate::turns::Rounds;

/// Changes of one commit, at most.
const MOST: usize = 256;
/// Once it has taken so long, a commit takes no more: the first one waits for it.
const LONG: Duration = match cfg!(test) {
    false => Duration::from_millis(20),
    true => Duration::MAX,
};

/// A change in line.
trait Change: Send {
    /// Whether nobody waits for it any more, so that it is not made.
    fn is_given_up(&self) -> bool;
    /// Makes it; `false`: it failed, and what it did is to be undone.
    fn make(&mut self, tx: &Transaction<'_>) -> bool;
    /// Why it failed, if it says so.
    fn failure(&self) -> Option<&(dyn Error + 'static)>;
    /// Whether something is to be put in force before the next one is made.
    fn is_last(&self) -> bool;
    /// Puts it in force and tells who waits; or that it was not committed.
    fn end(self: Box<Self>, store: &Store, committed: Result<(), StoreError>);
}

/// What somebody writes.
pub(super) struct Write<T, U, E, F, G> {
    write: Option<F>,
    /// What it gave; `None`: it was not made, or has panicked.
    made: Option<Result<T, E>>,
    changed: bool,
    then: G,
    is_last: bool,
    answer: oneshot::Sender<Result<U, E>>,
    place: Place,
}

impl<T, U, E, F, G> Write<T, U, E, F, G>
where
    T: Send,
    U: Send,
    E: Error + From<StoreError> + Send + 'static,
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    G: FnOnce(T) -> U + Send,
{
    /// And where its answer comes.
    pub(super) fn new(
        write: F,
        then: G,
        is_last: bool,
        place: Place,
    ) -> (Self, oneshot::Receiver<Result<U, E>>) {
        let (answer, answered) = oneshot::channel();
        let this = Self {
            write: Some(write),
            made: None,
            changed: false,
            then,
            is_last,
            answer,
            place,
        };
        (this, answered)
    }
}

impl<T, U, E, F, G> Change for Write<T, U, E, F, G>
where
    T: Send,
    U: Send,
    E: Error + From<StoreError> + Send + 'static,
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    G: FnOnce(T) -> U + Send,
{
    fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    fn make(&mut self, tx: &Transaction<'_>) -> bool {
        let before = tx.total_changes();
        let write = self.write.take();
        // A panic is one change's, and in the log; what it may have left half done is undone.
        let made = catch_unwind(AssertUnwindSafe(|| write.map(|write| write(tx))));
        self.made = made.unwrap_or_default();
        self.changed = tx.total_changes() != before;
        matches!(self.made, Some(Ok(_)))
    }

    fn failure(&self) -> Option<&(dyn Error + 'static)> {
        match &self.made {
            Some(Err(error)) => Some(error),
            _ => None,
        }
    }

    fn is_last(&self) -> bool {
        self.is_last
    }

    fn end(self: Box<Self>, store: &Store, committed: Result<(), StoreError>) {
        let Self {
            made,
            changed,
            then,
            answer,
            place,
            ..
        } = *self;
        let ended = match (made, committed) {
            (Some(Ok(value)), Ok(())) => {
                // One that had nothing to write says nothing of the disk.
                if changed {
                    store.note(None);
                }
                catch_unwind(AssertUnwindSafe(|| then(value))).ok().map(Ok)
            }
            (Some(Err(error)), Ok(())) => Some(Err(error)),
            (None, Ok(())) => None,
            // Also of what had failed: it may have, by what was not committed.
            (_, Err(error)) => Some(Err(error.into())),
        };
        if let Some(Err(error)) = &ended {
            store.note(Some(error));
        }
        // Before who waits goes on, so that he finds it free.
        drop(place);
        if let Some(ended) = ended {
            // Whoever asked may be gone.
            let _ = answer.send(ended);
        }
    }
}

/// The line.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Rounds<Owner, Box<dyn Change>>,
    /// Whether a thread makes what is in line.
    led: bool,
    #[cfg(test)]
    commits: u32,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.state().waiting.len();
        f.debug_struct("Line").field("waiting", &waiting).finish()
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a change in line, and has a thread make what is there.
    pub(super) fn push<T, U, E, F, G>(store: &Arc<Store>, write: Write<T, U, E, F, G>)
    where
        T: Send + 'static,
        U: Send + 'static,
        E: Error + From<StoreError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        let mut state = store.line.state();
        let owner = write.place.owner().clone();
        state.waiting.push(owner, Box::new(write));
        if !std::mem::replace(&mut state.led, true) {
            drop(state);
            let mut leader = Leader {
                store: Arc::clone(store),
                ended: false,
            };
            tokio::task::spawn_blocking(move || leader.lead());
        }
    }

    fn next(&self) -> Option<Box<dyn Change>> {
        self.state().waiting.pop().map(|(_, change)| change)
    }
}

/// The thread that makes what is in line.
struct Leader {
    store: Arc<Store>,
    ended: bool,
}

impl Leader {
    fn lead(&mut self) {
        loop {
            let mut state = self.store.line.state();
            if state.waiting.is_empty() {
                state.led = false;
                self.ended = true;
                return;
            }
            drop(state);
            commit_some(&self.store);
        }
    }
}

impl Drop for Leader {
    /// Who waits is told, if the runtime ended before it began, or it has panicked.
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.store.line.state();
            state.led = false;
            let left = std::mem::take(&mut state.waiting);
            drop(state);
            drop(left);
        }
    }
}

/// Makes changes that are in line, commits them together, and puts them in force in their order.
fn commit_some(store: &Store) {
    let mut made: Vec<Box<dyn Change>> = Vec::new();
    let committed = make_some(store, &mut made);
    #[cfg(test)]
    {
        store.line.state().commits += 1;
    }
    for change in made {
        let committed = committed.as_ref().map_err(again);
        change.end(store, committed.copied());
    }
}

/// Those that are to be told how it ended are `made`.
fn make_some(store: &Store, made: &mut Vec<Box<dyn Change>>) -> Result<(), StoreError> {
    let mut db = store.writer();
    let begun = store.files().check().map_err(StoreError::from);
    let begun = begun.and_then(|()| {
        let immediate = TransactionBehavior::Immediate;
        let tx = db.transaction_with_behavior(immediate)?;
        store.is_as_made(&tx)?;
        Ok(tx)
    });
    let tx = match begun {
        Ok(tx) => tx,
        Err(error) => {
            made.extend(std::iter::from_fn(|| store.line.next()).take(MOST));
            return Err(error);
        }
    };
    let begin = Instant::now();
    while made.len() < MOST && begin.elapsed() < LONG {
        let Some(mut change) = store.line.next() else {
            break;
        };
        if change.is_given_up() {
            continue;
        }
        // The first one has the transaction for a savepoint.
        let first = made.is_empty();
        if !first && let Err(error) = run(&tx, "SAVEPOINT one") {
            made.push(change);
            return Err(error.into());
        }
        let kept = change.make(&tx);
        if tx.is_autocommit() {
            // SQLite has undone all of it (no room, for one).
            let why = change.failure().and_then(cause).map(again_sqlite);
            made.push(change);
            return Err(why.map_or(StoreError::Thread, StoreError::Sqlite));
        }
        if kept {
            let last = change.is_last();
            made.push(change);
            if !first {
                run(&tx, "RELEASE one")?;
            }
            if last {
                break;
            }
            continue;
        }
        if first {
            let undone = tx.rollback();
            change.end(store, Ok(()));
            return Ok(undone?);
        }
        // Told with the others: what it failed by may be theirs, and not be committed.
        made.push(change);
        run(&tx, "ROLLBACK TO one")?;
        run(&tx, "RELEASE one")?;
    }
    Ok(tx.commit()?)
}

/// SQLite's part of an error.
fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rusqlite::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(sqlite) = error.downcast_ref() {
            return Some(sqlite);
        }
        next = error.source();
    }
    None
}

/// The same, for each of those whom it concerns.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Sqlite(error) => StoreError::Sqlite(again_sqlite(error)),
        StoreError::Db(DbError::Moved { path }) => DbError::Moved { path: path.clone() }.into(),
        StoreError::Db(DbError::Foreign { path, flaw }) => DbError::Foreign {
            path: path.clone(),
            flaw: flaw.clone(),
        }
        .into(),
        StoreError::Db(DbError::Damaged { path, flaw }) => DbError::Damaged {
            path: path.clone(),
            flaw: flaw.clone(),
        }
        .into(),
        _ => StoreError::Thread,
    }
}

fn again_sqlite(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            rusqlite::Error::SqliteFailure(*code, text.clone())
        }
        other => {
            let code = ffi::Error::new(ffi::SQLITE_ERROR);
            rusqlite::Error::SqliteFailure(code, Some(other.to_string()))
        }
    }
}

#[cfg(test)]
mod tests;
