//! What is changed behind the seal, or answered, and the row of the audit log that says so: by one transaction, which looks again at all that may have changed since it was
//! judged.

use std::sync::Arc;

use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    policy::{Authorized, Denied, PolicySet, Reason, Refused},
};
use rusqlite::Transaction;
use tonic::Code;

use super::{By, Entered};
use crate::{barrier::Items, engine::EngineError, gate::Opened};

/// What somebody was allowed, and by which policy.
pub(super) struct Judged {
    pub(super) policy: Arc<PolicySet>,
    pub(super) allowed: Vec<Authorized>,
}

impl Judged {
    /// The same by the policy that is in force now, if that is another one.
    fn again(&self, open: &Opened) -> Result<Option<Self>, EngineError> {
        let policy = crate::policy::of(open)?;
        if Arc::ptr_eq(&policy, &self.policy) {
            return Ok(None);
        }
        let one = |was: &Authorized| policy.authorize(was.subject(), was.action(), was.resource());
        let allowed = self.allowed.iter().map(one).collect::<Result<_, Denied>>();
        let allowed = allowed.map_err(Refused::from)?;
        Ok(Some(Self { policy, allowed }))
    }
}

impl Entered {
    /// Changes what the mount has and writes that down, in one transaction; `then` puts in force what was committed, in the order of the commits.
    ///
    /// # Errors
    /// Those of `change`, and the database's; then nothing is changed.
    pub(crate) async fn change<T: Send + 'static, U: Send + 'static>(
        self: &Arc<Self>,
        detail: Detail,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<T, EngineError> + Send + 'static,
        then: impl FnOnce(T, &Self) -> U + Send + 'static,
    ) -> Result<U, EngineError> {
        let change = |items: &Items<'_>, at: &Self| Ok((change(items, at)?, detail));
        self.change_with(change, then).await
    }

    /// As [`Self::change`], where what is written down is known by the change alone.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn change_with<T: Send + 'static, U: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<(T, Detail), EngineError> + Send + 'static,
        then: impl FnOnce(T, &Self) -> U + Send + 'static,
    ) -> Result<U, EngineError> {
        let change = |items: &Items<'_>, at: &Self| {
            let (made, detail) = change(items, at)?;
            Ok((made, Some(detail)))
        };
        let done = self.write(change, then).await?;
        self.recorded();
        Ok(done)
    }

    /// Changes what the mount has without a word in the log, where what is asked has a row of its own. Nothing in memory is to follow: who writes at the same time
    /// is in the same commit.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn keep<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let write = self.writes(|items, at| Ok((change(items, at)?, None)));
        let (made, _) = self.metacrypt.seal.store().write(write).await?;
        Ok(made)
    }

    /// As [`Self::keep`]; `then` puts in force what was committed.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn keep_then<T: Send + 'static, U: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<T, EngineError> + Send + 'static,
        then: impl FnOnce(T, &Self) -> U + Send + 'static,
    ) -> Result<U, EngineError> {
        let change = |items: &Items<'_>, at: &Self| Ok((change(items, at)?, None));
        self.write(change, then).await
    }

    async fn write<T: Send + 'static, U: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<(T, Option<Detail>), EngineError>
        + Send
        + 'static,
        then: impl FnOnce(T, &Self) -> U + Send + 'static,
    ) -> Result<U, EngineError> {
        let then = |(made, this): (T, Arc<Self>)| then(made, &this);
        let store = self.metacrypt.seal.store();
        store.write_then(self.writes(change), then).await
    }

    /// A change and its row; the seal is held open until what it gives is dropped. Since it was judged it may have waited: by then the seal may be about to close, the mount
    /// may be gone, and the policy another one, by which all is judged again.
    fn writes<T, F>(
        self: &Arc<Self>,
        change: F,
    ) -> impl FnOnce(&Transaction<'_>) -> Result<(T, Arc<Self>), EngineError> + use<T, F>
    where
        F: FnOnce(&Items<'_>, &Self) -> Result<(T, Option<Detail>), EngineError>,
    {
        let this = Arc::clone(self);
        move |tx| {
            this.mount.open().goes_on()?;
            this.mount.is_there(tx)?;
            let again = this.judged_again()?;
            let (made, detail) = change(&this.mount.items(tx), &this)?;
            if let Some(detail) = detail {
                let judged = again.as_ref().or(this.judged.as_ref());
                this.append(tx, judged, detail)?;
            }
            Ok((made, this))
        }
    }

    fn judged_again(&self) -> Result<Option<Judged>, EngineError> {
        let Some(judged) = &self.judged else {
            return Ok(None);
        };
        let again = judged.again(self.mount.open());
        let Err(EngineError::Refused(Refused::Denied(denied))) = again else {
            return again;
        };
        if let By::Caller(caller) = &self.by {
            caller.about.refused_by(&denied.reason.to_string());
        }
        // What was found by one name and judged by another is told by the first.
        let resource = match judged.allowed.len() {
            1 => self.asked.clone(),
            _ => denied.resource,
        };
        Err(Refused::from(Denied { resource, ..denied }).into())
    }

    /// Writes down what was done that changed nothing: who it is answered to gets it after that.
    ///
    /// # Errors
    /// The database's; then nothing is answered.
    pub(crate) async fn done(self: &Arc<Self>, detail: Detail) -> Result<(), EngineError> {
        self.record(detail, |_, _| Ok(())).await
    }

    /// As [`Self::change`], where nothing in memory is to follow: who writes at the same time is in the same commit, which is one wait for the disk.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn record<T: Send + 'static>(
        self: &Arc<Self>,
        detail: Detail,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.record_with(|items, at| Ok((change(items, at)?, detail)))
            .await
    }

    /// As [`Self::record`], where what is written down is known by the change alone.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn record_with<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Items<'_>, &Self) -> Result<(T, Detail), EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let write = self.writes(|items, at| {
            let (made, detail) = change(items, at)?;
            Ok((made, Some(detail)))
        });
        let store = self.metacrypt.seal.store();
        let (made, _) = store.write(write).await?;
        self.recorded();
        Ok(made)
    }

    /// The call has its row.
    fn recorded(&self) {
        if let By::Caller(caller) = &self.by {
            caller.recorded();
        }
    }

    fn append(
        &self,
        tx: &Transaction<'_>,
        judged: Option<&Judged>,
        mut detail: Detail,
    ) -> Result<(), EngineError> {
        let allowed = judged.map_or(&[][..], |judged| &judged.allowed);
        let mut by: Vec<&Reason> = allowed.iter().map(Authorized::reason).collect();
        by.dedup();
        if !by.is_empty() {
            let by: Vec<_> = by.iter().map(ToString::to_string).collect();
            detail = detail.text("by", &by.join(", "));
        }
        let judged = allowed.iter().map(|a| a.resource().name.as_str());
        if allowed.len() > 1 || judged.clone().any(|name| name != self.asked.as_str()) {
            detail = detail.list("judged", judged);
        }
        let (actor, source, action) = match &self.by {
            By::Caller(caller) => (
                caller.identity.as_ref().into(),
                Some(caller.source),
                caller.method,
            ),
            By::Service(what) => (Actor::Anonymous, None, *what),
        };
        let entry = Entry {
            actor,
            source,
            action,
            resource: self.asked.as_str(),
            outcome: Code::Ok,
            detail,
        };
        audit::append(tx, &entry, self.now())?;
        Ok(())
    }
}
