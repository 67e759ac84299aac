//! The one way to what is behind the seal: who is let in holds it open, and has what was judged.
//!
//! Names become types, the policy is asked, and only then is looked whether there is such a mount: who may not use it does not learn that. What acts takes
//! the name from what was judged, so that nothing can be judged by one name and done by another. A request is one visit of one mount, with one policy for all
//! that is judged in it: most judge one thing ([`Metacrypt::enter`]), lists judge each entry, and some find a thing by one name and judge it by another
//! ([`Visit::find`]).

#[cfg(test)]
mod tests;
mod visit;

use std::{sync::Arc, time::SystemTime};

use mc_proto::Secrets;
use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    policy::{Authorized, Reason, Refused, ResourceName, Subject},
    server::Caller,
};
use rusqlite::{Connection, Transaction};
use tonic::Code;

pub(crate) use self::visit::{Listed, Visit};
use crate::{
    barrier::{Items, Mount},
    core::Metacrypt,
    engine::{Act, EngineError, Kind},
    gate::Mounted,
};

/// Who calls a method that nobody calls without a token.
pub(crate) fn identity(caller: &Caller) -> Result<&mcdsl::auth::Identity, EngineError> {
    let nobody = || EngineError::Precondition("a token is needed".to_owned());
    caller.identity.as_ref().ok_or_else(nobody)
}

impl Metacrypt {
    /// A caller comes to a mount.
    ///
    /// # Errors
    /// If it is sealed, or a name is none.
    pub(crate) fn visit(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &'static Kind,
        mount: &str,
    ) -> Result<Arc<Visit>, EngineError> {
        ResourceName::of([mount]).map_err(Refused::from)?;
        let open = self.open()?;
        Ok(Arc::new(Visit {
            metacrypt: Arc::clone(self),
            caller: caller.clone(),
            who: Subject::try_from(identity(caller)?).map_err(Refused::from)?,
            policy: crate::policy::of(&open)?,
            kind,
            name: mount.to_owned(),
            mount: open.mount(kind, mount).ok(),
        }))
    }

    /// Lets a caller in to do `action` on what is at `on` in the mount.
    ///
    /// # Errors
    /// If the policy does not, or there is no such mount of that kind.
    pub(crate) fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &'static Kind,
        action: Act,
        mount: &str,
        on: &[&str],
    ) -> Result<Arc<Entered>, EngineError> {
        self.visit(caller, kind, mount)?.judge(action, &[on])
    }

    /// Lets a caller read a list of what is at `place` in the mount: `action` is that of reading one, and asked for each.
    ///
    /// # Errors
    /// If nobody calls, or there is no such mount of that kind and he may read everything in it.
    pub(crate) fn list(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &'static Kind,
        action: Act,
        mount: &str,
        place: &'static str,
    ) -> Result<Listed, EngineError> {
        let visit = self.visit(caller, kind, mount)?;
        visit.lists(action, &[place])?;
        Ok(Listed {
            visit,
            action,
            place,
        })
    }

    /// What is public by what it is: anybody may read it, nothing of it is judged, and `kind`'s own function says what it is.
    ///
    /// # Errors
    /// If it is sealed, a name is none, or there is no such mount of that kind.
    pub(crate) fn public(
        self: &Arc<Self>,
        kind: &'static Kind,
        mount: &str,
        on: &[&str],
    ) -> Result<Public, EngineError> {
        let path = [mount].into_iter().chain(on.iter().copied());
        ResourceName::of(path).map_err(Refused::from)?;
        Ok(Public {
            mount: self.open()?.mount(kind, mount)?,
            metacrypt: Arc::clone(self),
        })
    }

    /// Somebody does what is his own by a proof that `kind` looked at (the key of an ACME account, or of a certificate): no rule is asked, and it is written
    /// down as his.
    ///
    /// # Errors
    /// If it is sealed, a name is none, or there is no such mount of that kind.
    pub(crate) fn owned(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &'static Kind,
        mount: &str,
        on: &[&str],
    ) -> Result<Arc<Entered>, EngineError> {
        let path = [mount].into_iter().chain(on.iter().copied());
        let asked = ResourceName::of(path).map_err(Refused::from)?;
        caller.about.say(asked.as_str());
        Ok(Arc::new(Entered {
            mount: self.open()?.mount(kind, mount)?,
            metacrypt: Arc::clone(self),
            by: By::Caller(Box::new(caller.clone())),
            asked,
            allowed: Vec::new(),
        }))
    }

    /// The service itself does something in a mount; `what` is in the place of the method in the log.
    ///
    /// # Errors
    /// If it is sealed, or there is no such mount of that kind.
    pub(crate) fn own(
        self: &Arc<Self>,
        kind: &'static Kind,
        mount: &str,
        what: &'static str,
    ) -> Result<Arc<Entered>, EngineError> {
        Ok(Arc::new(Entered {
            mount: self.open()?.mount(kind, mount)?,
            metacrypt: Arc::clone(self),
            by: By::Service(what),
            asked: ResourceName::of([mount]).map_err(Refused::from)?,
            allowed: Vec::new(),
        }))
    }
}

