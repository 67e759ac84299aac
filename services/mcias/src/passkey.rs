//! Passkeys (WebAuthn Level 3): registered by who is logged in, and a login by themselves.
//!
//! They are discoverable and verify their user, so that one is both factors and no name is asked: what a login by passkey begins with is
//! the same for everybody, and tells nobody which accounts there are. What a ceremony needs between its halves is given to the client,
//! sealed; nothing is kept for those that are never finished, so that nobody can fill anything. One that was finished is not again.

mod ceremony;

use std::sync::Arc;

use mc_proto::mcias::v1::{
    BeginPasskeyLoginResponse, BeginPasskeyResponse, FinishPasskeyLoginRequest,
    FinishPasskeyRequest, LoginResponse, Passkey as Message,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, Webauthn, WebauthnBuilder,
};

use self::ceremony::{Ceremony, LOGIN, REGISTRATION, finish_once};
use crate::{
    account::{self, Account},
    by::By,
    core::{Change, Mcias},
    error::Error,
    login::{Asked, NOBODY, Shown},
    random,
    session::{end_others, has_shown},
    time::{at, unix},
};

/// Passkeys of an account.
const MAX_PASSKEYS: usize = 20;
/// Characters of a passkey's name.
const MAX_NAME: usize = 64;
/// Bytes of an authenticator's answer.
const MAX_CREDENTIAL: usize = 16 * 1024;

/// Why nobody is logged in, whatever was wrong.
const WRONG: &str = "the passkey is not known here, or its answer is not valid; begin anew";

/// The relying party: this service, at its issuer's address.
///
/// # Errors
/// If the issuer is no name.
pub(crate) fn relying_party(issuer: &str) -> Result<Webauthn, Error> {
    let none = |_| Error::Internal("the issuer is no WebAuthn origin");
    let url = Url::parse(issuer).map_err(|_| Error::Internal("the issuer is no address"))?;
    let id = url
        .domain()
        .ok_or(Error::Internal("the issuer has no name"))?;
    let builder = WebauthnBuilder::new(id, &url).map_err(none)?;
    builder.rp_name("Metacircular").build().map_err(none)
}

impl Mcias {
    /// The first half of a registration.
    pub(crate) async fn begin_passkey(
        self: &Arc<Self>,
        by: &By,
        password: String,
    ) -> Result<BeginPasskeyResponse, Error> {
        let account = self.confirm(by, password).await?;
        let id = account.id.clone();
        let read = move |db: &Connection| passkeys(db, &id);
        let known = self.store.read(read).await?;
        check_number(known.len())?;
        let exclude = known
            .iter()
            .map(|passkey| passkey.cred_id().clone())
            .collect();
        let (options, state) = self
            .webauthn
            .start_passkey_registration(
                user_id(&account)?,
                &account.name,
                &account.name,
                Some(exclude),
            )
            .map_err(|_| Error::Internal("no registration can be begun"))?;
        let mut options = json(&options.public_key)?;
        options["authenticatorSelection"]["residentKey"] = "required".into();
        options["authenticatorSelection"]["requireResidentKey"] = true.into();
        Ok(BeginPasskeyResponse {
            ceremony: self.seal_ceremony(REGISTRATION, &account.id, state)?,
            options: options.to_string(),
        })
    }

