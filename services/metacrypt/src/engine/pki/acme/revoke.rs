//! revokeCert (RFC 8555 §7.6): by the account that ordered a certificate, by one that shows that it controls all its names, or by whoever has its key.

use mcdsl::{audit::Detail, server::Caller};
use serde::Deserialize;
use x509_cert::{Certificate, der::Decode as _};

use super::{
    super::{
        CERTIFICATES, KIND,
        api::certificates::{end, tell},
        public_key::PublicKey,
        revocation::{Reason, Revocation},
        serial::Serial,
        store::Record,
    },
    answer::Answer,
    decoded,
    order::Order,
    problem::{Problem, Type},
    request::{Asked, Who},
    store::IssuedTo,
};
use crate::{barrier::Items, engine::EngineError, entered::Entered};

#[derive(Deserialize)]
struct Says {
    certificate: String,
    #[serde(default)]
    reason: u8,
}

/// Of RFC 5280 §5.3.1 those that a subscriber may give.
fn reason(code: u8) -> Result<Reason, Problem> {
    Ok(match code {
        0 => Reason::Unspecified,
        1 => Reason::KeyCompromise,
        3 => Reason::AffiliationChanged,
        4 => Reason::Superseded,
        5 => Reason::CessationOfOperation,
        9 => Reason::PrivilegeWithdrawn,
        _ => {
            return Err(Problem::new(
                Type::BadRevocationReason,
                "reason: 0, 1, 3, 4, 5 or 9",
            ));
        }
    })
}

pub(super) async fn revoke(asked: Asked) -> Result<Answer, Problem> {
    let caller = asked.caller("acme.revoke-cert");
    let done = revoked(&asked, &caller).await;
    asked.told(&caller, done).await?;
    Ok(Answer::empty(200))
}

async fn revoked(asked: &Asked, caller: &Caller) -> Result<(), Problem> {
    let says: Says = asked.says()?;
    let reason = reason(says.reason)?;
    let none = || Problem::malformed("certificate: it is none of this mount").with_status(404);
    let der = decoded("certificate", &says.certificate)?;
    let certificate = Certificate::from_der(&der).map_err(|_| none())?;
    let tbs = certificate.tbs_certificate();
    let serial = Serial::of(tbs.serial_number().as_bytes()).ok_or_else(none)?;
    let look = serial.clone();
    let found = asked
        .here
        .read(move |items| {
            let record = Record::find(items, &look)?;
            Ok(record.zip(Some(IssuedTo::find(items, &look)?)))
        })
        .await?;
    let (record, whose) = found.ok_or_else(none)?;
    if record.der()? != der {
        return Err(none());
    }
    let may = match &asked.who {
        Who::Account(_, id) if whose.is_some_and(|whose| whose.account == **id) => true,
        Who::Account(account, id) => {
            asked.here.stands(account, id).await?;
            let (id, names, now_s) = (id.clone(), record.names.clone(), asked.here.now_s());
            let shown = move |items: &Items<'_>| match &names {
                Some(names) => Order::all_shown(items, &id, names, now_s),
                None => Ok(false),
            };
            asked.here.read(shown).await?
        }
        Who::Key(key) => {
            let certified = PublicKey::new(tbs.subject_public_key_info().clone());
            certified.is_ok_and(|certified| certified == *key.public())
        }
    };
    if !may {
        return Err(Problem::new(
            Type::Unauthorized,
            "it was ordered by another account; that account may revoke it, whoever has its key, or who has authorizations for all its names in orders that are open",
        ));
    }
    let already = || Problem::new(Type::AlreadyRevoked, "it is revoked already");
    if record.revoked.is_some() {
        return Err(already());
    }
    let on = [CERTIFICATES, &*serial.to_string()];
    let here = &asked.here;
    let at = here.api.0.owned(caller, &KIND, here.mount(), &on)?;
    let by = match &asked.who {
        Who::Account(_, id) => format!("the ACME account {id}"),
        Who::Key(_) => "the certificate's key".to_owned(),
    };
    let detail = Detail::new()
        .text("reason", &format!("{reason:?}"))
        .text("shown", &by);
    let revocation = Revocation {
        at_s: here.now_s(),
        reason,
    };
    let look = serial.clone();
    let revoke = move |items: &Items<'_>, _: &Entered| end(items, &serial, revocation);
    let then = |record: Record, at: &Entered| tell(at, &record);
    let done: Result<Result<(), EngineError>, EngineError> = at.change(detail, revoke, then).await;
    let Err(error) = done.and_then(|told| told) else {
        return Ok(());
    };
    // By another one meanwhile.
    let is = move |items: &Items<'_>| {
        let record = Record::find(items, &look)?;
        Ok(record.is_some_and(|record| record.revoked.is_some()))
    };
    match error {
        EngineError::Precondition(_) if here.read(is).await? => Err(already()),
        error => Err(error.into()),
    }
}
