//! newOrder (RFC 8555 §7.4).

use std::{collections::BTreeSet, sync::Arc};

use mcdsl::{audit::Detail, server::Caller};
use serde::Deserialize;
use serde_json::Value;

use super::super::{
    super::{
        KIND, PROFILES, action,
        issuer::Issuer,
        name::{AltName, Names},
        profile::Profile,
        ready,
        store::{StoredIssuer, profile, profiles},
    },
    answer::{self, Answer},
    here::{Here, limited},
    order::Order,
    problem::{Problem, Type},
    renewal,
    request::Asked,
    store::{AcmeAccount, ORDER_S, Standing, Tally, new_id, new_token},
};
use crate::{barrier::Items, engine::EngineError, entered::Entered};

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    identifiers: Vec<Identifier>,
    profile: Option<String>,
    replaces: Option<String>,
    not_before: Option<Value>,
    not_after: Option<Value>,
}

fn rejected(all: Vec<Problem>) -> Problem {
    match <[Problem; 1]>::try_from(all) {
        Ok([one]) => one,
        Err(all) => Problem {
            subproblems: all,
            ..Problem::new(
                Type::RejectedIdentifier,
                "some names cannot be ordered; the subproblems say which",
            )
        },
    }
}

fn name(of: &Identifier) -> Result<AltName, Problem> {
    let told: String = of.value.chars().take(256).collect();
    let read: AltName = of.value.parse().map_err(|fault| {
        let why = format!("{told:?}: {fault}");
        Problem::new(Type::RejectedIdentifier, why).about(&told)
    })?;
    match (&*of.kind, &read) {
        ("dns", AltName::Dns(_)) | ("ip", AltName::Ip(_)) => Ok(read),
        ("dns" | "ip", _) => {
            let why = format!("{told:?} is no name of the type {:?}", of.kind);
            Err(Problem::malformed(why).about(&told))
        }
        _ => Err(Problem::new(
            Type::UnsupportedIdentifier,
            "identifiers: the types dns and ip are taken",
        )),
    }
}

fn names(all: &[Identifier]) -> Result<Names, Problem> {
    // Checked again, for the same bound.
    let few = &all[..all.len().min(super::super::super::name::MAX_NAMES + 1)];
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for one in few {
        match name(one) {
            Ok(name) => good.push(name),
            Err(problem) => bad.push(problem),
        }
    }
    if !bad.is_empty() {
        return Err(rejected(bad));
    }
    Names::try_from(good).map_err(|e| Problem::malformed(format!("identifiers: {e}")))
}

/// A profile that names can be ordered by.
struct Candidate {
    name: String,
    profile: Profile,
    issuer: Arc<Issuer>,
}

impl Candidate {
    fn refuses(&self, names: &Names) -> Vec<Problem> {
        let refused = |name: &AltName| {
            let why = match self.profile.allows(name) {
                false => format!("the profile {:?} does not allow {name}", self.name),
                true => self.issuer.permits(name).err()?.to_string(),
            };
            Some(Problem::new(Type::RejectedIdentifier, why).about(name))
        };
        names.iter().filter_map(refused).collect()
    }
}

/// The profiles with ACME that an account was given.
fn candidates(
    items: &Items<'_>,
    here: &Here,
    given: &BTreeSet<String>,
) -> Result<Vec<Candidate>, EngineError> {
    let at = here
        .own()
        .map_err(|problem| EngineError::Precondition(problem.detail))?;
    let mut all = Vec::new();
    for name in profiles(items)? {
        let profile = profile(items, &name)?;
        if profile.acme.is_none() || !(given.is_empty() || given.contains(&name)) {
            continue;
        }
        if StoredIssuer::find(items, &profile.issuer)?.is_none_or(|issuer| issuer.disabled) {
            continue;
        }
        all.push(Candidate {
            issuer: ready::issuer(at.mount(), items, &profile.issuer)?,
            name,
            profile,
        });
    }
    Ok(all)
}

