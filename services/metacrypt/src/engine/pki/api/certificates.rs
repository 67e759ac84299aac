//! Certificates of a profile.

use std::sync::Arc;

use mc_proto::metacrypt::v1::{
    GetCertificateRequest, IssueCertificateRequest, IssuedCertificate, PkiCertificate,
    RenewCertificateRequest, RevokeCertificateRequest, SignCsrRequest,
};
use mcdsl::{audit::Detail, server::Caller};

use super::{
    message,
    wanted::{Key, Wanted},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        Act, EngineError,
        pki::{
            CERTIFICATES, KIND, PROFILES, action, csr,
            name::Names,
            pem,
            ready::Ready,
            revocation::Revocation,
            serial::Serial,
            store::{Of, Record, StoredIssuer},
        },
        seconds,
    },
    entered::{Entered, identity},
};

/// Whether another may take its place.
fn renewable(record: &Record, now_s: u64) -> Result<(), EngineError> {
    let why = match (&record.revoked, record.not_after_s <= now_s) {
        (Some(_), _) => "it is revoked; issue another one",
        (None, true) => "it has ended; issue another one",
        (None, false) => return Ok(()),
    };
    Err(EngineError::Precondition(why.to_owned()))
}

fn none(serial: &Serial) -> EngineError {
    EngineError::NotFound("certificate", serial.to_string())
}

/// Revokes one, always: OCSP tells it from the commit on, and CRLs are to be told of it then ([`tell`]).
pub(in crate::engine::pki) fn end(
    items: &Items<'_>,
    serial: &Serial,
    revocation: Revocation,
) -> Result<Record, EngineError> {
    let mut record = Record::find(items, serial)?.ok_or_else(|| none(serial))?;
    let why = match (&record.revoked, record.not_after_s <= revocation.at_s) {
        (Some(_), _) => Some("it is revoked already"),
        (None, true) => Some("it has ended, so that nobody takes it any more"),
        (None, false) => None,
    };
    if let Some(why) = why {
        return Err(EngineError::Precondition(why.to_owned()));
    }
    record.revoke(items, serial, revocation)?;
    // The CA that has the name now may be another one.
    if let Of::Issuer(name) = &record.of
        && let Some(stored) = StoredIssuer::find(items, name)?
        && stored.serial.as_ref() == Some(serial)
    {
        stored.end(items, name, revocation)?;
    }
    Ok(record)
}

/// The list of the issuer is behind: it is made anew when it is asked for. What was an issuer's certifies nothing more.
pub(in crate::engine::pki) fn tell(at: &Entered, record: &Record) -> Result<(), EngineError> {
    let ready = Ready::of(at.mount())?;
    ready.revoked(&record.by);
    if let Of::Issuer(_) = record.of {
        ready.ground_changed();
    }
    Ok(())
}

/// Makes it, stores it, and answers it: what cannot be stored is not answered.
async fn answer(at: &Arc<Entered>, wanted: Wanted) -> Result<IssuedCertificate, EngineError> {
    let (wanted, ground) = wanted.found(at).await?;
    let (wanted, made) = wanted.make(at, ground).await?;
    let (between, root) = match made.under.chain().split_last() {
        Some((root, between)) => (between, pem::encode(pem::CERTIFICATE, root)?),
        None => (&[][..], String::new()),
    };
    let mut chain = pem::encode(pem::CERTIFICATE, &made.issued.der)?;
    chain.push_str(&pem::chain(between)?);
    let private_key = match &made.pkcs8 {
        Some(pkcs8) => pem::encode(pem::PRIVATE_KEY, pkcs8)?,
        None => String::new(),
    };
    let serial = made.issued.serial.to_string();
    let answer = IssuedCertificate {
        serial: serial.clone(),
        chain,
        private_key,
        root,
        not_after: Some(made.issued.not_after.into()),
    };
    let names: Vec<_> = wanted.names.iter().map(ToString::to_string).collect();
    let mut detail = Detail::new().text("serial", &serial);
    detail = detail.list("names", names.iter().map(String::as_str));
    if let Some(renews) = &wanted.renews {
        detail = detail.text("renews", &renews.to_string());
    }
    let detail = at.noted(detail, &answer)?;
    let store = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        // As it is now: it may have been revoked since it was looked at.
        if let Some(old) = &wanted.renews {
            let old = Record::find(items, old)?.ok_or_else(|| none(old))?;
            renewable(&old, seconds(at.now()))?;
        }
        made.store(items, at, wanted)
    };
    at.record(detail, store).await?;
    Ok(answer)
}

fn names(texts: &[String]) -> Result<Names, EngineError> {
    Names::parse(texts).map_err(|e| EngineError::field("names", e))
}

fn read_csr(text: &str) -> Result<csr::Csr, EngineError> {
    csr::Csr::from_pem(text).map_err(|e| EngineError::field("csr", e))
}

fn new_key_of(sent: i32) -> Result<Key, EngineError> {
    Ok(Key::New(match sent {
        0 => None,
        sent => Some(message::made_algorithm(sent)?),
    }))
}

