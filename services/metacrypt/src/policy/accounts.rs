//! Accounts in rules: MCIAS is asked for each that is new to its rule, since a rule about an account that there is not does nothing, and who puts a deny believes that it does.
//!
//! What is allowed to a name would be allowed to whoever gets that name next, so a rule that allows is stored with ids, which are never another's. One that denies is
//! about the name, whatever id was said with it: an id would let in who gets the name next.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mcdsl::{
    auth::client::Client,
    policy::{Effect, Rule},
};
use tokio::time::timeout;

use super::InForce;
use crate::engine::EngineError;

/// Between name and id.
const ID: char = '#';
/// Most names that MCIAS is asked for in one request.
const MAX_ASKED: usize = 256;
/// What all its answers together may take.
const WAIT: Duration = Duration::from_secs(25);
/// Names that MCIAS is asked for at once: however far away it is, all are answered in the time of a few.
const AT_ONCE: usize = 32;
/// Most accounts that an error names.
const MAX_TOLD: usize = 8;

/// Whether it allows something to a name, and so to whoever has it.
pub(crate) fn unbound(rule: &Rule) -> bool {
    let mut accounts = rule.subjects.accounts.iter();
    accounts.any(|account| lacks_id(rule.effect, account))
}

/// Whether an account is without the id that it has in a rule of this effect.
fn lacks_id(effect: Effect, account: &str) -> bool {
    effect == Effect::Allow && !account.contains(ID)
}

fn name_of(account: &str) -> &str {
    account.split(ID).next().unwrap_or_default()
}

/// The ids of the accounts that have these names, as MCIAS says it, [`AT_ONCE`] at a time; `None`: nobody has the name.
///
/// # Errors
/// MCIAS does not answer for one of them, or not all within so long.
pub(crate) async fn ids(
    mcias: &Client,
    names: &[&str],
    wait: Duration,
) -> Result<Vec<Option<String>>, EngineError> {
    let asked: Vec<_> = names.iter().map(|name| id(mcias, name)).collect();
    let all = stream::iter(asked).buffered(AT_ONCE).try_collect();
    let late = |_| {
        let why = "MCIAS takes too long to say whose names these are; try again";
        EngineError::Unavailable(why.to_owned())
    };
    timeout(wait, all).await.map_err(late)?
}

async fn id(mcias: &Client, name: &str) -> Result<Option<String>, EngineError> {
    mcias.id_of(name).await.map_err(|error| {
        EngineError::Unavailable(format!(
            "MCIAS does not say whose name {name:?} is ({error}); try again"
        ))
    })
}

/// Whose names these are, as MCIAS says it; `None`: nobody's.
struct Said(BTreeMap<String, Option<String>>);

impl Said {
    /// Asks for accounts, which are names, or names with ids.
    async fn of(
        mcias: &Client,
        accounts: &BTreeSet<&str>,
        wait: Duration,
    ) -> Result<Self, EngineError> {
        let names: BTreeSet<_> = accounts.iter().map(|account| name_of(account)).collect();
        if names.len() > MAX_ASKED {
            let why = format!(
                "MCIAS would be asked for {} accounts, more than {MAX_ASKED} in one request; put some of the rules one by one first, whose accounts it is not asked for again",
                names.len()
            );
            return Err(EngineError::field("accounts", why));
        }
        let names: Vec<_> = names.into_iter().collect();
        let ids = ids(mcias, &names, wait).await?;
        let names = names.into_iter().map(str::to_owned);
        Ok(Self(names.zip(ids).collect()))
    }

    /// Why an account is none.
    fn fault(&self, account: &str) -> Option<String> {
        let name = name_of(account);
        match self.0.get(name)? {
            None => Some(format!("MCIAS has no account {name:?}")),
            Some(id) => {
                let is = format!("{name}{ID}{id}");
                let other = account != name && account != is;
                other.then(|| format!("the account {name:?} of MCIAS is {is:?}, not {account:?}"))
            }
        }
    }