/// The one that is meant: that was said, or the only one that takes all names.
fn choose(
    mut all: Vec<Candidate>,
    said: Option<&str>,
    names: &Names,
) -> Result<Candidate, Problem> {
    let told = |all: &[Candidate]| -> String {
        let names: Vec<_> = all.iter().map(|one| &*one.name).collect();
        names.join(", ")
    };
    if let Some(said) = said {
        let there = told(&all);
        let found = all.into_iter().find(|one| one.name == said);
        return found.ok_or_else(|| {
            let why = format!("profile: there is none of this name that the account may order by; there are: {there}");
            Problem::new(Type::InvalidProfile, why)
        });
    }
    if all.is_empty() {
        return Err(Problem::new(
            Type::Unauthorized,
            "the policy allows the account of MCIAS no profile of this mount with ACME (pki:issue)",
        ));
    }
    if all.len() > 1 && all.iter().any(|one| one.refuses(names).is_empty()) {
        all.retain(|one| one.refuses(names).is_empty());
    }
    match <[Candidate; 1]>::try_from(all) {
        Ok([one]) => Ok(one),
        Err(all) => {
            let why = format!("profile: say which of {}", told(&all));
            Err(Problem::new(Type::InvalidProfile, why))
        }
    }
}

/// newOrder.
pub(in super::super) async fn new(asked: Asked) -> Result<Answer, Problem> {
    let caller = asked.caller("acme.new-order");
    let made = match order(&asked, &caller).await {
        // Nothing is done that was not done before.
        Ok((id, order, false)) => return Ok(answer::order(&asked.here, &id, &order, 201)),
        made => made,
    };
    let (id, order, _) = asked.told(&caller, made).await?;
    Ok(answer::order(&asked.here, &id, &order, 201))
}

/// The order, and whether something was written down for it.
async fn order(asked: &Asked, caller: &Caller) -> Result<(String, Order, bool), Problem> {
    let here = &asked.here;
    let (account_id, account) = asked.account()?;
    let says: New = asked.says()?;
    if says.not_before.is_some() || says.not_after.is_some() {
        return Err(Problem::malformed(
            "notBefore, notAfter: the profile says how long certificates last; leave them out",
        ));
    }
    let limits = here.memory()?;
    let owner = account.owner.id();
    limits
        .orders
        .ask(owner.clone(), here.steady())
        .map_err(limited)?;
    let names = names(&says.identifiers)?;
    let (given, reader) = (account.profiles.clone(), Arc::clone(here));
    let all = here
        .read(move |items| candidates(items, &reader, &given))
        .await?;
    let visit = here.api.0.visit(caller, &KIND, here.mount())?;
    let said = says.profile.as_deref();
    // Who asks for one by its name is told that he may not: the directory has the names.
    let may = |one: &Candidate| said.is_some() || visit.may(action::ISSUE, &[PROFILES, &one.name]);
    let all = all.into_iter().filter(may).collect();
    let chosen = choose(all, said, &names)?;
    let at = visit.judge(action::ISSUE, &[&[PROFILES, &chosen.name]])?;
    let refused = chosen.refuses(&names);
    if !refused.is_empty() {
        return Err(rejected(refused));
    }
    for name in names.iter() {
        let key = (owner.clone(), name.to_string());
        if let Err(seconds) = limits.failures.look(&key, here.steady()) {
            let why = format!("{name} was looked at too often in vain; wait");
            return Err(Problem::later(Type::RateLimited, why, seconds).about(name));
        }
    }
    let replaces = match &says.replaces {
        Some(id) => Some(renewal::replaced(here, account_id, id, &names).await?),
        None => None,
    };
    let now_s = here.now_s();
    let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
    let order = Order::new(
        account_id,
        &owner,
        &chosen.name,
        names,
        replaces,
        now_s + ORDER_S,
        || new_token().map_err(EngineError::from),
    )?;
    let wanted = order.clone();
    let same = here.read(move |items| wanted.same(items, now_s)).await?;
    if let Some((id, order)) = same {
        return Ok((id, order, false));
    }
    let id = new_id().map_err(EngineError::from)?;
    let detail = Detail::new()
        .text("order", &id)
        .list("names", texts.iter().map(String::as_str));
    let life_s = chosen.profile.ttl_s;
    let create = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let standing = AcmeAccount::find(items, &order.account)?.map(|account| account.standing);
        if standing != Some(Standing::Valid) {
            return Err(EngineError::NotFound("account", order.account));
        }
        // By another request meanwhile.
        if let Some((id, order)) = order.same(items, now_s)? {
            return Ok((id, order, true));
        }
        Tally::may_order(items, &order, life_s, now_s)?;
        order.create(items, &id)?;
        Ok((id, order, true))
    };
    at.record(detail, create)
        .await
        .map_err(|error| match error {
            EngineError::Precondition(why) => Problem::later(Type::RateLimited, why, 600),
            other => other.into(),
        })
}
