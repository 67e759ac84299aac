//! Certificates of a profile.

use std::sync::Arc;

use mc_proto::metacrypt::v1::{
    GetCertificateRequest, IssueCertificateRequest, IssuedCertificate, PkiCertificate,
    RenewCertificateRequest, RevokeCertificateRequest, SignCsrRequest,
};
use mcdsl::{audit::Detail, server::Caller};
use zeroize::Zeroizing;

use super::{issuers::may_issue, message};
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        Act, EngineError,
        pki::{
            CERTIFICATES, KIND, PROFILES, action, csr,
            name::Names,
            pem,
            profile::Profile,
            public_key::{KeyAlgorithm, PublicKey},
            ready::{self, Ready},
            revocation::Revocation,
            serial::Serial,
            signed::{Issued, Request, Subject, issue as certify, new_key},
            store::{CrlState, MAX_REVOKED, Of, Record, Settings, StoredIssuer, profile, seconds},
            urls::Urls,
        },
    },
    entered::{Entered, identity},
};

/// Whose key a certificate is for.
pub(in crate::engine::pki) enum Key {
    /// A new one.
    New(Option<KeyAlgorithm>),
    /// The caller's.
    Theirs(Box<PublicKey>),
}

/// A certificate that is wanted.
pub(in crate::engine::pki) struct Wanted {
    pub(in crate::engine::pki) profile: String,
    pub(in crate::engine::pki) names: Names,
    pub(in crate::engine::pki) key: Key,
    pub(in crate::engine::pki) ttl_s: u64,
    pub(in crate::engine::pki) renews: Option<Serial>,
    pub(in crate::engine::pki) account: String,
}

/// One that was made, with the new key, and what it is made of.
pub(in crate::engine::pki) struct Made {
    pub(in crate::engine::pki) issued: Issued,
    pkcs8: Option<Zeroizing<Vec<u8>>>,
    issuer: String,
    above: Vec<Vec<u8>>,
    by: Profile,
}

/// The algorithm of a new key, if none is said.
fn usual(profile: &Profile) -> Result<KeyAlgorithm, EngineError> {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519};
    let all = [EcdsaP256, Ed25519, EcdsaP384];
    let found = all.into_iter().find(|a| profile.key_algorithms.contains(a));
    found.ok_or_else(|| {
        EngineError::Precondition(
            "the profile takes no keys that are made here; send a request for yours (Sign)"
                .to_owned(),
        )
    })
}

impl Wanted {
    pub(in crate::engine::pki) fn make(
        &self,
        items: &Items<'_>,
        at: &Entered,
    ) -> Result<Made, EngineError> {
        let by = profile(items, &self.profile)?;
        may_issue(&by.issuer, &StoredIssuer::get(items, &by.issuer)?)?;
        let under = ready::issuer(at.mount(), items, &by.issuer)?;
        let urls = Settings::get(items)?.base;
        let urls = urls.map(|base| Urls::new(&base, at.mount().name(), under.name()));
        let (pkcs8, new) = match &self.key {
            Key::Theirs(_) => (None, None),
            Key::New(algorithm) => {
                let (pkcs8, key) = new_key(algorithm.map_or_else(|| usual(&by), Ok)?)?;
                (Some(pkcs8), Some(key))
            }
        };
        let key = match (&self.key, &new) {
            (Key::Theirs(key), _) => &**key,
            (_, Some(key)) => key,
            _ => return Err(EngineError::field("key", "there is none")),
        };
        let request = Request {
            subject: Subject::Leaf {
                profile: (&self.profile, &by),
                names: &self.names,
                key,
                ttl: message::ttl(self.ttl_s),
                under: &under,
            },
            urls: urls.as_ref(),
            now: at.now(),
        };
        Ok(Made {
            issued: certify(at.proof()?, &request)?,
            pkcs8,
            issuer: under.name().to_owned(),
            above: under.chain().to_vec(),
            by,
        })
    }
}

