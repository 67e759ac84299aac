//! The token endpoint: codes and refresh tokens for tokens.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::server::Source;
use rusqlite::Connection;
use serde::Serialize;

use super::{
    TOKEN,
    client::Credentials,
    code,
    entitlement::lacking,
    error::{OAuthError, Refused},
    form::Form,
    grant::{self, RefreshToken},
    id_token::{self, Login},
    params::Params,
    pkce,
};
use crate::{
    account::{self, Account, Status},
    by::By,
    core::{Change, Mcias},
    error::Error,
    redirect,
    service::Service,
    session::{end_session, find_session},
    time::unix,
    token::{Issued, NewSession},
};

/// What is told of a code that is not known, or another client's.
const NO_CODE: &str = "the code is none of this client's";
/// The same of a refresh token.
const NO_REFRESH_TOKEN: &str = "the refresh token is none of this client's, or its login is over";

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
    id_token: String,
    scope: String,
}

pub(super) async fn token(
    State(mcias): State<Arc<Mcias>>,
    Extension(Source(source)): Extension<Source>,
    headers: HeaderMap,
    Form(params): Form,
) -> Result<Response, OAuthError> {
    let credentials = Credentials::of(&headers, &params)?;
    let by = By::path(TOKEN, source, None);
    credentials.known(&mcias, &by).await?;
    let asked = params.clone();
    let made_up = (mcias.store.read(move |db: &Connection| made_up(db, &asked))).await?;
    if let Some((grant_type, error)) = made_up {
        let (client, told) = (credentials.name(), error.clone());
        let row = move |change: &mut Change<'_>| {
            change.note(|detail| {
                detail
                    .text("client", &client)
                    .text("grant_type", grant_type)
            });
            refused(change, &told);
            Ok(())
        };
        mcias.refuse(&by, row).await?;
        return Err(error);
    }
    let this = Arc::clone(&mcias);
    let write = move |change: &mut Change<'_>| {
        let client = credentials.name();
        change.note(|detail| detail.text("client", &client));
        let made = grant_type(&this, change, &credentials, &params);
        commit(change, made)
    };
    let tokens = mcias.write(&by, write).await??;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(tokens)).into_response())
}

/// What is refused of a code or a refresh token that nobody was given, and by which grant: anybody may show one as a client without a secret, and
/// nothing would change, so that it is seen by reading.
fn made_up(db: &Connection, params: &Params) -> Result<Option<(&'static str, OAuthError)>, Error> {
    let said = |name| params.get(name);
    match said("grant_type") {
        Some("authorization_code") => {
            let all = (said("code"), said("redirect_uri"), said("code_verifier"));
            let (Some(code), Some(_), Some(_)) = all else {
                return Ok(None);
            };
            let known = code::find(db, code)?.is_some();
            let error = || ("authorization_code", OAuthError::invalid_grant(NO_CODE));
            Ok((!known).then(error))
        }
        Some("refresh_token") => {
            let Some(shown) = said("refresh_token") else {
                return Ok(None);
            };
            let known = match RefreshToken::parse(shown) {
                Some(token) => grant::find(db, &token)?.is_some(),
                None => false,
            };
            let error = || ("refresh_token", OAuthError::invalid_grant(NO_REFRESH_TOKEN));
            Ok((!known).then(error))
        }
        _ => Ok(None),
    }
}

/// What is told is committed and in the log; what failed is not. A code, a refresh token or the name of a client without a secret may be
/// anybody's who made it up.
pub(super) fn commit<T>(
    change: &mut Change<'_>,
    made: Result<T, Refused>,
) -> Result<Result<T, OAuthError>, Error> {
    change.anybodys = true;
    match made {
        Ok(made) => Ok(Ok(made)),
        Err(Refused::Failed(error)) => Err(error),
        Err(Refused::Told(error)) => {
            refused(change, &error);
            Ok(Err(error))
        }
    }
}

/// What the log says of a refusal.
pub(super) fn refused(change: &mut Change<'_>, error: &OAuthError) {
    change.outcome = error.code();
    change.note(|detail| {
        let detail = detail.text("error", error.error);
        detail.text("message", &error.description)
    });
}

fn grant_type(
    mcias: &Mcias,
    change: &mut Change<'_>,
    credentials: &Credentials,
    params: &Params,
) -> Result<Tokens, Refused> {
    let client = credentials.check(change.tx)?;
    match params.need("grant_type")? {
        "authorization_code" => exchange(mcias, change, &client, params),
        "refresh_token" => refresh(mcias, change, &client, params),
        _ => Err(OAuthError::unsupported_grant_type().into()),
    }
}

