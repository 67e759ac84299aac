//! The login page, in two steps for who has a second factor; and logging out.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mc_proto::mcias::v1::{FinishPasskeyLoginRequest, LoginRequest, LoginResponse, SecondFactor};
use mcdsl::{
    clock::SKEW,
    web::{CsrfField, ErrorPage, Flash, Form, LocalPath, NewSession, Page},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Answer, FACTORS, PASSWORD, Person, by, devices, failed, leading_on, leading_to_client,
    person::{LOGIN_ID, MaybePerson},
    refused_login, then,
};
use crate::{
    SERVICE,
    by::By,
    core::{Change, Mcias},
    error::Error,
    oidc,
    session::end,
    time::unix,
};

/// Where a passkey's answer goes.
pub(super) const PASSKEY: &str = "/login/passkey";

/// What a first step is sealed as.
const STEP: &str = "login-step";
/// Seconds between the two steps: to find the phone.
const STEP_S: i64 = 300;

#[derive(Template)]
#[template(path = "login.html")]
struct PasswordForm<'a> {
    csrf: CsrfField,
    next: &'a str,
    /// The service that it goes on to; empty: this one.
    client: &'a str,
    account: &'a str,
}

#[derive(Template)]
#[template(path = "code.html")]
struct CodeForm<'a> {
    csrf: CsrfField,
    next: &'a str,
    step: &'a str,
    totp: bool,
    recovery: bool,
    passkey: bool,
}

/// What the forms send: the first account and password, the second the sealed step and a code.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    account: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    step: String,
}

/// What a passkey's form sends: the ceremony that its script began, and the authenticator's answer.
#[derive(Deserialize)]
pub(super) struct Assertion {
    ceremony: String,
    credential: String,
}

/// The first step while the second is waited for. It is sealed and in the second's form, since a table of those who did not finish would
/// be anybody's to fill.
#[derive(Serialize, Deserialize)]
struct Step {
    account: String,
    password: String,
    until_s: i64,
    totp: bool,
    recovery: bool,
    passkey: bool,
}

impl Step {
    fn seal(&self, mcias: &Mcias) -> Result<String, Error> {
        let text = serde_json::to_vec(self).map_err(|_| Error::Internal("a step is no JSON"))?;
        let sealed = mcias.passing.seal(STEP, &Zeroizing::new(text))?;
        Ok(BASE64.encode(sealed))
    }

    fn open(mcias: &Mcias, sealed: &str) -> Option<Self> {
        let sealed = BASE64.decode(sealed).ok()?;
        let text = mcias.passing.open(STEP, &sealed).ok()?;
        let step: Self = serde_json::from_slice(&text).ok()?;
        // What lasts for longer than a step was made while the clock was ahead.
        let (now, latest) = (unix(mcias.now()), unix(mcias.now() + SKEW) + STEP_S);
        (now < step.until_s && step.until_s <= latest).then_some(step)
    }
}

/// Who is logged in already goes on, unless the query says `again`: a client wants to be sure, or more.
pub(super) async fn show(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
    uri: axum::http::Uri,
) -> Answer {
    let next = page.next();
    let again = uri.query().unwrap_or_default();
    let again = url::form_urlencoded::parse(again.as_bytes()).any(|(name, _)| name == "again");
    match (&person, page.session()) {
        (Some(_), _) if !again => page.redirect(&next, None).await,
        // Its login has ended.
        (None, Some(_)) => page.log_out(&then(super::LOGIN, next.as_str())).await,
        _ => {
            let name = person.map(|person| person.account.name);
            password_form(&mcias, page, &next, &name.unwrap_or_default()).await
        }
    }
}

