//! What is asked of orders (RFC 8555 §7.4, §7.5).

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use mcdsl::{audit::Detail, server::Caller};
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        KIND, PROFILES, action,
        api::wanted::{Key, Wanted},
        csr::Csr,
        issuer::Issuer,
        name::{AltName, Names},
        pem,
        profile::Profile,
        ready,
        serial::Serial,
        store::{Record, StoredIssuer, profile, profiles},
    },
    answer::{self, Answer},
    decoded, look,
    order::{Method, Order, Status, Task},
    problem::{Problem, Type},
    renewal,
    request::{Asked, Here, limited},
    store::{IssuedTo, Look, MAX_OPEN, MAX_ORDERS, ORDER_S, new_id, new_token},
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

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

#[derive(Deserialize)]
struct Change {
    status: String,
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
    let few = &all[..all.len().min(super::super::name::MAX_NAMES + 1)];
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
pub(super) async fn new(asked: Asked) -> Result<Answer, Problem> {
    let caller = asked.caller("acme.new-order");
    let made = order(&asked, &caller).await;
    let (id, order) = asked.told(&caller, made).await?;
    Ok(answer::order(&asked.here, &id, &order, 201))
}

async fn order(asked: &Asked, caller: &Caller) -> Result<(String, Order), Problem> {
    let here = &asked.here;
    let (account_id, account) = asked.account()?;
    let says: New = asked.says()?;
    if says.not_before.is_some() || says.not_after.is_some() {
        return Err(Problem::malformed(
            "notBefore, notAfter: the profile says how long certificates last; leave them out",
        ));
    }
    let limits = here.memory()?;
    limits
        .orders
        .ask(account_id.to_owned(), here.now())
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
        let key = (account_id.to_owned(), name.to_string());
        if let Err(seconds) = limits.failures.look(&key, here.now()) {
            let why = format!("{name} was looked at too often in vain; wait");
            return Err(Problem::later(Type::RateLimited, why, seconds).about(name));
        }
    }
    let replaces = match &says.replaces {
        Some(id) => Some(renewal::replaced(here, account_id, id, &names).await?),
        None => None,
    };
    let now_s = here.now_s();
    let (owner, of, wanted) = (account_id.to_owned(), chosen.name.clone(), names.clone());
    let (open, same) = here
        .read(move |items| {
            let open = Order::count_open(items, &owner)?;
            Ok((open, Order::same(items, &owner, &of, &wanted, now_s)?))
        })
        .await?;
    if let Some((id, order)) = same.filter(|(_, order)| order.replaces == replaces) {
        let known = Detail::new().text("order", &id);
        at.done(known).await?;
        return Ok((id, order));
    }
    if open >= MAX_OPEN {
        let why = format!("the account has {MAX_OPEN} open orders; finish them first");
        return Err(Problem::later(Type::RateLimited, why, 60));
    }
    if limits.count.fetch_add(1, Relaxed) >= MAX_ORDERS {
        limits.count.fetch_sub(1, Relaxed);
        let why = "the mount has as many orders as it may; wait until some have ended";
        return Err(Problem::later(Type::RateLimited, why, 600));
    }
    let id = new_id().map_err(EngineError::from)?;
    let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
    let detail = Detail::new()
        .text("order", &id)
        .list("names", texts.iter().map(String::as_str));
    let order = Order::new(
        account_id,
        &chosen.name,
        names,
        replaces,
        now_s + ORDER_S,
        || new_token().map_err(EngineError::from),
    )?;
    let create = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        order.create(items, &id)?;
        Ok((id, order))
    };
    Ok(at.record(detail, create).await?)
}

/// The order of the account; another's is as none.
async fn own(asked: &Asked, id: &str) -> Result<Order, Problem> {
    let (account, _) = asked.account()?;
    let look = id.to_owned();
    let found = asked
        .here
        .read(move |items| Order::find(items, &look))
        .await?;
    let found = found.filter(|order| order.account == account);
    found.ok_or_else(|| Problem::not_found("order"))
}

/// An order, as it is.
pub(super) async fn get(asked: Asked, id: &str) -> Result<Answer, Problem> {
    asked.get()?;
    let order = own(&asked, id).await?;
    Ok(answer::order(&asked.here, id, &order, 200))
}

