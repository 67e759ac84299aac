//! What administrators do to the login policy and ask of it, by whichever way.

use std::sync::Arc;

use mc_proto::mcias::v1::Rule as Message;
use rusqlite::Connection;

use super::{
    LoginPolicy, Stored, delete,
    ended::{Was, end_denied},
    everybody, find, named, parse, put, rules,
};
use crate::{
    by::By,
    core::{Change, Mcias},
    error::Error,
};

/// All rules, in the order in which they are asked.
///
/// # Errors
/// If one is not what was stored.
pub(crate) fn in_order(db: &Connection) -> Result<Vec<Stored>, Error> {
    let mut all = rules(db)?;
    let policy = LoginPolicy::load(db)?;
    let order: Vec<&str> = policy.order().collect();
    all.sort_by_key(|stored| order.iter().position(|name| *name == stored.rule.name));
    Ok(all)
}

/// Has the log say what a rule was that is gone, or is that is new.
fn note(change: &mut Change<'_>, when: &'static str, rule: Option<&Stored>) {
    if let Some(rule) = rule {
        change.note(|detail| detail.list(when, rule.parts().iter().map(String::as_str)));
    }
}

/// What follows from rules that were others `before`: who may not go on logged in is not. How many logins ended.
fn follow(
    change: &mut Change<'_>,
    before: &LoginPolicy,
    allow_everybody: bool,
) -> Result<u64, Error> {
    let after = LoginPolicy::load(change.tx)?;
    if !allow_everybody {
        everybody::check(change.tx, before, &after)?;
    }
    change.read_again();
    end_denied(change, &after, &Was::Policy(before))
}

impl Mcias {
    /// Adds a rule, or replaces the one of its name unless it has to be `new`. The logins that ended by it are counted.
    ///
    /// # Errors
    /// If it is none, names an account or a service that there is not, would lock all administrators out, or everybody may log in everywhere
    /// then and it is not said that they may.
    pub(crate) async fn set_rule(
        self: &Arc<Self>,
        by: &By,
        rule: Message,
        new: bool,
        allow_everybody: bool,
    ) -> Result<(Stored, u64), Error> {
        by.about(&rule.name);
        let stored = parse(rule)?;
        let write = move |change: &mut Change<'_>| {
            let name = &stored.rule.name;
            change.resource.clone_from(name);
            let before = find(change.tx, name)?;
            if new && before.is_some() {
                return Err(Error::exists(format!("there is a rule {name:?} already")));
            }
            match &before {
                Some(before) => change.note(|detail| before.difference(&stored, detail)),
                None => note(change, "after", Some(&stored)),
            }
            named::check_there(change.tx, &stored, before.as_ref())?;
            let policy = LoginPolicy::load(change.tx)?;
            put(change.tx, &stored)?;
            let ended = follow(change, &policy, allow_everybody)?;
            Ok((stored, ended))
        };
        self.write(by, write).await
    }

    /// Takes a rule away. How many logins ended by it.
    ///
    /// # Errors
    /// If there is none, all administrators would be locked out, or everybody may log in everywhere then and it is not said that they may.
    pub(crate) async fn delete_rule(
        self: &Arc<Self>,
        by: &By,
        name: String,
        allow_everybody: bool,
    ) -> Result<u64, Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&name);
            let before = find(change.tx, &name)?;
            note(change, "before", before.as_ref());
            let policy = LoginPolicy::load(change.tx)?;
            delete(change.tx, &name)?;
            follow(change, &policy, allow_everybody)
        };
        self.write(by, write).await
    }
}