pub(super) async fn issue(
    api: &Api,
    caller: &Caller,
    asked: IssueCertificateRequest,
) -> Result<IssuedCertificate, EngineError> {
    let on = [PROFILES, &*asked.profile];
    let at = api
        .0
        .enter(caller, &KIND, action::ISSUE, &asked.mount, &on)?;
    let wanted = Wanted {
        names: names(&asked.names)?,
        key: new_key_of(asked.key_algorithm)?,
        ttl_s: asked.ttl_s,
        renews: None,
        account: identity(caller)?.into(),
        profile: asked.profile,
    };
    answer(&at, wanted).await
}

pub(super) async fn sign(
    api: &Api,
    caller: &Caller,
    asked: SignCsrRequest,
) -> Result<IssuedCertificate, EngineError> {
    let on = [PROFILES, &*asked.profile];
    let at = api
        .0
        .enter(caller, &KIND, action::SIGN, &asked.mount, &on)?;
    let csr = read_csr(&asked.csr)?;
    let names = match &*asked.names {
        [] => Names::try_from(csr.names).map_err(|_| {
            EngineError::field(
                "names",
                "the request (PKCS #10) has none in its subjectAltName; send them here",
            )
        })?,
        texts => names(texts)?,
    };
    let wanted = Wanted {
        names,
        key: Key::Theirs(Box::new(csr.key)),
        ttl_s: asked.ttl_s,
        renews: None,
        account: identity(caller)?.into(),
        profile: asked.profile,
    };
    answer(&at, wanted).await
}

/// Lets the caller do something with a certificate: it is found by its number, and judged by the profile that it was made by, or the CA that it is of.
async fn find(
    api: &Api,
    caller: &Caller,
    action: Act,
    mount: &str,
    serial: &str,
) -> Result<(Arc<Entered>, Serial, Record), EngineError> {
    let visit = api.0.visit(caller, &KIND, mount)?;
    let typed = serial.parse::<Serial>();
    let look = typed.clone().ok();
    let find = move |items: &Items<'_>| -> Result<_, EngineError> {
        let Some(serial) = look else { return Ok(None) };
        let found = Record::find(items, &serial)?;
        Ok(found.map(|record| {
            let path = record.of.path().map(ToOwned::to_owned).to_vec();
            ((serial, record), path)
        }))
    };
    // As it is stored, so that the log has one spelling.
    let spelled = typed
        .as_ref()
        .map_or_else(|_| serial.to_owned(), Serial::to_string);
    let asked = [CERTIFICATES, &*spelled];
    let found = visit
        .find(action, "certificate", &asked, &[PROFILES], find)
        .await;
    let (at, (serial, record)) = match (found, typed) {
        // Who may know is told what is wrong.
        (Err(EngineError::NotFound("certificate", _)), Err(fault)) => {
            return Err(EngineError::field("serial", fault));
        }
        (found, _) => found?,
    };
    Ok((at, serial, record))
}

pub(super) async fn renew(
    api: &Api,
    caller: &Caller,
    asked: RenewCertificateRequest,
) -> Result<IssuedCertificate, EngineError> {
    let (at, serial, record) =
        find(api, caller, action::RENEW, &asked.mount, &asked.serial).await?;
    renewable(&record, seconds(at.now()))?;
    let account = identity(caller)?;
    let of_another = record.account != account.account;
    let (Of::Profile(profile), Some(names)) = (record.of, record.names) else {
        return Err(EngineError::Precondition(
            "it is a CA's, which are not renewed; make another issuer".to_owned(),
        ));
    };
    // It was given to somebody: who is somebody else needs what a new one would need.
    if of_another {
        let action = match &*asked.csr {
            "" => action::ISSUE,
            _ => action::SIGN,
        };
        api.0
            .enter(caller, &KIND, action, &asked.mount, &[PROFILES, &profile])?;
    }
    let wanted = Wanted {
        profile,
        names,
        key: match &*asked.csr {
            "" => new_key_of(asked.key_algorithm)?,
            text => Key::Theirs(Box::new(read_csr(text)?.key)),
        },
        ttl_s: asked.ttl_s,
        renews: Some(serial),
        account: account.into(),
    };
    answer(&at, wanted).await
}

pub(super) async fn revoke(
    api: &Api,
    caller: &Caller,
    asked: RevokeCertificateRequest,
) -> Result<PkiCertificate, EngineError> {
    let (at, serial, _) = find(api, caller, action::REVOKE, &asked.mount, &asked.serial).await?;
    let reason = message::reason(asked.reason)?;
    let at_s = seconds(at.now());
    let revocation = Revocation { at_s, reason };
    let detail = Detail::new().text("reason", &format!("{reason:?}"));
    let revoke = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let record = end(items, &serial, revocation)?;
        Ok((message::certificate(&serial, &record)?, record))
    };
    let then = |(message, record): (_, Record), at: &Entered| -> Result<_, EngineError> {
        tell(at, &record)?;
        Ok(message)
    };
    at.change(detail, revoke, then).await?
}

pub(super) async fn get_certificate(
    api: &Api,
    caller: &Caller,
    asked: GetCertificateRequest,
) -> Result<PkiCertificate, EngineError> {
    let (at, serial, record) = find(api, caller, action::READ, &asked.mount, &asked.serial).await?;
    let mut found = message::certificate(&serial, &record)?;
    let look = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let revoked_s = StoredIssuer::signer_revoked_s(items, &record)?;
        Ok(record.is_void_by(revoked_s))
    };
    found.issuer_revoked = Some(at.read(look).await?);
    at.done(Detail::new()).await?;
    Ok(found)
}