/// A code for tokens. Whoever shows one as its client uses it up, right or wrong.
fn exchange(
    mcias: &Mcias,
    change: &mut Change<'_>,
    client: &Service,
    params: &Params,
) -> Result<Tokens, Refused> {
    change.note(|detail| detail.text("grant_type", "authorization_code"));
    let shown = params.need("code")?;
    let redirect_uri = params.need("redirect_uri")?;
    let verifier = params.need("code_verifier")?;
    let refused = |text: &str| Refused::from(OAuthError::invalid_grant(text));
    let found = code::find(change.tx, shown)?.filter(|found| found.code.client == client.name);
    let found = found.ok_or_else(|| refused(NO_CODE))?;
    let code = &found.code;
    let account = account::by_id(change.tx, &code.account)?;
    if let Some(account) = &account {
        change.resource.clone_from(&account.name);
    }
    if let Some(session) = &found.used {
        // Somebody else has it too, and nobody knows who came first (RFC 6749 §4.1.2).
        if let Some(given) = find_session(change.tx, &code.account, session)? {
            end_session(change, &given)?;
            change.note(|detail| detail.flag("revoked", true));
        }
        return Err(refused("the code was used already"));
    }
    code::use_up(change.tx, shown, "")?;
    if !found.is_fresh(change.now) {
        return Err(refused("the code has expired"));
    }
    // Whoever registers the client may have taken it back since, for it is another's now.
    let mut own = client.redirect_uris.iter();
    if !own.any(|own| redirect::is_own(own, &code.redirect_uri, client.public_client)) {
        return Err(refused(
            "the redirect_uri that the code was sent to is not registered any more",
        ));
    }
    if redirect_uri != code.redirect_uri {
        return Err(refused(
            "redirect_uri is not the one that the code was sent to",
        ));
    }
    if !pkce::verifies(verifier, &code.challenge) {
        return Err(refused("code_verifier is not the one of the code"));
    }
    let over = || refused("the login that the code is of is over");
    let account = account.filter(|account| account.status == Status::Active);
    let account = account.ok_or_else(over)?;
    let login = find_session(change.tx, &account.id, &code.login)?;
    let login = login.filter(|login| !login.is_over(change.now));
    let login = login.ok_or_else(over)?;
    if let Some(lacking) = lacking(mcias, &account, &login, client)? {
        return Err(refused(lacking.text()));
    }
    let methods: Vec<&str> = login.methods.iter().map(String::as_str).collect();
    let new = NewSession {
        account: &account,
        service: &client.name,
        network: &login.source,
        device: &login.device,
        methods: &methods,
        restricted: false,
    };
    let issued = mcias.open_session(change, &new)?;
    let granted = grant::New {
        session: &issued.session,
        login: &login.id,
        account: &account.id,
        scopes: &code.scopes,
        auth: login.created,
    };
    let refresh = grant::open(change.tx, &granted)?;
    code::use_up(change.tx, shown, &issued.session)?;
    let about = Login {
        client: &client.name,
        account: &account,
        scopes: &code.scopes,
        session: &issued.session,
        methods: &login.methods,
        nonce: code.nonce.as_deref(),
        auth: login.created,
        expires: issued.expires,
    };
    let id_token = id_token::sign(mcias, &about, change.now)?;
    Ok(answer(
        change,
        &account,
        issued,
        id_token,
        &refresh,
        code.scopes.clone(),
    ))
}

/// A refresh token for the next one. One that is not the last one was used before: by its thief or by the client after its thief, so that
/// nobody has it any more.
fn refresh(
    mcias: &Mcias,
    change: &mut Change<'_>,
    client: &Service,
    params: &Params,
) -> Result<Tokens, Refused> {
    change.note(|detail| detail.text("grant_type", "refresh_token"));
    let refused = |text: &str| Refused::from(OAuthError::invalid_grant(text));
    let none = || refused(NO_REFRESH_TOKEN);
    let shown = RefreshToken::parse(params.need("refresh_token")?).ok_or_else(none)?;
    let (granted, latest) = grant::find(change.tx, &shown)?.ok_or_else(none)?;
    let session = find_session(change.tx, &granted.account, &granted.session)?;
    let session = session.filter(|session| session.service == client.name);
    let session = session.ok_or_else(none)?;
    if !latest {
        end_session(change, &session)?;
        change.note(|detail| detail.flag("revoked", true));
        return Err(refused(
            "the refresh token was used already; its login is over",
        ));
    }
    if session.ends <= unix(change.now) {
        return Err(none());
    }
    // It refuses before it writes anything.
    let methods = session.methods.clone();
    let renewed = mcias.renew_session(change, &granted.account, session)?;
    let next = grant::rotate(change.tx, &shown)?;
    let next = next.ok_or(Error::Internal("a grant changed within its transaction"))?;
    change.resource.clone_from(&renewed.account.name);
    let about = Login {
        client: &client.name,
        account: &renewed.account,
        scopes: &granted.scopes,
        session: &granted.session,
        methods: &methods,
        nonce: None,
        auth: granted.auth,
        expires: renewed.issued.expires,
    };
    let id_token = id_token::sign(mcias, &about, change.now)?;
    let (account, issued) = (renewed.account, renewed.issued);
    Ok(answer(
        change,
        &account,
        issued,
        id_token,
        &next,
        granted.scopes,
    ))
}

fn answer(
    change: &mut Change<'_>,
    account: &Account,
    issued: Issued,
    id_token: String,
    refresh: &RefreshToken,
    scope: String,
) -> Tokens {
    change.actor = Some((
        account.id.clone(),
        account.name.clone(),
        account.account_type,
    ));
    let left = issued.expires.duration_since(change.now);
    Tokens {
        access_token: issued.token,
        token_type: "Bearer",
        expires_in: left.unwrap_or(Duration::ZERO).as_secs(),
        refresh_token: refresh.text(),
        id_token,
        scope,
    }
}
