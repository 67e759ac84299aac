//! Somebody in a mount who asks for several things of it, or has to be told what is there before it can be judged.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use mcdsl::{
    policy::{Denied, PolicySet, Reason, Refused, Resource, ResourceName, Subject},
    server::Caller,
};
use rusqlite::Connection;

use super::{By, Entered, write::Judged};
use crate::{
    barrier::Items,
    core::Metacrypt,
    engine::{Act, EngineError, Kind},
    gate::{Mounted, Opened},
};

/// Somebody in a mount, who was not let do anything there yet: nothing here tells him whether there is such a mount.
pub(crate) struct Visit {
    pub(super) metacrypt: Arc<Metacrypt>,
    pub(super) caller: Caller,
    pub(super) who: Subject,
    pub(super) open: Opened,
    pub(super) kind: &'static Kind,
    pub(super) name: String,
    /// `None`: there is none of that kind.
    pub(super) mount: Option<Mounted>,
}

impl Visit {
    /// The name of what is at `on` in the mount.
    fn named(&self, on: &[&str]) -> Result<ResourceName, EngineError> {
        let path = [&*self.name].into_iter().chain(on.iter().copied());
        Ok(ResourceName::of(path).map_err(Refused::from)?)
    }

    /// That in force now: what waited is judged by the one that is there then.
    fn policy(&self) -> Result<Arc<PolicySet>, EngineError> {
        Ok(crate::policy::of(&self.open)?)
    }

    /// Judges all of it by one policy.
    fn allow(
        &self,
        action: Act,
        on: impl IntoIterator<Item = ResourceName>,
    ) -> Result<Judged, EngineError> {
        debug_assert!(self.kind.actions.contains(&action), "{action:?}");
        let (policy, action) = (self.policy()?, action.typed());
        let one = |name: ResourceName| policy.authorize(&self.who, &action, &name.into());
        let allowed = on.into_iter().map(one).collect::<Result<_, Denied>>();
        if let Err(denied) = &allowed {
            self.caller.about.refused_by(&denied.reason.to_string());
        }
        let allowed = allowed.map_err(Refused::from)?;
        Ok(Judged { policy, allowed })
    }

    /// Whether the caller may do `action` on what is at `on`: for lists. What is no name, nobody may.
    pub(crate) fn may(&self, action: Act, on: &[&str]) -> bool {
        let policy = self.policy();
        policy.is_ok_and(|policy| self.may_by(&policy, action, on).is_some())
    }

    fn may_by(&self, policy: &PolicySet, action: Act, on: &[&str]) -> Option<Reason> {
        let on = Resource::from(self.named(on).ok()?);
        policy.allowed_by(&self.who, &action.typed(), &on)
    }

    fn mount(&self) -> Result<&Mounted, EngineError> {
        let none = || EngineError::NotFound(self.kind.name, self.name.clone());
        self.mount.as_ref().ok_or_else(none)
    }

    fn entered(&self, asked: ResourceName, judged: Judged) -> Result<Arc<Entered>, EngineError> {
        Ok(Arc::new(Entered {
            metacrypt: Arc::clone(&self.metacrypt),
            mount: self.mount()?.clone(),
            by: By::Caller(Box::new(self.caller.clone())),
            asked,
            judged: Some(judged),
        }))
    }

    /// Lets the caller do `action` on all of what is at `on`. The first is what it is on for the log.
    ///
    /// # Errors
    /// If the policy does not for one of them, if nothing is named, or there is no such mount of that kind.
    pub(crate) fn judge(&self, action: Act, on: &[&[&str]]) -> Result<Arc<Entered>, EngineError> {
        let names: Vec<_> = on
            .iter()
            .map(|on| self.named(on))
            .collect::<Result<_, _>>()?;
        let nothing =
            || EngineError::Invalid("nothing is named that it is to be done on".to_owned());
        let asked = names.first().ok_or_else(nothing)?.clone();
        self.caller.about.say(asked.as_str());
        self.entered(asked, self.allow(action, names)?)
    }

