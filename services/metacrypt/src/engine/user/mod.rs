//! User to user: what one account writes to others, by keys that stay here.

mod api;
mod key;
mod sealed;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use mc_proto::metacrypt::v1::user_to_user_server::UserToUserServer;
use mcdsl::policy::Name;

use self::key::Keys;
use super::{EngineError, Kind};
use crate::barrier::Items;

/// What may be done.
mod action {
    actions! {
        ALL:
        OWN = "user:own",
        READ = "user:read",
        DELETE = "user:delete",
        SEAL = "user:seal",
        OPEN = "user:open",
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

/// Keys that somebody may still read by.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    let some = items.names(ACCOUNTS, "", 1)?;
    Ok(some.first().map(|_| "keys of accounts".to_owned()))
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
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

/// The keys of whoever is called so now.
fn of_name(items: &Items<'_>, name: &str) -> Result<Keys, EngineError> {
    let account: Option<Name> = items.get(&name_path(name))?;
    let found = account.map(|account| of_account(items, &account));
    let none = || EngineError::NotFound("account with keys", name.to_owned());
    found.transpose()?.flatten().ok_or_else(none)
}

/// Keeps somebody's keys, by the name that he has now.
fn put(items: &Items<'_>, keys: &Keys) -> Result<(), EngineError> {
    items.put(&account_path(&keys.account), keys)?;
    Ok(items.put(&name_path(keys.name.as_str()), &keys.account)?)
}

/// A name that somebody has no more leads to him no more.
fn forget_name(items: &Items<'_>, keys: &Keys) -> Result<(), EngineError> {
    let path = name_path(keys.name.as_str());
    let account: Option<Name> = items.get(&path)?;
    if account.as_ref() == Some(&keys.account) {
        items.delete(&path)?;
    }
    Ok(())
}
