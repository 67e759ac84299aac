//! Accounts (RFC 8555 §7.3).

mod rekey;

pub(super) use self::rekey::rekey;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::KIND,
    answer::Answer,
    here::{Here, Holds, limited, unknown},
    jwk::Jwk,
    jws::{By, Jws, object},
    of_source,
    order::Order,
    problem::{Problem, Type},
    request::{Asked, Who},
    store::{AcmeAccount, Binding, PAGE, Standing, new_id},
};
use crate::{barrier::Items, engine::EngineError, entered::Entered};
use mcdsl::{audit::Detail, server::Caller};

const MAX_CONTACTS: usize = 10;
const MAX_CONTACT: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    only_return_existing: bool,
    external_account_binding: Option<Value>,
}

#[derive(Deserialize)]
struct Update {
    contact: Option<Vec<String>>,
    status: Option<String>,
}

/// Mail addresses are kept as they are; nothing is sent to them.
fn contacts(all: Vec<String>) -> Result<Vec<String>, Problem> {
    if all.len() > MAX_CONTACTS {
        let why = format!("contact: at most {MAX_CONTACTS}");
        return Err(Problem::new(Type::InvalidContact, why));
    }
    for one in &all {
        let Some(mail) = one.strip_prefix("mailto:") else {
            let why = "contact: mailto: addresses are taken alone";
            return Err(Problem::new(Type::UnsupportedContact, why));
        };
        let plain = mail.bytes().all(|b| b.is_ascii_graphic()) && !mail.contains(['?', ',']);
        let (user, host) = mail.split_once('@').unwrap_or_default();
        if !plain || user.is_empty() || host.is_empty() || one.len() > MAX_CONTACT {
            let why = "contact: mailto:<user>@<host>, one address in each";
            return Err(Problem::new(Type::InvalidContact, why));
        }
    }
    Ok(all)
}

fn told(here: &Here, id: &str, account: &AcmeAccount, status: u16) -> Answer {
    let at = format!("{}/acct/{id}", here.base);
    let standing = match account.standing {
        Standing::Valid => "valid",
        Standing::Deactivated => "deactivated",
        Standing::Revoked => "revoked",
    };
    let value = json!({
        "status": standing,
        "contact": account.contact,
        "orders": format!("{at}/orders"),
    });
    Answer::json(status, &value).at(at)
}

/// Ends an account, and what was to come of its orders.
pub(super) fn end(
    items: &Items<'_>,
    id: &str,
    standing: Standing,
    now_s: u64,
) -> Result<(), EngineError> {
    if let Some(mut account) = AcmeAccount::find(items, id)? {
        (account.standing, account.ended_s) = (standing, now_s);
        account.put(items, id)?;
        if standing == Standing::Revoked {
            let owner = account.owner.id();
            tracing::warn!(
                account = id,
                owner,
                "an ACME account ended, since MCIAS revoked what it was given by; another key of the owner revives it"
            );
        }
    }
    Order::cancel_all(items, id, now_s)
}