fn index(at: &str) -> Result<usize, Problem> {
    let small = at.len() <= 3 && at.bytes().all(|b| b.is_ascii_digit());
    let at = small.then(|| at.parse().ok()).flatten();
    at.ok_or_else(|| Problem::not_found("authorization"))
}

/// An authorization, as it is; or the client gives it up.
pub(super) async fn authorization(asked: Asked, id: &str, at: &str) -> Result<Answer, Problem> {
    let n = index(at)?;
    let mut order = own(&asked, id).await?;
    if !asked.is_get() {
        let says: Change = asked.says()?;
        if says.status != "deactivated" {
            return Err(Problem::malformed("status: deactivated"));
        }
        let (look, now_s) = (id.to_owned(), asked.here.now_s());
        let change = move |items: &Items<'_>| {
            let none = || EngineError::NotFound("order", look.clone());
            let mut order = Order::find(items, &look)?.ok_or_else(none)?;
            let changed = order.deactivate(n);
            if changed.is_ok() {
                order.put(items, &look, now_s)?;
            }
            Ok(changed.map(|()| order))
        };
        order = asked.here.keep(change).await??;
    }
    let answer = answer::authorization(&asked.here, id, &order, n);
    answer.ok_or_else(|| Problem::not_found("authorization"))
}

/// A challenge, as it is; or the client is ready for it.
pub(super) async fn challenge(
    asked: Asked,
    id: &str,
    at: &str,
    method: &str,
) -> Result<Answer, Problem> {
    let none = || Problem::not_found("challenge");
    let n = index(at)?;
    let method = Method::from_name(method).ok_or_else(none)?;
    let mut order = own(&asked, id).await?;
    if !asked.is_get() {
        let _: serde_json::Map<String, Value> = asked.says()?;
        let look = Look {
            order: id.to_owned(),
            at: n,
            method,
        };
        let (noted, now_s) = (look.clone(), asked.here.now_s());
        let begin = move |items: &Items<'_>| -> Result<_, EngineError> {
            let none = || EngineError::NotFound("order", noted.order.clone());
            let mut order = Order::find(items, &noted.order)?.ok_or_else(none)?;
            let begun: Result<Option<Task>, Problem> = order.begin(n, method, now_s);
            if let Ok(Some(_)) = &begun {
                order.put(items, &noted.order, now_s)?;
                noted.note(items)?;
            }
            Ok(begun.map(|task| (task, order)))
        };
        let (task, begun) = asked.here.keep(begin).await??;
        order = begun;
        if task.is_some() {
            look::begin(asked.here.api.clone(), asked.here.mount(), look)?;
        }
    }
    let one = order.authorizations.get(n).ok_or_else(none)?;
    let which = one.challenges.iter().position(|c| c.method == method);
    let value = answer::challenge(&asked.here, id, &order, n, which.ok_or_else(none)?);
    let up = format!("{}/authz/{id}/{n}", asked.here.base);
    Ok(Answer::json(200, &value).up(up))
}

/// finalize: the certificate is made, by the request that comes with it.
pub(super) async fn finalize(asked: Asked, id: &str) -> Result<Answer, Problem> {
    let order = own(&asked, id).await?;
    let caller = asked.caller("acme.finalize");
    let made = issue(&asked, &caller, id, order).await;
    let order = asked.told(&caller, made).await?;
    Ok(answer::order(&asked.here, id, &order, 200))
}