    /// Lets the caller do `action` on a thing that is found by one name (`asked`: a certificate, by its serial number) and judged by another (the profile
    /// that it was made by): `find` gives the thing, and the path in the mount that it is judged by. If there is none, `action` on `place` is judged, so that who
    /// may do nothing is answered alike. Neither answer has the other name.
    ///
    /// # Errors
    /// If the policy does not let him; who may do it on all of `place` is told that there is no such thing of the kind `what`.
    pub(crate) async fn find<T: Send + 'static>(
        self: &Arc<Self>,
        action: Act,
        what: &'static str,
        asked: &[&str],
        place: &[&str],
        find: impl FnOnce(&Items<'_>) -> Result<Option<(T, Vec<String>)>, EngineError> + Send + 'static,
    ) -> Result<(Arc<Entered>, T), EngineError> {
        let asked = self.named(asked)?;
        self.caller.about.say(asked.as_str());
        let judge = |path: &[&str]| match self.allow(action, [self.named(path)?]) {
            Err(EngineError::Refused(Refused::Denied(denied))) => {
                let resource = asked.clone();
                Err(Refused::from(Denied { resource, ..denied }).into())
            }
            judged => judged,
        };
        let Some((thing, path)) = self.look(find).await?.flatten() else {
            judge(place)?;
            self.mount()?;
            let name = asked.as_str().rsplit('/').next().unwrap_or_default();
            return Err(EngineError::NotFound(what, name.to_owned()));
        };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let judged = judge(&path)?;
        Ok((self.entered(asked, judged)?, thing))
    }

    /// Reads what the mount has before anything is judged; `None`: there is no such mount. What comes of it is to be the same for all who may do nothing.
    ///
    /// # Errors
    /// Those of `read`, and the database's.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Items<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<Option<T>, EngineError> {
        let Some(mount) = self.mount.clone() else {
            return Ok(None);
        };
        let read = move |db: &Connection| read(&mount.items(db));
        let read = self.metacrypt.seal.store().read(read);
        self.open.unless_closed(read).await.map(Some)
    }

    /// That the caller reads a list of what is at `place`.
    pub(super) fn lists(&self, action: Act, place: &[&str]) -> Result<(), EngineError> {
        self.caller.about.say(self.named(place)?.as_str());
        // Who may read all of it learns that it is not there; to others it has nothing in it.
        if self.may(action, place) {
            self.mount()?;
        }
        Ok(())
    }

    /// Reads a list of what is at `place` (for the log); `read` is given what says of a path in the mount whether it may be in it, by the action of reading
    /// one. All that may be in it is judged below `judged`; `None`: not all is judged.
    ///
    /// # Errors
    /// Those of `read`, and the database's; and if there is no such mount of that kind and the caller may read everything in it.
    pub(crate) async fn list<T: Default + Send + 'static>(
        self: &Arc<Self>,
        action: Act,
        place: &[&str],
        judged: Option<&[&str]>,
        read: impl FnOnce(&Items<'_>, &dyn Fn(&[&str]) -> bool) -> Result<T, EngineError>
        + Send
        + 'static,
    ) -> Result<T, EngineError> {
        self.lists(action, place)?;
        if let Some(judged) = judged
            && !(self.policy()?).may_below(&self.who, &action.typed(), &self.named(judged)?)
        {
            self.caller.gave_nothing();
            return Ok(T::default());
        }
        let this = Arc::clone(self);
        let read = move |items: &Items<'_>| {
            let (policy, by) = (this.policy()?, RefCell::new(BTreeSet::new()));
            let may = |on: &[&str]| {
                let reason = this.may_by(&policy, action, on);
                reason.is_some_and(|reason| {
                    by.borrow_mut().insert(reason.to_string());
                    true
                })
            };
            Ok((read(items, &may)?, by.into_inner()))
        };
        let (found, by) = self.look(read).await?.unwrap_or_default();
        let all: Vec<_> = by.into_iter().collect();
        self.caller.about.allowed_by(&all.join(", "));
        if all.is_empty() {
            self.caller.gave_nothing();
        }
        Ok(found)
    }
}

/// A list that somebody reads: of what he may read there, each by its name.
pub(crate) struct Listed {
    pub(super) visit: Arc<Visit>,
    pub(super) action: Act,
    pub(super) place: &'static str,
}

impl Listed {
    /// Reads what the mount has, beside the async threads; `read` is given what says whether a name may be in it.
    ///
    /// # Errors
    /// Those of `read`, and the database's.
    pub(crate) async fn read<T: Default + Send + 'static>(
        self,
        read: impl FnOnce(&Items<'_>, &dyn Fn(&str) -> bool) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let Self {
            visit,
            action,
            place,
        } = self;
        let read = move |items: &Items<'_>, may: &dyn Fn(&[&str]) -> bool| {
            read(items, &|name| may(&[place, name]))
        };
        visit.list(action, &[place], Some(&[place]), read).await
    }
}
