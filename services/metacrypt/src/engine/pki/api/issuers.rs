//! CAs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mc_proto::metacrypt::v1::{
    CreateIssuerRequest, CreateRootRequest, DeleteIssuerRequest, DeleteIssuerResponse,
    GetIssuerRequest, ImportIssuerRequest, ListIssuersRequest, ListIssuersResponse, PkiIssuer,
    UpdateIssuerRequest,
};
use mcdsl::{audit::Detail, server::Caller};

use super::message;
use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError, Page, Positions, limit,
        pki::{
            COST_US, DEFAULT, ISSUERS, KIND, action,
            issuer::{Issuer, IssuerFault, IssuerId},
            item_name, pem,
            public_key::{KeyAlgorithm, PublicKey},
            ready::{self, Ready},
            signed::{CaName, Issued, Request, SigningKey, Subject, issue},
            store::{Holder, Of, Record, Settings, StoredIssuer},
            urls::Urls,
        },
        seconds,
    },
    entered::{Entered, identity},
};

/// Life of a root, if nothing is said: ten years.
const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

fn ca_name(common_name: &str, organization: &str) -> Result<CaName, EngineError> {
    let wrong = |(field, fault)| EngineError::field(field, fault);
    CaName::new(common_name, organization).map_err(wrong)
}

/// That a CA of the mount signed one.
struct Signed {
    issued: Issued,
    under: String,
    by: IssuerId,
    account: Holder,
}

/// Stores a CA that was made or imported, with its key, and answers as it is. Where the mount has no default, it is that if no CA of the mount signed it and who made it may say
/// which one is: what is below another would make that one the root that everybody is told to trust.
async fn create(
    at: &Arc<Entered>,
    detail: Detail,
    stored: StoredIssuer,
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
    record: Option<Signed>,
) -> Result<PkiIssuer, EngineError> {
    let create = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        stored.create(items, at.name(), &pkcs8)?;
        let (mut settings, mut detail) = (Settings::get(items)?, detail);
        if settings.default.is_none()
            && record.is_none()
            && let Some(by) = at.may(action::SET_DEFAULT, &[DEFAULT])?
        {
            settings.default = Some(at.name().to_owned());
            settings.put(items)?;
            detail = detail.text("default_by", &by.to_string());
        }
        if let Some(Signed {
            issued,
            under,
            by,
            account,
        }) = record
        {
            // It was there when it signed; nothing is issued by what is gone.
            let signer = StoredIssuer::get(items, &under)?;
            may_issue(&under, &signer)?;
            if signer.id != by {
                let why = format!("the CA {under:?} was changed meanwhile; ask again");
                return Err(EngineError::Precondition(why));
            }
            let of = Of::Issuer(at.name().to_owned());
            let record = Record::new(&issued, of, (&signer.id, &under), &account);
            record.create(items, &issued.serial, seconds(at.sure_now()))?;
        }
        let made = message::issuer(at.name(), &stored, &settings)?;
        Ok((made, detail))
    };
    let then = |message, at: &Entered| -> Result<_, EngineError> {
        Ready::of(at.mount())?.changed(at.name());
        Ok(message)
    };
    at.change_with(create, then).await?
}

/// Whether it issues.
pub(super) fn may_issue(name: &str, stored: &StoredIssuer) -> Result<(), EngineError> {
    let what = match (&stored.revoked, stored.disabled) {
        (Some(_), _) => {
            "revoked and issues nothing more; make another one and name that in the profile"
        }
        (None, true) => "disabled; enable it, or name another one in the profile",
        (None, false) => return Ok(()),
    };
    let why = format!("the issuer {name:?} is {what}");
    Err(EngineError::Precondition(why))
}

pub(super) async fn create_root(
    api: &Api,
    caller: &Caller,
    asked: CreateRootRequest,
) -> Result<PkiIssuer, EngineError> {
    let on = [ISSUERS, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::CREATE_ISSUER, &asked.mount, &on)?;
    item_name("name", &asked.name)?;
    let algorithm = message::made_algorithm(asked.key_algorithm)?;
    let name = ca_name(&asked.common_name, &asked.organization)?;
    let make = move |at: &Entered| -> Result<_, EngineError> {
        let (pkcs8, key) = SigningKey::generate(algorithm)?;
        let request = Request {
            subject: Subject::Root {
                item: at.name(),
                name: &name,
                key: &key,
                ttl: message::ttl(asked.ttl_s).unwrap_or(ROOT_TTL),
            },
            urls: None,
            now: at.now(),
        };
        let issued = issue(at.proof()?, &request)?;
        let ends = issued.not_after;
        let made = Issuer::new(at.name(), vec![issued.der], key).map_err(flaw)?;
        let stored = StoredIssuer::new(&made, None, Some(issued.serial));
        Ok((pkcs8, stored, ends))
    };
    let held = Arc::clone(&at);
    let (pkcs8, stored, ends) = at.beside(COST_US, move || make(&held)).await?;
    let said = (&*asked.common_name, &*asked.organization);
    let detail = described(said, algorithm, ends);
    create(&at, detail, stored, pkcs8, None).await
}

