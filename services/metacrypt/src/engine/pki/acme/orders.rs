//! What is asked of orders (RFC 8555 §7.4, §7.5).

mod finalize;
mod new;

use serde::Deserialize;
use serde_json::Value;

pub(super) use self::{finalize::finalize, new::new};
use super::{
    super::{
        pem,
        serial::Serial,
        store::{Record, StoredIssuer},
    },
    answer::{self, Answer},
    look,
    order::{Method, Order, Task},
    problem::{Problem, Type},
    request::Asked,
    store::{IssuedTo, Look},
};
use crate::{barrier::Items, engine::EngineError};

#[derive(Deserialize)]
struct Change {
    status: String,
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
        let line = &asked.here.memory()?.line;
        if !line.has_room(&order.owner) {
            let why = "too many names of the account of MCIAS are being looked at; wait";
            return Err(Problem::later(Type::RateLimited, why, 10));
        }
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
            look::begin(&asked.here.api, asked.here.mount(), &order.owner, look)?;
        }
    }
    let one = order.authorizations.get(n).ok_or_else(none)?;
    let which = one.challenges.iter().position(|c| c.method == method);
    let value = answer::challenge(&asked.here, id, &order, n, which.ok_or_else(none)?);
    let up = format!("{}/authz/{id}/{n}", asked.here.base);
    Ok(Answer::json(200, &value).up(up))
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