    /// The second half.
    pub(crate) async fn finish_passkey(
        self: &Arc<Self>,
        by: &By,
        asked: FinishPasskeyRequest,
    ) -> Result<Message, Error> {
        let who = by.who()?.clone();
        let name = named(&asked.name)?;
        let ceremony: Ceremony<PasskeyRegistration> =
            self.open_ceremony(REGISTRATION, &asked.ceremony)?;
        if ceremony.account != who.account {
            return Err(Error::invalid("ceremony: it is another account's"));
        }
        let credential: RegisterPublicKeyCredential = parse(&asked.credential)?;
        let passkey = self
            .webauthn
            .finish_passkey_registration(&credential, &ceremony.state)
            .map_err(|error| {
                Error::invalid(format!(
                    "credential: the registration is not valid: {error:?}"
                ))
            })?;
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&who.name);
            change.note(|detail| detail.text("passkey", &name));
            if !finish_once(change, &asked.ceremony, ceremony.until)? {
                return Err(Error::unauthenticated(WRONG));
            }
            check_number(passkeys(change.tx, &who.account)?.len())?;
            let id = random::id()?;
            let taken = insert(change, &id, &who.account, &name, &passkey)?;
            if !taken {
                return Err(Error::exists("the passkey is registered already"));
            }
            // Who else is logged in has shown less.
            end_others(change, &who.account, &who.session)?;
            has_shown(change, &who.account, &who.session, "pop")?;
            Ok(Message {
                id,
                name,
                created: Some(at(unix(change.now)).into()),
                used: None,
            })
        };
        self.write(by, write).await
    }

    /// The first half of a login: the same for everybody.
    pub(crate) fn begin_passkey_login(&self) -> Result<BeginPasskeyLoginResponse, Error> {
        let (options, state) = self
            .webauthn
            .start_discoverable_authentication()
            .map_err(|_| Error::Internal("no login can be begun"))?;
        Ok(BeginPasskeyLoginResponse {
            ceremony: self.seal_ceremony(LOGIN, "", state)?,
            options: json(&options.public_key)?.to_string(),
        })
    }

    /// The second half.
    pub(crate) async fn finish_passkey_login(
        self: &Arc<Self>,
        by: &By,
        request: FinishPasskeyLoginRequest,
    ) -> Result<LoginResponse, Error> {
        let source = self.enter_source(by).await?;
        let opened = self.open_ceremony(LOGIN, &request.ceremony);
        let opened = opened.and_then(|ceremony| Ok((ceremony, parse(&request.credential)?)));
        let (ceremony, credential) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.refuse_passkey(by, error).await,
        };
        let asked = Asked::new(String::new(), request.service, &request.device);
        let this = Arc::clone(self);
        let decide = move |change: &mut Change<'_>| {
            // Nothing was to be paid for it, unlike a check of a password.
            change.anybodys = true;
            NOBODY.clone_into(&mut change.resource);
            let verified = this.verify_passkey(change, ceremony.state, &credential)?;
            let verified = match verified {
                Some(verified) if finish_once(change, &request.ceremony, ceremony.until)? => {
                    Some(verified)
                }
                _ => None,
            };
            let Some((account, passkey, result)) = verified else {
                if let Some(ban) = this.source_failed(source, change.now) {
                    change.note(|detail| detail.flag("banned", true));
                    change.ban(ban)?;
                }
                return refuse(change, Error::unauthenticated(WRONG));
            };
            used(change, &passkey, &result)?;
            this.admit(change, &account, &asked, &Shown::Passkey { source })
        };
        self.write(by, decide).await?
    }

    /// Refuses what is no answer to any ceremony: that is seen without the database.
    async fn refuse_passkey<T>(self: &Arc<Self>, by: &By, error: Error) -> Result<T, Error> {
        let Error::Client { code, message, .. } = &error else {
            return Err(error);
        };
        let (code, message) = (*code, message.clone());
        let row = move |change: &mut Change<'_>| {
            NOBODY.clone_into(&mut change.resource);
            change.outcome = code;
            change.note(|detail| detail.text("message", &message));
            Ok(())
        };
        Mcias::refuse(self, by, row).await?;
        Err(error)
    }

    /// Whose passkey it is that has answered, if it is one and its answer is right. Whose it should be is noted for the log.
    fn verify_passkey(
        &self,
        change: &mut Change<'_>,
        state: DiscoverableAuthentication,
        credential: &PublicKeyCredential,
    ) -> Result<Option<(Account, Passkey, AuthenticationResult)>, Error> {
        let Ok((user, id)) = self
            .webauthn
            .identify_discoverable_authentication(credential)
        else {
            return Ok(None);
        };
        let user = user.simple().to_string();
        let Some(passkey) = find(change.tx, &user, id)? else {
            return Ok(None);
        };
        let Some(account) = account::by_id(change.tx, &user)? else {
            return Ok(None);
        };
        change.resource.clone_from(&account.name);
        let verified = self
            .webauthn
            .finish_discoverable_authentication_v2(credential, state, &passkey);
        let verified = verified.ok().filter(AuthenticationResult::user_verified);
        Ok(verified.map(|result| (account, passkey, result)))
    }
}

/// What the log and the client are told of a login that is none. What fails here is not.
fn refuse<T>(change: &mut Change<'_>, error: Error) -> Result<Result<T, Error>, Error> {
    let Error::Client { code, message, .. } = &error else {
        return Err(error);
    };
    change.outcome = *code;
    change.note(|detail| detail.text("message", message));
    Ok(Err(error))
}