    /// Writes its id beside a name.
    fn bind(&self, account: &mut String) {
        if let Some(Some(id)) = self.0.get(&**account) {
            account.push(ID);
            account.push_str(id);
        }
    }
}

/// Refuses to give what a rule allows to one account to the next of its name: who says the name alone may mean the one of before.
fn another(said: &Said, now: &InForce, rule: &Rule) -> Result<(), EngineError> {
    let before = now.rules.iter().find(|before| before.name == rule.name);
    let Some(before) = before.filter(|_| rule.effect == Effect::Allow) else {
        return Ok(());
    };
    let bare = (rule.subjects.accounts.iter()).filter(|account| lacks_id(rule.effect, account));
    for name in bare {
        let mut next = name.clone();
        said.bind(&mut next);
        let had = (before.subjects.accounts.iter())
            .filter(|had| had.contains(ID) && name_of(had) == name);
        if let (Some(had), false) = (had.clone().next(), had.clone().any(|had| *had == next)) {
            let why = format!(
                "{name:?} is {next:?} in MCIAS now, and not {had:?}, to whom the rule {:?} allows this: say {next:?} if that one is meant",
                rule.name
            );
            return Err(EngineError::field("accounts", why));
        }
    }
    Ok(())
}

/// Writes the id of an account beside its name, if that alone is said; why MCIAS has no such account, if so.
///
/// # Errors
/// MCIAS does not answer.
pub(crate) async fn find(
    mcias: &Client,
    account: &mut String,
) -> Result<Option<String>, EngineError> {
    let said = Said::of(mcias, &BTreeSet::from([&**account]), WAIT).await?;
    let fault = said.fault(account);
    said.bind(account);
    Ok(fault)
}

/// Asks MCIAS for the accounts of rules, and writes their ids beside their names in those that allow. It is not asked for those that the rule of that name and effect has already, so that
/// what is in force can be put back when somebody is gone; if what is in force cannot be used, nobody can tell which those are, and none is asked for but to be bound. Without MCIAS,
/// as in tests of parts, nothing is done.
///
/// # Errors
/// There is no such account, or MCIAS does not answer.
pub(crate) async fn bind(
    mcias: Option<&Client>,
    now: &InForce,
    rules: &mut [Rule],
) -> Result<(), EngineError> {
    let Some(mcias) = mcias else {
        return Ok(());
    };
    let mut has = BTreeSet::new();
    for rule in &now.rules {
        let accounts = rule.subjects.accounts.iter();
        has.extend(accounts.map(|account| (&*rule.name, rule.effect, &**account)));
    }
    let mut asked = BTreeSet::new();
    for rule in &*rules {
        let is_asked = |account: &&str| {
            let known =
                now.unusable.is_some() || has.contains(&(&*rule.name, rule.effect, *account));
            !known || lacks_id(rule.effect, account)
        };
        let accounts = rule.subjects.accounts.iter();
        asked.extend(accounts.map(|account| &**account).filter(is_asked));
    }
    let said = Said::of(mcias, &asked, WAIT).await?;
    let faults: Vec<_> = asked.iter().filter_map(|it| said.fault(it)).collect();
    if !faults.is_empty() {
        let mut told = faults[..faults.len().min(MAX_TOLD)].join(", ");
        if faults.len() > MAX_TOLD {
            told += &format!(", and {} more", faults.len() - MAX_TOLD);
        }
        let why = format!(
            "{told}; a rule about it would do nothing: correct it, make the account first, or leave out who is gone"
        );
        return Err(EngineError::field("accounts", why));
    }
    for rule in &*rules {
        another(&said, now, rule)?;
    }
    for rule in rules {
        let effect = rule.effect;
        for account in &mut rule.subjects.accounts {
            match effect {
                Effect::Deny => account.truncate(name_of(account).len()),
                Effect::Allow if lacks_id(effect, account) => said.bind(account),
                Effect::Allow => {}
            }
        }
    }
    Ok(())
}