/// A CA that was made, for the log.
fn described(
    (common_name, organization): (&str, &str),
    algorithm: KeyAlgorithm,
    ends: SystemTime,
) -> Detail {
    let ends_ms = i64::try_from(seconds(ends) * 1000).unwrap_or(i64::MAX);
    Detail::new()
        .text("algorithm", &algorithm.to_string())
        .text("common_name", common_name)
        .text("organization", organization)
        .text("not_after", &mcdsl::human::utc(ends_ms))
}

/// Of what was made here.
fn flaw(fault: IssuerFault) -> EngineError {
    EngineError::Unsound(fault.to_string())
}

pub(super) async fn create_issuer(
    api: &Api,
    caller: &Caller,
    asked: CreateIssuerRequest,
) -> Result<PkiIssuer, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let on = [[ISSUERS, &*asked.name], [ISSUERS, &*asked.under]];
    let at = visit.judge(action::CREATE_ISSUER, &[&on[0], &on[1]])?;
    item_name("name", &asked.name)?;
    let algorithm = message::made_algorithm(asked.key_algorithm)?;
    let name = ca_name(&asked.common_name, &asked.organization)?;
    let limits = asked.constraints.clone().unwrap_or_default();
    let constraints = message::constraints(asked.constraints)?;
    let (under, account) = (asked.under.clone(), Holder::from(identity(caller)?));
    let signer = under.clone();
    let read = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        may_issue(&signer, &StoredIssuer::get(items, &signer)?)?;
        let under = ready::issuer(at.mount(), items, &signer)?;
        let urls = Settings::get(items)?.base;
        let urls = urls.map(|base| Urls::new(&base, at.mount().name(), under.name()));
        Ok((under, urls))
    };
    let (signer, urls) = at.read(read).await?;
    let by = signer.id().clone();
    let make = move |at: &Entered| -> Result<_, EngineError> {
        let under = &*signer;
        let (pkcs8, key) = SigningKey::generate(algorithm)?;
        let request = Request {
            subject: Subject::Issuer {
                item: at.name(),
                name: &name,
                constraints: &constraints,
                key: key.public(),
                ttl: message::ttl(asked.ttl_s),
                under,
            },
            urls: urls.as_ref(),
            now: at.now(),
        };
        let issued = issue(at.proof()?, &request)?;
        let chain = [vec![issued.der.clone()], under.chain().to_vec()].concat();
        let made = Issuer::new(at.name(), chain, key).map_err(flaw)?;
        let serial = Some(issued.serial.clone());
        let stored = StoredIssuer::new(&made, Some(asked.under), serial);
        Ok((pkcs8, stored, issued))
    };
    let held = Arc::clone(&at);
    let (pkcs8, stored, issued) = at.beside(COST_US, move || make(&held)).await?;
    let said = (&*asked.common_name, &*asked.organization);
    let mut detail = described(said, algorithm, issued.not_after)
        .text("under", &under)
        .text("serial", &issued.serial.to_string());
    for (what, all) in [
        ("permitted_dns", &limits.permitted_dns),
        ("excluded_dns", &limits.excluded_dns),
        ("permitted_ips", &limits.permitted_ips),
        ("excluded_ips", &limits.excluded_ips),
    ] {
        if !all.is_empty() {
            detail = detail.list(what, all.iter().map(String::as_str));
        }
    }
    let record = Signed {
        issued,
        under,
        by,
        account,
    };
    create(&at, detail, stored, pkcs8, Some(record)).await
}

pub(super) async fn import_issuer(
    api: &Api,
    caller: &Caller,
    asked: ImportIssuerRequest,
) -> Result<PkiIssuer, EngineError> {
    let on = [ISSUERS, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::CREATE_ISSUER, &asked.mount, &on)?;
    item_name("name", &asked.name)?;
    let chain = pem::read_chain(&asked.chain).map_err(|e| EngineError::field("chain", e))?;
    let detail = at.noted(Detail::new().flag("imported", true), &asked)?;
    let pkcs8 = zeroize::Zeroizing::new(asked.private_key);
    let pkcs8 = pem::read_key(&pkcs8).map_err(|e| EngineError::field("private_key", e))?;
    let make = move |at: &Entered| -> Result<_, EngineError> {
        let algorithm = algorithm_of(&chain)?;
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8).map_err(|_| {
            let why = format!("it is no {algorithm} key, as the certificate's is");
            EngineError::field("private_key", why)
        })?;
        let made = Issuer::new(at.name(), chain, key);
        let made = made.map_err(|e| match e {
            IssuerFault::OtherKey => EngineError::field("private_key", e),
            _ => EngineError::field("chain", e),
        })?;
        if at.now() >= made.not_after() || at.now() < made.not_before() {
            return Err(EngineError::field("chain", "it is not valid now"));
        }
        Ok((pkcs8, StoredIssuer::new(&made, None, None)))
    };
    let held = Arc::clone(&at);
    let (pkcs8, stored) = at.beside(COST_US, move || make(&held)).await?;
    create(&at, detail, stored, pkcs8, None).await
}

