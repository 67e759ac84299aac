//! User to user: what one account writes to others, by keys that stay here.

mod api;
mod key;
mod sealed;
#[cfg(test)]
mod tests;

use axum::Router;
use mc_proto::metacrypt::v1::user_to_user_server::UserToUserServer;
use mcdsl::policy::Name;
use serde::{Deserialize, Serialize};

use self::key::Keys;
use super::{EngineError, Kind};
use crate::barrier::Items;

/// What may be done.
mod action {
    actions! {
        ALL:
        // On `users/<name>` of one's own name.
        CREATE = "user:create",
        ROTATE = "user:rotate",
        TRIM = "user:trim",
        OPEN = "user:open",
        // On `users/<name>` of anybody's.
        READ = "user:read",
        DELETE = "user:delete",
        SEAL = "user:seal",
    }
}

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "user",
    description: "encrypts what accounts write to each other, with keys that stay here",
    actions: action::ALL,
    routes: |routes, api| routes.add_service(UserToUserServer::new(api.clone())),
    http: |_| Router::new(),
    public: |_| axum::Router::new(),
    keeps: kept,
    job: None,
};

/// Keys by the ids of accounts, which are never another's.
const ACCOUNTS: &str = "accounts/";
/// The ids of accounts by their names.
const NAMES: &str = "names/";
/// Most accounts that had a name before.
const MAX_FORMER: usize = 64;

/// Keys that somebody may still read by.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    let some = items.names(ACCOUNTS, "", 1)?;
    Ok(some.first().map(|_| "keys of accounts".to_owned()))
}

fn account_path(account: &Name) -> String {
    format!("{ACCOUNTS}{account}")
}

fn name_path(name: &str) -> String {
    format!("{NAMES}{name}")
}

/// The keys of the account of this id.
fn of_account(items: &Items<'_>, account: &Name) -> Result<Option<Keys>, EngineError> {
    Ok(items.get(&account_path(account))?)
}

/// Whose a name is, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Named {
    /// Who has it, of those who have keys.
    account: Option<Name>,
    /// Who had it before and has keys still: what was written to them and by them can be read by nobody else.
    former: Vec<Name>,
}

impl Named {
    fn of(items: &Items<'_>, name: &str) -> Result<Self, EngineError> {
        Ok(items.get(&name_path(name))?.unwrap_or_default())
    }

    fn put(&self, items: &Items<'_>, name: &str) -> Result<(), EngineError> {
        match self.account.is_none() && self.former.is_empty() {
            true => drop(items.delete(&name_path(name))?),
            false => items.put(&name_path(name), self)?,
        }
        Ok(())
    }

    fn is_of(&self, account: &Name) -> bool {
        self.account.as_ref() == Some(account)
    }
}

/// The keys of whoever is called so now.
fn of_name(items: &Items<'_>, name: &str) -> Result<Keys, EngineError> {
    let named = Named::of(items, name)?;
    let found = named.account.map(|account| of_account(items, &account));
    let none = || EngineError::NotFound("account with keys", name.to_owned());
    found.transpose()?.flatten().ok_or_else(none)
}

/// Keeps somebody's keys, by the name that he has now: if another account had it, that one was deleted or is called otherwise.
fn put(items: &Items<'_>, mut keys: Keys, name: Name) -> Result<Keys, EngineError> {
    if keys.name != name {
        forget_name(items, &keys)?;
    }
    let mut named = Named::of(items, name.as_str())?;
    if !named.is_of(&keys.account) {
        named.former.retain(|former| *former != keys.account);
        named
            .former
            .extend(named.account.replace(keys.account.clone()));
        if named.former.len() > MAX_FORMER {
            return Err(EngineError::Precondition(format!(
                "{MAX_FORMER} accounts that had keys were called {name} before, which is the most; delete the keys of some (DeleteKeys with `account`)"
            )));
        }
        named.put(items, name.as_str())?;
    }
    keys.name = name;
    items.put(&account_path(&keys.account), &keys)?;
    Ok(keys)
}

/// A name that somebody has no more leads to him no more.
fn forget_name(items: &Items<'_>, keys: &Keys) -> Result<(), EngineError> {
    let mut named = Named::of(items, keys.name.as_str())?;
    named.account = named.account.filter(|account| *account != keys.account);
    named.former.retain(|former| *former != keys.account);
    named.put(items, keys.name.as_str())
}