/// What anybody may read of a mount. While it lives, the seal stays open.
pub(crate) struct Public {
    metacrypt: Arc<Metacrypt>,
    mount: Mounted,
}

impl Public {
    /// Where.
    pub(crate) fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Reads what is public of the mount, beside the async threads.
    ///
    /// # Errors
    /// Those of `read`, and the database's.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Items<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let mount = self.mount.clone();
        let read = move |db: &Connection| read(&mount.items(db));
        self.metacrypt.seal.store().read(read).await
    }
}

/// Who acts.
enum By {
    /// Somebody: what fails, others write down.
    Caller(Box<Caller>),
    /// The service itself, which does this.
    Service(&'static str),
}

/// Somebody who was let in to a mount to do something. While it lives, the seal stays open.
pub(crate) struct Entered {
    metacrypt: Arc<Metacrypt>,
    mount: Mounted,
    by: By,
    /// On what it is, as the log has it.
    asked: ResourceName,
    /// What was judged; nothing of the service itself.
    allowed: Vec<Authorized>,
}

impl Entered {
    /// The service, for what is done later and comes in again.
    pub(crate) fn metacrypt(&self) -> &Arc<Metacrypt> {
        &self.metacrypt
    }

    /// Where.
    pub(crate) fn mount(&self) -> &Mount {
        &self.mount
    }

    /// The service's time.
    pub(crate) fn now(&self) -> SystemTime {
        self.metacrypt.seal.clock().now()
    }

    /// The last part of what was asked for: what it is on.
    pub(crate) fn name(&self) -> &str {
        let path = self.asked.as_str();
        path.rsplit('/').next().unwrap_or(path)
    }

    /// What was judged first, for what is done by the proof of it alone.
    ///
    /// # Errors
    /// Nothing was: the service itself acts.
    pub(crate) fn proof(&self) -> Result<&Authorized, EngineError> {
        let nobody = || EngineError::Precondition("nobody asked for it".to_owned());
        self.allowed.first().ok_or_else(nobody)
    }

    /// Adds to a detail what tells the secrets of a request, or of an answer, to who has them (AuditHash).
    pub(crate) fn noted(&self, detail: Detail, request: &dyn Secrets) -> Detail {
        self.mount.prints().noted(detail, request)
    }

    /// Reads what the mount has, beside the async threads.
    ///
    /// # Errors
    /// Those of `read`, and the database's.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Items<'_>, &Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let this = Arc::clone(self);
        let read = move |db: &Connection| read(&this.mount.items(db), &this);
        self.metacrypt.seal.store().read(read).await
    }

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
        let change = |items: &Items<'_>, at: &Self| Ok((change(items, at)?, Some(detail)));
        let done = self.write(change, then).await?;
        self.recorded();
        Ok(done)
    }

    /// Changes what the mount has without a word in the log, where what is asked has a row of its own.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn keep<T: Send + 'static, U: Send + 'static>(
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

    /// A change and its row; the seal is held open until what it gives is dropped.
    fn writes<T, F>(
        self: &Arc<Self>,
        change: F,
    ) -> impl FnOnce(&Transaction<'_>) -> Result<(T, Arc<Self>), EngineError> + use<T, F>
    where
        F: FnOnce(&Items<'_>, &Self) -> Result<(T, Option<Detail>), EngineError>,
    {
        let this = Arc::clone(self);
        move |tx| {
            let (made, detail) = change(&this.mount.items(tx), &this)?;
            if let Some(detail) = detail {
                this.append(tx, detail)?;
            }
            Ok((made, this))
        }
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

    fn append(&self, tx: &Transaction<'_>, mut detail: Detail) -> Result<(), EngineError> {
        let mut by: Vec<&Reason> = self.allowed.iter().map(Authorized::reason).collect();
        by.dedup();
        if !by.is_empty() {
            let by: Vec<_> = by.iter().map(ToString::to_string).collect();
            detail = detail.text("by", &by.join(", "));
        }
        let judged = self.allowed.iter().map(|a| a.resource().name.as_str());
        if self.allowed.len() > 1 || judged.clone().any(|name| name != self.asked.as_str()) {
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
