//! What administrators do to the login policy and ask of it, by whichever way.

use std::sync::Arc;

use mc_proto::mcias::v1::Rule as Message;
use rusqlite::Connection;

use super::{LoginPolicy, Stored, Verdict, delete, find, parse, put, rules};
use crate::{
    account::{self, Account, MAX_TAGS, Status},
    by::By,
    core::{Change, Mcias},
    error::Error,
    service,
};

/// What the policy says of an account and a service, whether or not somebody logs in.
pub(crate) struct Explained {
    pub(crate) account: Account,
    pub(crate) verdict: Verdict,
}

impl Explained {
    /// Whether the account could log in.
    pub(crate) fn allowed(&self) -> bool {
        self.verdict.allowed && self.account.status == Status::Active
    }

    /// Why, in a sentence.
    pub(crate) fn reason(&self) -> String {
        match self.account.status {
            Status::Active => {
                let reason = &self.verdict.explanation.decision.reason;
                format!("the account is active; {reason}")
            }
            other => format!("the account is {}, and logs in nowhere", other.as_str()),
        }
    }
}

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

impl Mcias {
    /// Adds a rule, or replaces the one of its name unless it has to be `new`.
    ///
    /// # Errors
    /// If it is none, or would lock all administrators out.
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

    /// Whether a person could log in to a service, which has these tags instead of its own if any are given.
    ///
    /// # Errors
    /// If there is no such account or service, or it is a system account.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        account: String,
        service: String,
        tags: Vec<String>,
    ) -> Result<Explained, Error> {
        if tags.len() > MAX_TAGS {
            return Err(Error::invalid(format!("tags: more than {MAX_TAGS}")));
        }
        let policy = self.policy();
        let read = move |db: &Connection| {
            let account = account::named(db, &account)?;
            if !account.is_human() {
                let name = account.name;
                return Err(Error::precondition(format!(
                    "{name} is a system account: it does not log in, and no rule is asked; its tokens say which services they are for"
                )));
            }
            let mut service = service::named(db, &service)?;
            if !tags.is_empty() {
                service.tags = tags;
            }
            let verdict = policy.judge(&account, &service)?;
            Ok::<_, Error>(Explained { account, verdict })
        };
        self.store.read(read).await
    }
}