/// What a passkey is called.
///
/// # Errors
/// If nobody could read it.
pub(crate) fn named(name: &str) -> Result<String, Error> {
    let seen = mcdsl::shown::visible(name);
    if seen.is_empty() || name.trim().chars().count() > MAX_NAME {
        let text = format!("name: it is not 1 to {MAX_NAME} visible characters");
        return Err(Error::invalid(text));
    }
    Ok(seen)
}

fn check_number(passkeys: usize) -> Result<(), Error> {
    if passkeys < MAX_PASSKEYS {
        return Ok(());
    }
    Err(Error::precondition(format!(
        "there are {MAX_PASSKEYS} passkeys; remove one first"
    )))
}

/// WebAuthn's user handle: the account's id, which says nothing of the person.
fn user_id(account: &Account) -> Result<Uuid, Error> {
    Uuid::parse_str(&account.id).map_err(|_| Error::Internal("an account's id is none"))
}

fn json<T: Serialize>(value: &T) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map_err(|_| Error::Internal("WebAuthn's options are no JSON"))
}

fn parse<T: DeserializeOwned>(credential: &str) -> Result<T, Error> {
    if credential.len() > MAX_CREDENTIAL {
        return Err(Error::invalid(format!(
            "credential: longer than {MAX_CREDENTIAL} bytes"
        )));
    }
    serde_json::from_str(credential).map_err(|e| {
        Error::invalid(format!(
            "credential: it is no answer of an authenticator: {e}"
        ))
    })
}

fn insert(
    change: &Change<'_>,
    id: &str,
    account: &str,
    name: &str,
    passkey: &Passkey,
) -> Result<bool, Error> {
    let sql = "INSERT OR IGNORE INTO passkey (id, account, name, credential_id, credential, created_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let credential_id: &[u8] = passkey.cred_id().as_ref();
    let values = params![
        id,
        account,
        name,
        credential_id,
        json(passkey)?.to_string(),
        unix(change.now)
    ];
    Ok(change.tx.execute(sql, values)? == 1)
}

/// Keeps the counter, by which a copy of the authenticator is noticed, and when it was used.
fn used(
    change: &Change<'_>,
    passkey: &Passkey,
    result: &AuthenticationResult,
) -> Result<(), Error> {
    let mut passkey = passkey.clone();
    passkey.update_credential(result);
    let id: &[u8] = passkey.cred_id().as_ref();
    let sql = "UPDATE passkey SET credential = ?2, used_s = ?3 WHERE credential_id = ?1";
    let values = params![id, json(&passkey)?.to_string(), unix(change.now)];
    change.tx.execute(sql, values)?;
    Ok(())
}

fn stored(text: &str) -> Result<Passkey, Error> {
    serde_json::from_str(text).map_err(|_| Error::Internal("a stored passkey is none"))
}

fn find(db: &Connection, account: &str, id: &[u8]) -> Result<Option<Passkey>, Error> {
    let sql = "SELECT credential FROM passkey WHERE account = ?1 AND credential_id = ?2";
    let found: Option<String> = db
        .query_row(sql, params![account, id], |row| row.get(0))
        .optional()?;
    found.as_deref().map(stored).transpose()
}

fn passkeys(db: &Connection, account: &str) -> Result<Vec<Passkey>, Error> {
    let mut all = db.prepare_cached("SELECT credential FROM passkey WHERE account = ?1")?;
    let mut rows = all.query([account])?;
    let mut passkeys = Vec::new();
    while let Some(row) = rows.next()? {
        passkeys.push(stored(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(passkeys)
}

/// Those of an account, for people.
pub(crate) fn list(db: &Connection, account: &str) -> Result<Vec<Message>, Error> {
    let sql =
        "SELECT id, name, created_s, used_s FROM passkey WHERE account = ?1 ORDER BY created_s, id";
    let mut found = db.prepare_cached(sql)?;
    let found = found.query_map([account], |row| {
        Ok(Message {
            id: row.get(0)?,
            name: row.get(1)?,
            created: Some(at(row.get(2)?).into()),
            used: row.get::<_, Option<i64>>(3)?.map(|used| at(used).into()),
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}