fn algorithm_of(chain: &[Vec<u8>]) -> Result<KeyAlgorithm, EngineError> {
    use x509_cert::der::Decode as _;
    let field = |why: &dyn std::fmt::Display| EngineError::field("chain", why);
    let first = chain
        .first()
        .ok_or_else(|| field(&"there is no certificate in it"))?;
    let first = x509_cert::Certificate::from_der(first).map_err(|e| field(&e))?;
    let key = first.tbs_certificate().subject_public_key_info().clone();
    Ok(PublicKey::new(key).map_err(|e| field(&e))?.algorithm())
}

pub(super) async fn list_issuers(
    api: &Api,
    caller: &Caller,
    asked: ListIssuersRequest,
) -> Result<ListIssuersResponse, EngineError> {
    let positions = Positions::of(caller, &asked.mount, ISSUERS, &[])?;
    let page = Page {
        place: "issuers/",
        after: positions.open(&asked.after)?,
        limit: limit(asked.limit),
    };
    let list = api
        .0
        .list(caller, &KIND, action::READ, &asked.mount, ISSUERS)?;
    let read = move |items: &Items<'_>, may: &dyn Fn(&str) -> bool| {
        let settings = Settings::get(items)?;
        let one = |name: &str| {
            let stored = StoredIssuer::get(items, name)?;
            message::issuer(name, &stored, &settings).map(Some)
        };
        page.read(items, may, one)
    };
    let (issuers, next) = list.read(read).await?;
    let next = positions.seal(&next)?;
    Ok(ListIssuersResponse { issuers, next })
}

pub(super) async fn get_issuer(
    api: &Api,
    caller: &Caller,
    asked: GetIssuerRequest,
) -> Result<PkiIssuer, EngineError> {
    let on = [ISSUERS, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::READ, &asked.mount, &on)?;
    let read = |items: &Items<'_>, at: &Entered| {
        let stored = StoredIssuer::get(items, at.name())?;
        message::issuer(at.name(), &stored, &Settings::get(items)?)
    };
    let found = at.read(read).await?;
    at.done(Detail::new()).await?;
    Ok(found)
}

/// That nobody took its certificate back, which is for ever.
pub(super) fn not_revoked(stored: &StoredIssuer) -> Result<(), EngineError> {
    match stored.revoked {
        None => Ok(()),
        Some(_) => Err(EngineError::Precondition(
            "its certificate is revoked, for ever; make another issuer".to_owned(),
        )),
    }
}

pub(super) async fn update_issuer(
    api: &Api,
    caller: &Caller,
    asked: UpdateIssuerRequest,
) -> Result<PkiIssuer, EngineError> {
    let on = [ISSUERS, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::UPDATE_ISSUER, &asked.mount, &on)?;
    let nothing = || EngineError::Invalid("nothing is to be changed: send disabled".to_owned());
    let disabled = asked.disabled.ok_or_else(nothing)?;
    let change = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let mut stored = StoredIssuer::get(items, at.name())?;
        if !disabled {
            not_revoked(&stored)?;
        }
        stored.disabled = disabled;
        stored.put(items, at.name())?;
        message::issuer(at.name(), &stored, &Settings::get(items)?)
    };
    let then = |message, at: &Entered| -> Result<_, EngineError> {
        Ready::of(at.mount())?.ground_changed();
        Ok(message)
    };
    let detail = Detail::new().flag("disabled", disabled);
    at.change(detail, change, then).await?
}

pub(super) async fn delete_issuer(
    api: &Api,
    caller: &Caller,
    asked: DeleteIssuerRequest,
) -> Result<DeleteIssuerResponse, EngineError> {
    let on = [ISSUERS, &*asked.name];
    let at = api
        .0
        .enter(caller, &KIND, action::DELETE_ISSUER, &asked.mount, &on)?;
    let confirmed = asked.confirm == asked.name;
    if !confirmed && !asked.confirm.is_empty() {
        return Err(EngineError::field("confirm", "it is not the issuer's name"));
    }
    let delete = move |items: &Items<'_>, at: &Entered| {
        StoredIssuer::delete(items, at.name(), confirmed, seconds(at.sure_now()))
    };
    let then = |stored: StoredIssuer, at: &Entered| -> Result<_, EngineError> {
        let ready = Ready::of(at.mount())?;
        ready.changed(at.name());
        ready.revoked(&stored.id);
        Ok(DeleteIssuerResponse {})
    };
    let detail = Detail::new().flag("confirmed", confirmed);
    at.change(detail, delete, then).await?
}
