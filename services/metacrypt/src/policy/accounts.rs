//! Accounts in rules: what is allowed to a name would be allowed to whoever gets that name next, so a rule that allows is stored with ids, which are never another's.
//!
//! One that denies stays about the name: an id would let in who gets it.

use std::collections::BTreeMap;

use mcdsl::{
    auth::client::Client,
    policy::{Effect, Rule},
};

use crate::engine::EngineError;

/// Between name and id.
const ID: char = '#';
/// Most names that MCIAS is asked for in one request.
const MAX_ASKED: usize = 256;

/// Whether it allows something to a name, and so to whoever has it.
pub(crate) fn unbound(rule: &Rule) -> bool {
    let mut accounts = rule.subjects.accounts.iter();
    rule.effect == Effect::Allow && accounts.any(|account| !account.contains(ID))
}

/// The id of the account that has this name; `None`: nobody has it.
///
/// # Errors
/// MCIAS does not answer.
pub(crate) async fn id_of(mcias: &Client, name: &str) -> Result<Option<String>, EngineError> {
    let unavailable = |error| {
        EngineError::Unavailable(format!(
            "MCIAS does not say whose name {name:?} is ({error}); try again, or write it with its id ({name}{ID}…)"
        ))
    };
    mcias.id_of(name).await.map_err(unavailable)
}

/// Writes the ids of accounts beside their names in rules that allow; without MCIAS, as in tests of parts, nothing.
///
/// # Errors
/// There is no such account, MCIAS does not answer, or there are more names than are asked for.
pub(crate) async fn bind(mcias: Option<&Client>, rules: &mut [Rule]) -> Result<(), EngineError> {
    let Some(mcias) = mcias else {
        return Ok(());
    };
    let mut ids = BTreeMap::new();
    for rule in rules.iter_mut().filter(|rule| unbound(rule)) {
        let accounts = rule.subjects.accounts.iter_mut();
        for account in accounts.filter(|account| !account.contains(ID)) {
            if !ids.contains_key(&*account) {
                if ids.len() >= MAX_ASKED {
                    let why = format!(
                        "more than {MAX_ASKED} names in one request; write them with their ids ({account}{ID}…)"
                    );
                    return Err(EngineError::field("accounts", why));
                }
                let none = || {
                    let why = format!(
                        "MCIAS has no account {account:?}, and whoever is called so later is not to have what the rule allows; make it first"
                    );
                    EngineError::field("accounts", why)
                };
                let id = id_of(mcias, &*account).await?.ok_or_else(none)?;
                ids.insert(account.clone(), id);
            }
            let id = &ids[&*account];
            account.push(ID);
            account.push_str(id);
        }
    }
    Ok(())
}
