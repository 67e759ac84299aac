//! Finalizing (RFC 8555 §7.4): the certificate is made by the request that comes with it.

use std::collections::BTreeSet;

use mcdsl::{audit::Detail, server::Caller};
use serde::Deserialize;

use super::{
    super::{
        super::{
            KIND, PROFILES, action,
            api::wanted::{Key, Wanted},
            csr::Csr,
        },
        answer::{self, Answer},
        decoded,
        order::{Order, Status},
        problem::{Problem, Type},
        request::Asked,
        store::{AcmeAccount, IssuedTo, Standing, Tally},
    },
    own,
};
use crate::{
    barrier::Items,
    engine::{EngineError, seconds},
    entered::Entered,
};

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

/// finalize: the certificate is made, by the request that comes with it.
pub(in super::super) async fn finalize(asked: Asked, id: &str) -> Result<Answer, Problem> {
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
    // A name may be in the common name alone (RFC 8555 §7.4), and what is there is one of them.
    let asked_for: BTreeSet<_> = csr.names.iter().chain(&csr.common_name).collect();
    let ordered: BTreeSet<_> = order.names.iter().collect();
    if asked_for != ordered {
        return Err(bad(
            "the names of its subjectAltName, and its common name if that is a name, are not those of the order".to_owned(),
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
        account: (&account.owner.identity()).into(),
    };
    let (wanted, ground) = wanted.found(&at).await?;
    if !ground.is_for_acme() {
        let why = "the profile is not for ACME any more".to_owned();
        return Err(EngineError::Precondition(why).into());
    }
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
    let not_after_s = seconds(made.issued.not_after);
    let store = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let standing = AcmeAccount::find(items, &account_id)?.map(|account| account.standing);
        if standing != Some(Standing::Valid) {
            return Err(EngineError::NotFound("account", account_id));
        }
        let none = || EngineError::NotFound("order", id.clone());
        let mut order = Order::find(items, &id)?.ok_or_else(none)?;
        let issued = order.issued(serial.clone(), now_s);
        issued.map_err(|problem| EngineError::Precondition(problem.detail))?;
        made.store(items, at, wanted)?;
        Tally::issued(items, &order, not_after_s, (now_s, seconds(at.sure_now())))?;
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