/// Who makes an account: whoever has a key of ours (RFC 8555 §7.3.4).
async fn bound(
    asked: &Asked,
    key: &Jwk,
    sent: Option<&Value>,
) -> Result<(String, Binding), Problem> {
    let needed = "externalAccountBinding: an ACME key of this mount is needed; an account of MCIAS makes one (`metacrypt pki acme key create`)";
    let sent = sent.ok_or_else(|| Problem::new(Type::ExternalAccountRequired, needed))?;
    let wrong =
        |why: String| Problem::new(Type::Unauthorized, format!("externalAccountBinding: {why}"));
    let jws = Jws::from_value(sent).map_err(|e| wrong(e.to_string()))?;
    let By::Kid(id) = jws.by.clone() else {
        return Err(wrong(
            "kid: the ACME key's id is needed, not jwk".to_owned(),
        ));
    };
    if jws.url != asked.url || jws.nonce.is_some() {
        return Err(wrong("url: that of newAccount; and no nonce".to_owned()));
    }
    let inner: Value = object(&jws.payload).map_err(|e| wrong(format!("payload: {e}")))?;
    let inner = Jwk::from_value(&inner).map_err(|e| wrong(e.to_string()))?;
    if inner != *key {
        return Err(wrong("payload: it is not the new account's key".to_owned()));
    }
    let look = id.clone();
    let found = asked
        .here
        .read(move |items| Binding::with_secret(items, &look))
        .await?;
    // Who does not know the secret learns nothing of the key, not by the time either.
    let (found, secret) = match found {
        Some((binding, secret)) => (Some(binding), secret),
        None => (None, zeroize::Zeroizing::new(vec![0; 32])),
    };
    let verified = jws.verify_mac(&secret);
    let Some(binding) = found.filter(|_| verified.is_ok()) else {
        return Err(wrong(
            "there is no such key, or it was made by another secret".to_owned(),
        ));
    };
    match asked.here.holds(&binding.owner.shown()).await {
        Holds::Yes => {}
        Holds::NotNow | Holds::Revoked => return Err(wrong(
            "the token or session by which the key was made has ended, or its account may not be used; make another (`metacrypt pki acme key create`)".to_owned(),
        )),
        Holds::Unknown => return Err(unknown()),
    }
    if binding.ends_s <= asked.here.now_s() {
        return Err(wrong(
            "the key has expired; make another (`metacrypt pki acme key create`)".to_owned(),
        ));
    }
    if binding.used_by.is_some() {
        return Err(wrong(
            "the key was used for another account; make another (`metacrypt pki acme key create`)"
                .to_owned(),
        ));
    }
    Ok((id, binding))
}

/// newAccount.
pub(super) async fn new(asked: Asked) -> Result<Answer, Problem> {
    let Who::Key(key) = &asked.who else {
        return Err(Problem::malformed("jwk: the new account's key is needed"));
    };
    let says: New = asked.says()?;
    let look = key.clone();
    let found = asked
        .here
        .read(move |items| AcmeAccount::of(items, &look))
        .await?;
    let mut revived = None;
    if let Some((id, account)) = found {
        let stands = asked.here.stands(&account, &id).await;
        // What MCIAS ended is revived by another key of the same owner.
        let again = account.standing != Standing::Deactivated
            && says.external_account_binding.is_some()
            && !says.only_return_existing;
        match stands {
            Err(problem) if again && problem.kind == Type::Unauthorized => revived = Some(id),
            stands => {
                stands?;
                return Ok(told(&asked.here, &id, &account, 200));
            }
        }
    }
    if says.only_return_existing {
        return Err(Problem::new(
            Type::AccountDoesNotExist,
            "there is no account of this key",
        ));
    }
    let network = of_source(asked.source);
    let newcomers = &asked.here.memory()?.newcomers;
    newcomers
        .ask(network, asked.here.steady())
        .map_err(limited)?;
    let contact = contacts(says.contact)?;
    let (binding_id, binding) =
        match bound(&asked, key, says.external_account_binding.as_ref()).await {
            Ok(bound) => bound,
            Err(problem) => {
                let caller = Caller::elsewhere(None, asked.source, "acme.new-account");
                return asked.told(&caller, Err(problem)).await;
            }
        };
    let account = AcmeAccount {
        key: (**key).clone(),
        owner: binding.owner.clone(),
        binding: binding_id.clone(),
        profiles: binding.profiles.clone(),
        contact,
        standing: Standing::Valid,
        ended_s: 0,
    };
    let identity = account.owner.identity();
    let caller = Caller::elsewhere(Some(identity), asked.source, "acme.new-account");
    let status = if revived.is_some() { 200 } else { 201 };
    let made = make(&asked, &caller, binding_id, account, revived).await;
    let (id, account) = asked.told(&caller, made).await?;
    Ok(told(&asked.here, &id, &account, status))
}

