//! ACME's settings, and the keys by which ACME accounts are bound to accounts of MCIAS.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use data_encoding::BASE64URL_NOPAD;
use mc_proto::{
    AccountType,
    metacrypt::v1::{
        AcmeKey, AcmeSettings, CreateAcmeKeyRequest, CreateAcmeKeyResponse, DeleteAcmeKeyRequest,
        DeleteAcmeKeyResponse, GetAcmeRequest, ListAcmeKeysRequest, ListAcmeKeysResponse,
        SetAcmeRequest, acme_server::Acme,
    },
};
use mcdsl::{audit::Detail, auth::Identity, server::Caller};

use crate::{
    api::Api,
    barrier::Items,
    engine::{
        EngineError, Page, Positions, limit,
        pki::{
            ACME, KIND, PROFILES,
            acme::store::{
                AcmeAccount, Binding, KEYS, Owner, Settings, Standing, new_id, new_secret,
            },
            action, item_name,
            store::{profile, profiles as profiles_of},
            urls,
        },
        seconds, time,
    },
    entered::{Entered, identity},
};

const MAX_RESOLVERS: usize = 3;
/// Port of a resolver that is said by its address alone.
const DNS: u16 = 53;
const MAX_PROFILES: usize = 100;
/// Life of a key that nobody used.
const TTL_S: u64 = 24 * 60 * 60;
const TTLS_S: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 60 * 60;

methods! {
    Acme:
    set_acme: SetAcmeRequest => AcmeSettings = set_acme,
    get_acme: GetAcmeRequest => AcmeSettings = get_acme,
    create_acme_key: CreateAcmeKeyRequest => CreateAcmeKeyResponse = create,
    list_acme_keys: ListAcmeKeysRequest => ListAcmeKeysResponse = list,
    delete_acme_key: DeleteAcmeKeyRequest => DeleteAcmeKeyResponse = delete,
}

fn directory(mount: &str, settings: &Settings) -> String {
    let base = settings.base.as_ref();
    base.map(|base| format!("{base}/v1/pki/{mount}/acme/directory"))
        .unwrap_or_default()
}

fn told(mount: &str, settings: &Settings) -> AcmeSettings {
    AcmeSettings {
        base: settings.base.clone().unwrap_or_default(),
        resolvers: settings.resolvers.iter().map(ToString::to_string).collect(),
        directory: directory(mount, settings),
    }
}

async fn set_acme(
    api: &Api,
    caller: &Caller,
    asked: SetAcmeRequest,
) -> Result<AcmeSettings, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::SET_ACME, &asked.mount, &[ACME])?;
    let base = match &*asked.base {
        "" => None,
        text => {
            let base = urls::base(text).map_err(|why| EngineError::field("base", why))?;
            if !base.starts_with("https://") {
                let why = "ACME is over HTTPS (RFC 8555 §6.1): write https://<host>";
                return Err(EngineError::field("base", why));
            }
            Some(base)
        }
    };
    if asked.resolvers.len() > MAX_RESOLVERS {
        let why = format!("at most {MAX_RESOLVERS}");
        return Err(EngineError::field("resolvers", why));
    }
    let resolver = |(index, text): (usize, &String)| {
        let wrong = |_| {
            let why = format!(
                "resolvers[{index}]: it is no address; write one, like 192.0.2.53, or with a port, 192.0.2.53:53"
            );
            EngineError::Invalid(why)
        };
        let alone = text.parse().map(|address: IpAddr| (address, DNS).into());
        alone.or_else(|_| text.parse::<SocketAddr>()).map_err(wrong)
    };
    let resolvers = asked.resolvers.iter().enumerate().map(resolver);
    let settings = Settings {
        base,
        resolvers: resolvers.collect::<Result<_, _>>()?,
    };
    let detail = Detail::new()
        .text("base", settings.base.as_deref().unwrap_or_default())
        .list("resolvers", asked.resolvers.iter().map(String::as_str));
    let put = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        settings.put(items)?;
        Ok(told(at.mount().name(), &settings))
    };
    at.record(detail, put).await
}