impl Made {
    /// Stores it, if all is as it was when it was signed: nothing is issued by what is gone since.
    pub(in crate::engine::pki) fn store(
        self,
        items: &Items<'_>,
        wanted: Wanted,
    ) -> Result<(), EngineError> {
        may_issue(&self.issuer, &StoredIssuer::get(items, &self.issuer)?)?;
        if profile(items, &wanted.profile)? != self.by {
            return Err(EngineError::Precondition(
                "the profile was changed meanwhile; ask again".to_owned(),
            ));
        }
        let of = Of::Profile(wanted.profile);
        let mut record = Record::new(&self.issued, of, &self.issuer, &wanted.account);
        (record.names, record.renews) = (Some(wanted.names), wanted.renews);
        record.create(items, &self.issued.serial)
    }
}

/// Revokes one, as CRLs and OCSP tell from then on; what they were made of is then to be dropped ([`forget_crl`]).
pub(in crate::engine::pki) fn end(
    items: &Items<'_>,
    serial: &Serial,
    revocation: Revocation,
) -> Result<Record, EngineError> {
    let none = || EngineError::NotFound("certificate", serial.to_string());
    let mut record = Record::find(items, serial)?.ok_or_else(none)?;
    let why = match (&record.revoked, record.not_after_s <= revocation.at_s) {
        (Some(_), _) => Some("it is revoked already"),
        (None, true) => Some("it has ended, so that nobody takes it any more"),
        (None, false) => None,
    };
    if let Some(why) = why {
        return Err(EngineError::Precondition(why.to_owned()));
    }
    let mut state = CrlState::get(items, &record.issuer)?;
    if state.entries >= MAX_REVOKED {
        return Err(EngineError::Precondition(format!(
            "the CRL of {:?} has {MAX_REVOKED} entries, which is the most; revoke the issuer itself, and make another",
            record.issuer
        )));
    }
    state.entries += 1;
    state.put(items, &record.issuer)?;
    record.revoke(items, serial, revocation)?;
    if let Of::Issuer(name) = &record.of
        && let Some(mut stored) = StoredIssuer::find(items, name)?
    {
        stored.disabled = true;
        stored.put(items, name)?;
    }
    Ok(record)
}

/// The list in memory is behind: it is made anew when it is asked for.
pub(in crate::engine::pki) fn forget_crl(at: &Entered, issuer: &str) -> Result<(), EngineError> {
    Ready::of(at.mount())?.kept().crls.remove(issuer);
    Ok(())
}

/// Makes it, stores it, and answers it: what cannot be stored is not answered.
async fn answer(at: &Arc<Entered>, wanted: Wanted) -> Result<IssuedCertificate, EngineError> {
    // Beside the one that writes, which would wait for the signature.
    let make = move |items: &Items<'_>, at: &Entered| {
        let made = wanted.make(items, at)?;
        Ok((wanted, made))
    };
    let (wanted, made) = at.read(make).await?;
    let (between, root) = match made.above.split_last() {
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
    let detail = at.noted(detail, &answer);
    let store = move |items: &Items<'_>, _: &Entered| made.store(items, wanted);
    at.change(detail, store, |(), _| ()).await?;
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
        account: identity(caller)?.account.clone(),
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
        account: identity(caller)?.account.clone(),
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
    let (Of::Profile(profile), Some(names)) = (record.of, record.names) else {
        return Err(EngineError::Precondition(
            "it is a CA's, which are not renewed; make another issuer".to_owned(),
        ));
    };
    if record.revoked.is_some() {
        return Err(EngineError::Precondition(
            "it is revoked; issue another one".to_owned(),
        ));
    }
    if record.not_after_s <= seconds(at.now()) {
        return Err(EngineError::Precondition(
            "it has ended; issue another one".to_owned(),
        ));
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
        account: identity(caller)?.account.clone(),
    };
    answer(&at, wanted).await
}

pub(super) async fn revoke(
    api: &Api,
    caller: &Caller,
    asked: RevokeCertificateRequest,
) -> Result<PkiCertificate, EngineError> {
    let (at, serial, record) =
        find(api, caller, action::REVOKE, &asked.mount, &asked.serial).await?;
    let reason = message::reason(asked.reason)?;
    let at_s = seconds(at.now());
    let revocation = Revocation { at_s, reason };
    let detail = Detail::new().text("reason", &format!("{reason:?}"));
    let issuer = record.issuer;
    let revoke = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let record = end(items, &serial, revocation)?;
        message::certificate(&serial, &record)
    };
    let then = move |message, at: &Entered| -> Result<_, EngineError> {
        forget_crl(at, &issuer)?;
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
    at.done(Detail::new()).await?;
    message::certificate(&serial, &record)
}
