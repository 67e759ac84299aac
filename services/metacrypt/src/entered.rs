//! The one way to what is behind the seal: who is let in holds it open, and has what was judged.
//!
//! Names become types, the policy is asked, and only then is looked whether there is such a mount: who may not use it does not learn that. What acts takes
//! the name from what was judged, so that nothing can be judged by one name and done by another. A request is one visit of one mount, with one policy for all
//! that is judged in it: most judge one thing ([`Metacrypt::enter`]), lists judge each entry, and some find a thing by one name and judge it by another
//! ([`Visit::find`]).

#[cfg(test)]
mod tests;
mod visit;
mod write;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use mc_proto::Secrets;
use mcdsl::{
    audit::Detail,
    policy::{Authorized, Reason, Refused, ResourceName, Subject},
    server::{self, Caller},
};
use rusqlite::Connection;

pub(crate) use self::visit::{Listed, Visit};
use self::write::Judged;
use crate::{
    barrier::{Items, Mount},
    core::Metacrypt,
    engine::{Act, EngineError, Kind, Owner},
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
            kind,
            name: mount.to_owned(),
            mount: open.clone().mount(kind, mount).ok(),
            open,
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
            judged: None,
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
            judged: None,
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
        let read = self.metacrypt.seal.store().read(read);
        self.mount.open().unless_closed(read).await
    }

    /// Waits for something that changes nothing, and no longer once the seal is being closed.
    ///
    /// # Errors
    /// Those of `work`, and that it is.
    pub(crate) async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.mount.open().unless_closed(work).await
    }

    /// Does what takes a processor about so many microseconds, for a stranger there; with the seal held open, but not by what waits for its turn.
    ///
    /// # Errors
    /// Those of `work`, and [`EngineError::Busy`].
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        source: IpAddr,
        cost_us: usize,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let stranger = Owner::Network(server::network(source));
        let cores = &self.metacrypt.cores;
        cores.run(stranger, self.mount.open(), cost_us, work).await
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
    /// `None`: the service itself acts, or somebody by a proof that no rule is asked about.
    judged: Option<Judged>,
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

    /// The time by which things may be forgotten for good: it is not ahead, though the clock may be for a while.
    pub(crate) fn sure_now(&self) -> SystemTime {
        self.metacrypt.past.sure(self.metacrypt.seal.clock())
    }

    /// The last part of what was asked for: what it is on.
    pub(crate) fn name(&self) -> &str {
        let path = self.asked.as_str();
        path.rsplit('/').next().unwrap_or(path)
    }

    /// By what who came may do `action` on what is at `on` too, by the policy that is in force now; `None`: he may not.
    ///
    /// # Errors
    /// What is no name, and that the service itself acts.
    pub(crate) fn may(&self, action: Act, on: &[&str]) -> Result<Option<Reason>, EngineError> {
        let path = [self.mount.name()].into_iter().chain(on.iter().copied());
        let on = ResourceName::of(path).map_err(Refused::from)?;
        let policy = crate::policy::of(self.mount.open())?;
        let who = self.proof()?.subject();
        Ok(policy.allowed_by(who, &action.typed(), &on.into()))
    }

    /// As [`Public::unless_closed`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.mount.open().unless_closed(work).await
    }

    /// What was judged first, for what is done by the proof of it alone.
    ///
    /// # Errors
    /// Nothing was: the service itself acts.
    pub(crate) fn proof(&self) -> Result<&Authorized, EngineError> {
        let nobody = || EngineError::Precondition("nobody asked for it".to_owned());
        let judged = self.judged.as_ref();
        judged
            .and_then(|judged| judged.allowed.first())
            .ok_or_else(nobody)
    }

    /// Adds to a detail what leads from a secret of a request, or of an answer, to its row (AuditHash).
    ///
    /// # Errors
    /// There are no random bytes.
    pub(crate) fn noted(
        &self,
        detail: Detail,
        request: &dyn Secrets,
    ) -> Result<Detail, EngineError> {
        Ok(self.mount.open().prints().noted(detail, request)?)
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
        let read = self.metacrypt.seal.store().read(read);
        self.mount.open().unless_closed(read).await
    }

    /// Does what takes a processor about so many microseconds, in the turn of whoever acts; with the seal held open, but not by what waits for its turn.
    ///
    /// # Errors
    /// Those of `work`, and [`EngineError::Busy`].
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        cost_us: usize,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let owner = match &self.by {
            By::Caller(caller) => Owner::from(&**caller),
            By::Service(_) => Owner::Service,
        };
        let cores = &self.metacrypt.cores;
        cores.run(owner, self.mount.open(), cost_us, work).await
    }
}