async fn get_acme(
    api: &Api,
    caller: &Caller,
    asked: GetAcmeRequest,
) -> Result<AcmeSettings, EngineError> {
    let at = api
        .0
        .enter(caller, &KIND, action::READ, &asked.mount, &[ACME])?;
    let found = at.read(|items, _| Settings::get(items)).await?;
    at.done(Detail::new()).await?;
    Ok(told(at.mount().name(), &found))
}

/// Whose a key is to be.
fn owner(
    caller: &Caller,
    asked: &CreateAcmeKeyRequest,
    now: SystemTime,
) -> Result<Owner, EngineError> {
    let own = identity(caller)?;
    let Some(other) = &asked.account else {
        return Ok(Owner::new(own));
    };
    if !own.is_admin() {
        let why = "administrators alone make keys for others; leave it out";
        return Err(EngineError::field("account", why));
    }
    let identity = Identity {
        account: other.id.clone(),
        name: other.name.clone(),
        account_type: match other.system {
            true => AccountType::System,
            false => AccountType::Human,
        },
        roles: other.roles.clone(),
        tags: other.tags.clone(),
        token: String::new(),
        session: String::new(),
        methods: Vec::new(),
        issued: now,
        expires: now,
    };
    mcdsl::policy::Subject::try_from(&identity)
        .map_err(|e| EngineError::field("account", mcdsl::cli::chain(&e)))?;
    Ok(Owner::new(&identity))
}

async fn create(
    api: &Api,
    caller: &Caller,
    asked: CreateAcmeKeyRequest,
) -> Result<CreateAcmeKeyResponse, EngineError> {
    let at = api.0.enter(
        caller,
        &KIND,
        action::CREATE_ACME_KEY,
        &asked.mount,
        &[ACME],
    )?;
    let ttl_s = match asked.ttl_s {
        0 => TTL_S,
        ttl_s if TTLS_S.contains(&ttl_s) => ttl_s,
        _ => {
            let why = format!(
                "{} to {} seconds, or 0 for a day",
                TTLS_S.start(),
                TTLS_S.end()
            );
            return Err(EngineError::field("ttl_s", why));
        }
    };
    if asked.profiles.len() > MAX_PROFILES {
        let why = format!("at most {MAX_PROFILES}");
        return Err(EngineError::field("profiles", why));
    }
    for name in &asked.profiles {
        item_name("profiles", name)?;
    }
    let owner = owner(caller, &asked, at.now())?;
    let now_s = seconds(at.now());
    let identity = owner.identity();
    let detail = Detail::new()
        .text("account", &identity.account)
        .list("profiles", asked.profiles.iter().map(String::as_str));
    // As it will be judged.
    let account = Caller::elsewhere(Some(identity.clone()), caller.source, caller.method);
    let as_it = api.0.visit(&account, &KIND, &asked.mount)?;
    let profiles = asked.profiles.into_iter().collect();
    let binding = Binding {
        owner,
        profiles,
        created_s: now_s,
        ends_s: now_s + ttl_s,
        used_by: None,
    };
    let (id, secret) = (new_id()?, new_secret()?);
    let answer = CreateAcmeKeyResponse {
        hmac_key: BASE64URL_NOPAD.encode(&*secret),
        ..CreateAcmeKeyResponse::default()
    };
    let detail = at.noted(detail.text("key", &id), &answer)?;
    let put = move |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        for name in &binding.profiles {
            if profile(items, name)?.acme.is_none() {
                let why = format!("{name:?} is not for ACME (its acme)");
                return Err(EngineError::field("profiles", why));
            }
        }
        let settings = Settings::get(items)?;
        if settings.base.is_none() {
            return Err(EngineError::Precondition(
                "there is no ACME in this mount; say where clients reach the service (SetAcme) first"
                    .to_owned(),
            ));
        }
        binding.create(items, &id, &*secret)?;
        let mut usable = Vec::new();
        for name in profiles_of(items)? {
            let given = binding.profiles.is_empty() || binding.profiles.contains(&name);
            if given && profile(items, &name)?.acme.is_some() {
                usable.push(name);
            }
        }
        Ok(CreateAcmeKeyResponse {
            key: Some(key_message(&id, &binding, false)),
            directory: directory(at.mount().name(), &settings),
            usable,
            ..answer
        })
    };
    let mut made = at.record(detail, put).await?;
    made.usable
        .retain(|name| as_it.may(action::ISSUE, &[PROFILES, name]));
    Ok(made)
}

