//! What administrators do to the login policy and ask of it, by whichever way.

use std::sync::Arc;

use mc_proto::mcias::v1::Rule as Message;
use rusqlite::Connection;

use super::{LoginPolicy, Stored, delete, find, parse, put, rules};
use crate::{
    account,
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

/// That there are the accounts that a rule names. Those that it named before may be gone since.
fn check_accounts(db: &Connection, stored: &Stored, known: &[String]) -> Result<(), Error> {
    let named = stored.rule.subjects.accounts.iter();
    for name in named.filter(|name| !known.contains(name)) {
        if account::by_name(db, name)?.is_none() {
            return Err(Error::invalid(format!(
                "accounts: there is no account {name:?}"
            )));
        }
    }
    Ok(())
}

impl Mcias {
    /// Adds a rule, or replaces the one of its name unless it has to be `new`.
    ///
    /// # Errors
    /// If it is none, names an account that there is not, or would lock all administrators out.
    pub(crate) async fn set_rule(
        self: &Arc<Self>,
        by: &By,
        rule: Message,
        new: bool,
    ) -> Result<Stored, Error> {
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
            let known = before.as_ref().map(|rule| &*rule.rule.subjects.accounts);
            check_accounts(change.tx, &stored, known.unwrap_or_default())?;
            put(change.tx, &stored)?;
            change.read_again();
            Ok(stored)
        };
        self.write(by, write).await
    }

    /// Takes a rule away.
    ///
    /// # Errors
    /// If there is none, or all administrators would be locked out.
    pub(crate) async fn delete_rule(self: &Arc<Self>, by: &By, name: String) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&name);
            let before = find(change.tx, &name)?;
            note(change, "before", before.as_ref());
            delete(change.tx, &name)?;
            change.read_again();
            Ok(())
        };
        self.write(by, write).await
    }
}