pub(super) async fn log_in(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Answer {
    let next = page.next();
    let step = if asked.step.is_empty() {
        None
    } else {
        let step = Step::open(&mcias, &asked.step);
        let Some(step) = step else {
            let text = "That took too long. Log in again.";
            return password_form(&mcias, page.with(Flash::notice(text)), &next, "").await;
        };
        Some(step)
    };
    let (account, password) = match &step {
        Some(step) => (step.account.clone(), step.password.clone()),
        None => (asked.account, asked.password),
    };
    let request = LoginRequest {
        account: account.clone(),
        password: password.clone(),
        code: asked.code,
        service: SERVICE.to_owned(),
        device: device(&headers),
    };
    let by = by(&page, super::LOGIN, None)?;
    match mcias.log_in(&by, request).await {
        Ok(needed) if needed.token.is_empty() => {
            let has = |factor: SecondFactor| needed.needed.contains(&factor.into());
            let step = Step {
                account,
                password,
                until_s: unix(mcias.now()) + STEP_S,
                totp: has(SecondFactor::Totp),
                recovery: has(SecondFactor::RecoveryCode),
                passkey: has(SecondFactor::Passkey),
            };
            let sealed = step.seal(&mcias).map_err(failed)?;
            code_form(&mcias, page, &next, &step, &sealed).await
        }
        Ok(response) => enter(&mcias, &page, &by, response, &next).await,
        Err(error) => {
            let refusal = refused_login(&mcias, &by, error, &account).await?;
            let page = page.with(Flash::error(refusal.text.clone()));
            let form = match step {
                Some(step) => code_form(&mcias, page, &next, &step, &asked.step).await?,
                None => password_form(&mcias, page, &next, &account).await?,
            };
            Ok(refusal.with(form))
        }
    }
}

/// By a passkey alone, which is both factors and says whose it is.
pub(super) async fn log_in_by_passkey(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    headers: HeaderMap,
    Form(asked): Form<Assertion>,
) -> Answer {
    let next = page.next();
    let request = FinishPasskeyLoginRequest {
        ceremony: asked.ceremony,
        credential: asked.credential,
        service: SERVICE.to_owned(),
        device: device(&headers),
    };
    let by = by(&page, PASSKEY, None)?;
    match mcias.finish_passkey_login(&by, request).await {
        Ok(response) => enter(&mcias, &page, &by, response, &next).await,
        Err(error) => {
            let refusal = refused_login(&mcias, &by, error, "").await?;
            let page = page.with(Flash::error(refusal.text.clone()));
            Ok(refusal.with(password_form(&mcias, page, &next, "").await?))
        }
    }
}

/// What the browser calls itself.
fn device(headers: &HeaderMap) -> String {
    let device = headers.get(header::USER_AGENT);
    let device = device.and_then(|value| value.to_str().ok());
    device.unwrap_or_default().to_owned()
}

async fn enter(
    mcias: &Arc<Mcias>,
    page: &Page,
    by: &By,
    response: LoginResponse,
    next: &LocalPath,
) -> Answer {
    let identity = mcias
        .identify(&response.token, Some(SERVICE))
        .map_err(|_| failed(Error::Internal("a login's own token is refused")))?;
    if let Some((account, login)) = MaybePerson::login_of(page) {
        let new = (account == identity.account).then(|| identity.session.clone());
        let replaced = replace(mcias, by, account, login, new).await;
        replaced.map_err(failed)?;
    }
    let to = if response.password_expired {
        then(PASSWORD, next.as_str())
    } else if response.enrol_second_factor {
        then(FACTORS, next.as_str())
    } else {
        let (account, login) = (&identity.account, &identity.session);
        let first = devices::first(mcias, account, login, next).await;
        first.map_err(failed)?
    };
    let new = NewSession {
        account: identity.account,
        name: identity.name,
        roles: identity.roles,
        data: json!({ LOGIN_ID: identity.session }),
        flash: None,
    };
    page.log_in(new, &to).await
}

/// Goes on under a new cookie of the same login: a copy of the one before is nobody's any more.
pub(super) async fn anew(page: &Page, person: &Person, to: &LocalPath, flash: Flash) -> Answer {
    let identity = person.identity();
    let new = NewSession {
        account: identity.account,
        name: identity.name,
        roles: identity.roles,
        data: json!({ LOGIN_ID: identity.session }),
        flash: Some(flash),
    };
    page.log_in(new, to).await
}

/// Ends the login with all that clients were given by it, and the page's session.
pub(super) async fn log_out(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
) -> Answer {
    if let Some(person) = person {
        let by = by(&page, "/logout", Some(&person))?;
        let (account, login) = (person.account.id, person.login.id);
        let ended = replace(&mcias, &by, account, login, None).await;
        ended.map_err(failed)?;
    }
    page.log_out(&LocalPath::home()).await
}

/// Ends a login, if it has not ended yet; what clients were given by it becomes the new one's, or ends as well.
pub(super) async fn replace(
    mcias: &Arc<Mcias>,
    by: &By,
    account: String,
    login: String,
    new: Option<String>,
) -> Result<(), Error> {
    let write = move |change: &mut Change<'_>| {
        if let Some(new) = &new {
            oidc::hand_over(change.tx, &login, new)?;
        }
        if let Some(account) = crate::account::by_id(change.tx, &account)? {
            change.resource = account.name;
        }
        end(change, &account, &login).map(drop)
    };
    mcias.write(by, write).await
}

async fn password_form(
    mcias: &Arc<Mcias>,
    page: Page,
    next: &LocalPath,
    account: &str,
) -> Result<Response, ErrorPage> {
    let (page, client) = leading_to_client(mcias, page, next).await?;
    let form = PasswordForm {
        csrf: page.csrf(),
        next: next.as_str(),
        client: &client,
        account,
    };
    page.render("Log in", &form)
}

async fn code_form(
    mcias: &Arc<Mcias>,
    page: Page,
    next: &LocalPath,
    step: &Step,
    sealed: &str,
) -> Result<Response, ErrorPage> {
    let page = leading_on(mcias, page, next).await?;
    let form = CodeForm {
        csrf: page.csrf(),
        next: next.as_str(),
        step: sealed,
        totp: step.totp,
        recovery: step.recovery,
        passkey: step.passkey,
    };
    page.render("Second factor", &form)
}