async fn issue(asked: &Asked, caller: &Caller, id: &str, order: Order) -> Result<Order, Problem> {
    let here = &asked.here;
    let (account_id, account) = asked.account()?;
    let now_s = here.now_s();
    let says: Finalize = asked.says()?;
    if order.status(now_s) == Status::Valid {
        // Whoever lost the answer asks again.
        return Err(Problem::new(
            Type::OrderNotReady,
            "the order is valid already; its certificate is at the order's address",
        ));
    }
    order.ready(now_s)?;
    let bad = |why: String| Problem::new(Type::BadCsr, format!("csr: {why}"));
    let csr = Csr::from_der(&decoded("csr", &says.csr)?).map_err(|e| bad(e.to_string()))?;
    let asked_for: BTreeSet<_> = csr.names.iter().collect();
    let ordered: BTreeSet<_> = order.names.iter().collect();
    if asked_for != ordered {
        return Err(bad(
            "the names of its subjectAltName are not those of the order".to_owned(),
        ));
    }
    if csr.key == *account.key.public() {
        return Err(bad("its key is the account's; take another".to_owned()));
    }
    let visit = here.api.0.visit(caller, &KIND, here.mount())?;
    let on = [PROFILES, &*order.profile];
    let at = visit.judge(action::ISSUE, &[&on])?;
    let wanted = Wanted {
        profile: order.profile.clone(),
        names: order.names.clone(),
        key: Key::Theirs(Box::new(csr.key)),
        ttl_s: 0,
        renews: order.replaces.as_ref().map(|old| old.serial.clone()),
        account: account.owner.identity().account,
    };
    let read = move |items: &Items<'_>, at: &Entered| {
        if profile(items, &wanted.profile)?.acme.is_none() {
            return Err(EngineError::Precondition(
                "the profile is not for ACME any more".to_owned(),
            ));
        }
        let ground = wanted.ground(items, at)?;
        Ok((wanted, ground))
    };
    let (wanted, ground) = at.read(read).await?;
    let made = wanted.make(&at, ground).await;
    let (wanted, made) = made.map_err(|error| match error {
        EngineError::Invalid(why) => bad(why),
        other => other.into(),
    })?;
    let serial = made.issued.serial.clone();
    let texts: Vec<_> = order.names.iter().map(ToString::to_string).collect();
    let mut detail = Detail::new()
        .text("order", id)
        .text("serial", &serial.to_string())
        .list("names", texts.iter().map(String::as_str));
    if let Some(replaces) = &order.replaces {
        detail = detail.text("renews", &replaces.serial.to_string());
    }
    let (id, account_id) = (id.to_owned(), account_id.to_owned());
    let store = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let none = || EngineError::NotFound("order", id.clone());
        let mut order = Order::find(items, &id)?.ok_or_else(none)?;
        let issued = order.issued(serial.clone(), now_s);
        issued.map_err(|problem| EngineError::Precondition(problem.detail))?;
        made.store(items, wanted)?;
        if let Some(old) = &order.replaces
            && let Some(mut whose) = IssuedTo::find(items, &old.serial)?
        {
            whose.replaced = true;
            whose.put(items, &old.serial)?;
        }
        let whose = IssuedTo {
            account: account_id,
            replaced: false,
        };
        whose.put(items, &serial)?;
        order.put(items, &id, now_s)?;
        Ok(order)
    };
    at.record(detail, store).await.map_err(|error| match error {
        EngineError::Precondition(why) => Problem::new(Type::OrderNotReady, why),
        other => other.into(),
    })
}

/// A certificate with those above it, but for the root.
pub(super) async fn certificate(asked: Asked, serial: &str) -> Result<Answer, Problem> {
    asked.get()?;
    let none = || Problem::not_found("certificate");
    let (account, _) = asked.account()?;
    let serial: Serial = serial.parse().map_err(|_| none())?;
    let account = account.to_owned();
    let read = move |items: &Items<'_>| -> Result<_, EngineError> {
        let whose = IssuedTo::find(items, &serial)?;
        if whose.is_none_or(|whose| whose.account != account) {
            return Ok(None);
        }
        let Some(record) = Record::find(items, &serial)? else {
            return Ok(None);
        };
        let mut chain = pem::encode(pem::CERTIFICATE, &record.der()?)?;
        let issuer = StoredIssuer::find(items, &record.issuer)?;
        if let Some(issuer) = issuer.filter(|issuer| issuer.id == record.by) {
            let above = issuer.chain()?;
            let between = above.split_last().map_or(&[][..], |(_, between)| between);
            chain.push_str(&pem::chain(between)?);
        }
        Ok(Some(chain))
    };
    let chain = asked.here.read(read).await?.ok_or_else(none)?;
    Ok(Answer::pem(chain))
}
