//! Accounts in rules: MCIAS is asked for each, since a rule about an account that there is not does nothing, and who puts a deny believes that it does.
//!
//! What is allowed to a name would be allowed to whoever gets that name next, so a rule that allows is stored with ids, which are never another's. One that denies stays
//! about the name: an id would let in who gets it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use mcdsl::{
    auth::{AuthError, client::Client},
    policy::{Effect, Rule},
};

use crate::engine::EngineError;

/// Between name and id.
const ID: char = '#';
/// Most names that MCIAS is asked for in one request.
const MAX_ASKED: usize = 1024;
/// Most accounts that an error names.
const MAX_TOLD: usize = 8;

/// Whether it allows something to a name, and so to whoever has it.
pub(crate) fn unbound(rule: &Rule) -> bool {
    let mut accounts = rule.subjects.accounts.iter();
    rule.effect == Effect::Allow && accounts.any(|account| !account.contains(ID))
}

fn name_of(account: &str) -> &str {
    account.split(ID).next().unwrap_or_default()
}

/// The id of the account that has this name; `None`: nobody has it.
///
/// # Errors
/// MCIAS does not answer.
pub(crate) async fn id_of(mcias: &Client, name: &str) -> Result<Option<String>, EngineError> {
    let id = mcias.id_of(name).await;
    id.map_err(|error| unsaid(name, &error))
}

fn unsaid(name: &str, error: &AuthError) -> EngineError {
    EngineError::Unavailable(format!(
        "MCIAS does not say whose name {name:?} is ({error}); try again, or write it with its id ({name}{ID}…)"
    ))
}

/// What MCIAS says of names.
#[derive(Default)]
struct Said {
    ids: BTreeMap<String, Option<String>>,
    /// Why it said nothing of the others.
    away: Option<AuthError>,
}

impl Said {
    async fn of(mcias: &Client, rules: &[Rule]) -> Result<Self, EngineError> {
        let accounts = rules.iter().flat_map(|rule| &rule.subjects.accounts);
        let names: BTreeSet<_> = accounts.map(|account| name_of(account)).collect();
        if names.len() > MAX_ASKED {
            let why = format!(
                "{} accounts in one request, more than {MAX_ASKED}; send the other rules one by one, or name a role or a tag that they have",
                names.len()
            );
            return Err(EngineError::field("accounts", why));
        }
        let mut said = Self::default();
        for name in names {
            match mcias.id_of(name).await {
                Ok(id) => said.ids.insert(name.to_owned(), id),
                // It would be waited for as long for each.
                Err(error) => {
                    said.away = Some(error);
                    break;
                }
            };
        }
        Ok(said)
    }

    /// Why an account of a rule is none.
    fn fault(&self, account: &str) -> Option<String> {
        let name = name_of(account);
        match self.ids.get(name)? {
            None => Some(format!("MCIAS has no account {name:?}")),
            Some(id) => {
                let is = format!("{name}{ID}{id}");
                let other = account != name && account != is;
                other.then(|| format!("the account {name:?} of MCIAS is {is:?}, not {account:?}"))
            }
        }
    }
}

/// Asks MCIAS for the accounts of rules, and writes their ids beside their names in those that allow. Those that it was not asked for, as it does not answer; without
/// MCIAS, as in tests of parts, nothing is done.
///
/// # Errors
/// There is no such account, or MCIAS does not answer and the rule allows something to a name.
pub(crate) async fn bind(
    mcias: Option<&Client>,
    rules: &mut [Rule],
) -> Result<Vec<String>, EngineError> {
    let Some(mcias) = mcias else {
        return Ok(Vec::new());
    };
    let said = Said::of(mcias, rules).await?;
    let accounts = rules.iter().flat_map(|rule| &rule.subjects.accounts);
    let faults: BTreeSet<_> = accounts.filter_map(|account| said.fault(account)).collect();
    if !faults.is_empty() {
        let mut told: Vec<_> = faults.iter().take(MAX_TOLD).cloned().collect();
        if faults.len() > MAX_TOLD {
            told.push(format!("and {} more", faults.len() - MAX_TOLD));
        }
        let why = format!(
            "{}; a rule about it would do nothing: correct it, make the account first, or leave out who is gone",
            told.join(", ")
        );
        return Err(EngineError::field("accounts", why));
    }
    let mut unchecked = BTreeSet::new();
    for rule in rules {
        let allows = rule.effect == Effect::Allow;
        for account in &mut rule.subjects.accounts {
            let binds = allows && !account.contains(ID);
            let id = said.ids.get(name_of(account)).and_then(Option::as_ref);
            match (id, &said.away) {
                (Some(id), _) if binds => {
                    account.push(ID);
                    account.push_str(id);
                }
                (None, Some(away)) if binds => return Err(unsaid(account, away)),
                (None, _) => {
                    unchecked.insert(account.clone());
                }
                (Some(_), _) => {}
            }
        }
    }
    Ok(unchecked.into_iter().collect())
}
