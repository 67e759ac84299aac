//! The one way to what is behind the seal: who is let in holds it open, and has what was judged.
//!
//! Names become types, the policy is asked, and only then is looked whether there is such a mount: who may not use it does not learn that. What acts takes
//! the name from what was judged, so that nothing can be judged by one name and done by another.

use std::sync::Arc;

use mcdsl::{
    audit::{self, Detail, Entry},
    policy::{Action, Authorized, PolicySet, Refused, ResourceName, Subject},
    server::Caller,
};
use rusqlite::{Connection, Transaction};
use tokio::sync::OwnedRwLockReadGuard;
use tonic::Code;

use crate::{
    barrier::{Items, Mount, SealError, Unsealed},
    core::{Metacrypt, Opened},
    engine::{EngineError, Kind},
};

/// Somebody who was let in to a mount for one thing. While it lives, the seal stays open.
pub(crate) struct Entered {
    metacrypt: Arc<Metacrypt>,
    mount: OwnedRwLockReadGuard<Option<Unsealed>, Mount>,
    allowed: Authorized,
    caller: Caller,
}

impl Metacrypt {
    /// Lets a caller in to do `action` on what is at `on` in the mount.
    ///
    /// # Errors
    /// If the policy does not, or there is no such mount of that kind.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &Kind,
        action: &str,
        mount: &str,
        on: &[&str],
    ) -> Result<Arc<Entered>, EngineError> {
        let path: Vec<_> = [mount].iter().chain(on).copied().collect();
        let name = ResourceName::of(path.iter().copied()).map_err(Refused::from)?;
        caller.about.say(name.as_str());
        let open = self.open().await?;
        let who = identity(caller)?;
        let allowed = crate::policy::of(&open)?.judge(who, action, &path)?;
        Ok(Arc::new(Entered {
            metacrypt: Arc::clone(self),
            mount: in_mount(open, kind, mount)?,
            allowed,
            caller: caller.clone(),
        }))
    }
}

/// Who calls a method that nobody calls without a token.
pub(crate) fn identity(caller: &Caller) -> Result<&mcdsl::auth::Identity, EngineError> {
    let nobody = || EngineError::Precondition("a token is needed".to_owned());
    caller.identity.as_ref().ok_or_else(nobody)
}

impl Entered {
    /// Where.
    pub(crate) fn mount(&self) -> &Mount {
        &self.mount
    }

    /// What was judged.
    pub(crate) fn allowed(&self) -> &Authorized {
        &self.allowed
    }

    /// The last part of what was judged: what it is on.
    pub(crate) fn name(&self) -> &str {
        let path = self.allowed.resource().name.as_str();
        path.rsplit('/').next().unwrap_or(path)
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
        let this = Arc::clone(self);
        let write = move |tx: &Transaction<'_>| {
            let made = change(&this.mount.items(tx), &this)?;
            this.append(tx, detail)?;
            Ok((made, this))
        };
        let then = |(made, this): (T, Arc<Self>)| then(made, &this);
        let store = self.metacrypt.seal.store();
        let done = store
            .write_then::<_, _, EngineError, _, _>(write, then)
            .await?;
        self.caller.recorded();
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
        let this = Arc::clone(self);
        let write = move |tx: &Transaction<'_>| {
            let made = change(&this.mount.items(tx), &this)?;
            Ok((made, this))
        };
        let then = |(made, this): (T, Arc<Self>)| then(made, &this);
        let store = self.metacrypt.seal.store();
        store
            .write_then::<_, _, EngineError, _, _>(write, then)
            .await
    }

    /// Writes down what was done that changed nothing: who it is answered to gets it after that.
    ///
    /// # Errors
    /// The database's; then nothing is answered.
    pub(crate) async fn done(self: &Arc<Self>, detail: Detail) -> Result<(), EngineError> {
        let this = Arc::clone(self);
        let write = move |tx: &Transaction<'_>| this.append(tx, detail);
        self.metacrypt.seal.store().write(write).await?;
        self.caller.recorded();
        Ok(())
    }

    fn append(&self, tx: &Transaction<'_>, detail: Detail) -> Result<(), EngineError> {
        let entry = Entry {
            actor: self.caller.identity.as_ref().into(),
            source: Some(self.caller.source),
            action: self.caller.method,
            resource: self.allowed.resource().name.as_str(),
            outcome: Code::Ok,
            detail: detail.text("by", &self.allowed.reason().to_string()),
        };
        audit::append(tx, &entry, self.metacrypt.seal.clock().now())?;
        Ok(())
    }
}

/// A list that somebody reads: of what he may read there. While it lives, the seal stays open.
pub(crate) struct Listed {
    metacrypt: Arc<Metacrypt>,
    mount: OwnedRwLockReadGuard<Option<Unsealed>, Mount>,
    policy: Arc<PolicySet>,
    who: Subject,
    action: Action,
    place: String,
}

impl Listed {
    /// Whether who reads may read what is of this name.
    fn may(&self, name: &str) -> bool {
        let path = [self.mount.name(), &self.place, name];
        ResourceName::of(path).is_ok_and(|name| {
            let judged = self.policy.authorize(&self.who, &self.action, &name.into());
            judged.is_ok()
        })
    }

    /// Reads what the mount has, beside the async threads; `read` is given what says whether a name may be in it.
    ///
    /// # Errors
    /// Those of `read`, and the database's.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&Items<'_>, &dyn Fn(&str) -> bool) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let store = Arc::clone(self.metacrypt.seal.store());
        let read = move |db: &Connection| read(&self.mount.items(db), &|name| self.may(name));
        store.read(read).await
    }
}

impl Metacrypt {
    /// Lets a caller read a list of what is at `place` in the mount: `action` is that of reading one, and asked for each.
    ///
    /// # Errors
    /// If nobody calls, or there is no such mount of that kind.
    pub(crate) async fn list(
        self: &Arc<Self>,
        caller: &Caller,
        kind: &Kind,
        action: &str,
        mount: &str,
        place: &str,
    ) -> Result<Listed, EngineError> {
        let name = ResourceName::of([mount, place]).map_err(Refused::from)?;
        caller.about.say(name.as_str());
        let open = self.open().await?;
        let policy = crate::policy::of(&open)?;
        let mount = in_mount(open, kind, mount)?;
        Ok(Listed {
            metacrypt: Arc::clone(self),
            mount,
            policy,
            who: Subject::try_from(identity(caller)?).map_err(Refused::from)?,
            action: action.parse().map_err(Refused::from)?,
            place: place.to_owned(),
        })
    }
}

/// The mount of that name, if it is of that kind.
fn in_mount(
    open: Opened,
    kind: &Kind,
    name: &str,
) -> Result<OwnedRwLockReadGuard<Option<Unsealed>, Mount>, EngineError> {
    let found = OwnedRwLockReadGuard::try_map(open, |open| {
        open.mounts()
            .get(name)
            .filter(|mount| mount.engine() == kind.name)
    });
    found.map_err(|_| EngineError::NotFound(kind.name, name.to_owned()))
}

/// The seal of a process that has it open.
impl Metacrypt {
    /// What is behind the seal, for as long as it is held: sealing waits for it.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub(crate) async fn open(&self) -> Result<Opened, SealError> {
        let open = Arc::clone(&self.unsealed).read_owned().await;
        OwnedRwLockReadGuard::try_map(open, Option::as_ref).map_err(|_| SealError::Sealed)
    }
}