async fn make(
    asked: &Asked,
    caller: &Caller,
    binding_id: String,
    account: AcmeAccount,
    revived: Option<String>,
) -> Result<(String, AcmeAccount), Problem> {
    let here = &asked.here;
    here.stands(&account, "").await?;
    let id = match &revived {
        Some(id) => id.clone(),
        None => new_id().map_err(EngineError::from)?,
    };
    let at = here
        .api
        .0
        .owned(caller, &KIND, here.mount(), &["acme", "accounts", &id])?;
    let detail = Detail::new()
        .text("key", &binding_id)
        .text("thumbprint", &account.key.thumbprint());
    let make = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let gone =
            || EngineError::Precondition("the ACME key was used or deleted meanwhile".to_owned());
        let binding = Binding::find(items, &binding_id)?;
        let mut binding = binding.filter(|b| b.used_by.is_none()).ok_or_else(gone)?;
        let before = AcmeAccount::of(items, &account.key)?;
        match (before, revived) {
            (None, None) => {}
            (Some((_, before)), Some(_)) if before.standing == Standing::Revoked => {
                if before.owner.id() != account.owner.id() {
                    return Err(EngineError::Precondition(
                        "the account of this key is of another account of MCIAS; take another key"
                            .to_owned(),
                    ));
                }
                if let Some(old) = Binding::find(items, &before.binding)? {
                    old.forget(items, &before.binding)?;
                }
            }
            _ => {
                return Err(EngineError::Precondition(
                    "there is an account of this key; ask again".to_owned(),
                ));
            }
        }
        binding.used_by = Some(id.clone());
        binding.put(items, &binding_id)?;
        account.put(items, &id)?;
        Ok((id, account))
    };
    Ok(at.record(detail, make).await?)
}

/// That an account asks for what is its own.
fn own(asked: &Asked, id: &str) -> Result<(), Problem> {
    let (own, _) = asked.account()?;
    match own == id {
        true => Ok(()),
        false => Err(Problem::new(Type::Unauthorized, "it is another account's")),
    }
}

/// What is asked of an account's address: its state, other contacts, its end.
pub(super) async fn update(asked: Asked, id: &str) -> Result<Answer, Problem> {
    own(&asked, id)?;
    let (_, account) = asked.account()?;
    if asked.is_get() {
        return Ok(told(&asked.here, id, account, 200));
    }
    let says: Update = asked.says()?;
    let ends = match says.status.as_deref() {
        None | Some("valid") => false,
        Some("deactivated") => true,
        Some(_) => {
            return Err(Problem::malformed("status: deactivated, or nothing"));
        }
    };
    let contact = says.contact.map(contacts).transpose()?;
    let same = contact.as_ref().is_none_or(|new| *new == account.contact);
    if same && !ends {
        return Ok(told(&asked.here, id, account, 200));
    }
    if !ends {
        asked.here.changes(id)?;
    }
    let caller = asked.caller("acme.update-account");
    let at = asked.here.api.0.owned(
        &caller,
        &KIND,
        asked.here.mount(),
        &["acme", "accounts", id],
    )?;
    let account_id = id.to_owned();
    let now_s = asked.here.now_s();
    let change = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
        let none = || EngineError::NotFound("account", account_id.clone());
        let mut account = AcmeAccount::find(items, &account_id)?.ok_or_else(none)?;
        if let Some(contact) = contact {
            account.contact = contact;
            account.put(items, &account_id)?;
        }
        if ends {
            end(items, &account_id, Standing::Deactivated, now_s)?;
            account.ended_s = now_s;
            account.standing = Standing::Deactivated;
        }
        Ok(account)
    };
    let changed = at
        .record(Detail::new().flag("deactivated", ends), change)
        .await;
    let account = asked.told(&caller, changed.map_err(Problem::from)).await?;
    Ok(told(&asked.here, id, &account, 200))
}

/// The orders that something can still come of (RFC 8555 §7.1.2.1).
pub(super) async fn orders(asked: Asked, id: &str) -> Result<Answer, Problem> {
    own(&asked, id)?;
    asked.get()?;
    let account = id.to_owned();
    let ids = asked
        .here
        .read(move |items| Order::open_ids(items, &account, PAGE))
        .await?;
    let at = |id: &String| format!("{}/order/{id}", asked.here.base);
    let all: Vec<_> = ids.iter().map(at).collect();
    Ok(Answer::json(200, &json!({"orders": all})))
}