fn key_message(id: &str, binding: &Binding, valid: bool) -> AcmeKey {
    let identity = binding.owner.identity();
    AcmeKey {
        id: id.to_owned(),
        account: identity.account,
        account_name: identity.name,
        profiles: binding.profiles.iter().cloned().collect(),
        created: Some(time(binding.created_s).into()),
        expires: Some(time(binding.ends_s).into()),
        acme_account: binding.used_by.clone().unwrap_or_default(),
        acme_account_valid: valid,
    }
}

async fn list(
    api: &Api,
    caller: &Caller,
    asked: ListAcmeKeysRequest,
) -> Result<ListAcmeKeysResponse, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let own = identity(caller)?.account.clone();
    // Who may have keys may see his.
    let his = visit.may(action::CREATE_ACME_KEY, &[ACME]);
    let positions = Positions::of(caller, &asked.mount, KEYS, &[])?;
    let page = Page {
        place: KEYS,
        after: positions.open(&asked.after)?,
        limit: limit(0),
    };
    let read = move |items: &Items<'_>, may: &dyn Fn(&[&str]) -> bool| -> Result<_, EngineError> {
        // Whose one is, is in it.
        let one = |id: &str| -> Result<_, EngineError> {
            let found = Binding::find(items, id)?;
            let ours = |key: &Binding| his && key.owner.id() == own;
            let found = found.filter(|key| may(&[ACME, "keys", id]) || ours(key));
            let Some(binding) = found else {
                return Ok(None);
            };
            let account = match &binding.used_by {
                Some(account) => AcmeAccount::find(items, account)?,
                None => None,
            };
            let valid = account.is_some_and(|account| account.standing == Standing::Valid);
            Ok(Some(key_message(id, &binding, valid)))
        };
        page.read(items, &|_| true, one)
    };
    let place = [ACME, "keys"];
    let judged = (!his).then_some(&place[..]);
    let (keys, next) = visit.list(action::READ, &place, judged, read).await?;
    let next = positions.seal(&next)?;
    Ok(ListAcmeKeysResponse { keys, next })
}

async fn delete(
    api: &Api,
    caller: &Caller,
    asked: DeleteAcmeKeyRequest,
) -> Result<DeleteAcmeKeyResponse, EngineError> {
    let visit = api.0.visit(caller, &KIND, &asked.mount)?;
    let (id, own) = (asked.id.clone(), identity(caller)?.account.clone());
    let look = move |items: &Items<'_>| -> Result<_, EngineError> {
        let found = Binding::find(items, &id)?;
        Ok(found.is_some_and(|found| found.owner.identity().account == own))
    };
    let his = Arc::clone(&visit).look(look).await?.unwrap_or_default();
    let on: [&str; 3] = [ACME, "keys", &asked.id];
    // Who may have keys may give his up.
    let at = match his && visit.may(action::CREATE_ACME_KEY, &[ACME]) {
        true => api.0.owned(caller, &KIND, &asked.mount, &on)?,
        false => visit.judge(action::DELETE_ACME_KEY, &[&on])?,
    };
    let delete = |items: &Items<'_>, at: &Entered| -> Result<_, EngineError> {
        let none = || EngineError::NotFound("ACME key", at.name().to_owned());
        let binding = Binding::find(items, at.name())?.ok_or_else(none)?;
        binding.delete(items, at.name(), seconds(at.now()))?;
        Ok(DeleteAcmeKeyResponse {})
    };
    at.record(Detail::new(), delete).await
}
