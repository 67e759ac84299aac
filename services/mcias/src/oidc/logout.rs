//! Logging out by a client (OpenID Connect RP-Initiated Logout): here, and of all that was logged in to by the same login.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::IntoResponse as _,
};
use mcdsl::web::{CsrfField, ErrorPage, Form, LocalPath, Page};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    CONFIRM, LOGOUT, MAX_BODY, hint,
    id_token::Hint,
    params::{Params, query},
};
use crate::{
    account,
    core::{Change, Mcias},
    error::Error,
    pages::{Answer, MaybePerson, Person, by, end_login, failed},
    service,
    session::end_with_its_login,
};

#[derive(Template)]
#[template(path = "logout.html")]
struct Question<'q> {
    csrf: CsrfField,
    action: &'static str,
    account: &'q str,
    client: &'q str,
    uri: &'q str,
    state: &'q str,
}

/// Where the browser goes afterwards: known good.
#[derive(Clone, Default)]
struct Afterwards {
    client: String,
    uri: String,
    state: String,
}

/// What the question's form sends.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    post_logout_redirect_uri: String,
    #[serde(default)]
    state: String,
}

pub(super) async fn show(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
    uri: Uri,
) -> Answer {
    let sent = uri.query().unwrap_or_default();
    if sent.len() > MAX_BODY {
        return Err(sense("its request is too long"));
    }
    let params = Params::parse(sent.as_bytes()).map_err(|error| sense(&error.to_string()))?;
    let hint = hint::of_logout(&mcias, &params).map_err(sense)?;
    let text = |name| params.get(name).unwrap_or_default().to_owned();
    let client = hint.as_ref().map(|hint| hint.aud.clone());
    let after = Afterwards {
        client: client.unwrap_or_else(|| text("client_id")),
        uri: text("post_logout_redirect_uri"),
        state: text("state"),
    };
    let after = checked(&mcias, after).await?;
    if person.is_none()
        && let Some(again) = page.once_more()
    {
        return Ok(again);
    }
    let session = match &hint {
        Some(hint) => hint::session(&mcias, hint).await.map_err(failed)?,
        None => None,
    };
    let of = hint.as_ref().map(|hint| hint.sub.clone());
    // The client has what it ends; no other site can send somebody here with it.
    if let Some(hint) = hint.filter(|_| session.is_some()) {
        end_clients(&mcias, &page, hint).await?;
    }
    let same = |person: &Person| of.as_ref() == Some(&person.account.id);
    match person {
        Some(person) if !same(&person) => ask(page, &person, &after),
        person => log_out(&mcias, &page, person, &after).await,
    }
}

/// The person said yes.
pub(super) async fn confirmed(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
    Form(asked): Form<Asked>,
) -> Answer {
    let after = Afterwards {
        client: asked.client_id,
        uri: asked.post_logout_redirect_uri,
        state: asked.state,
    };
    let after = checked(&mcias, after).await?;
    log_out(&mcias, &page, person, &after).await
}

fn sense(text: &str) -> ErrorPage {
    ErrorPage::bad_request(format!(
        "The service that sent you here made a mistake: {text}."
    ))
}

/// One of the client's own, byte for byte; without any, here.
async fn checked(mcias: &Arc<Mcias>, after: Afterwards) -> Result<Afterwards, ErrorPage> {
    let name = after.client.clone();
    let read = move |db: &Connection| Ok::<_, Error>(service::find(db, &name)?);
    let client = mcias.store.read(read).await.map_err(failed)?;
    if after.uri.is_empty() {
        // Of a client that is none not even the name is shown.
        let client = client.map(|client| client.name).unwrap_or_default();
        return Ok(Afterwards { client, ..after });
    }
    let own = client.is_some_and(|client| {
        let mut own = client.post_logout_redirect_uris.iter();
        own.any(|own| *own == after.uri)
    });
    let unknown = "it is not known here, or not at the address that it wants you to be sent to";
    own.then_some(after).ok_or_else(|| sense(unknown))
}

fn ask(page: Page, person: &Person, after: &Afterwards) -> Answer {
    let question = Question {
        csrf: page.csrf(),
        action: CONFIRM,
        account: &person.account.name,
        client: &after.client,
        uri: &after.uri,
        state: &after.state,
    };
    let page = match after.uri.as_str() {
        "" => page,
        uri => page.clone().with_form_action(uri).unwrap_or(page),
    };
    page.render("Log out?", &question)
}

/// Ends the login of the client that shows its ID token, and the others that were given by the same login here, which may be over.
async fn end_clients(mcias: &Arc<Mcias>, page: &Page, hint: Hint) -> Result<(), ErrorPage> {
    let by = by(page, LOGOUT, None)?;
    let end = move |change: &mut Change<'_>| {
        if let Some(account) = account::by_id(change.tx, &hint.sub)? {
            change.resource = account.name;
        }
        end_with_its_login(change, &hint.sub, &hint.sid)
    };
    mcias.write(&by, end).await.map_err(failed)
}

async fn log_out(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: Option<Person>,
    after: &Afterwards,
) -> Answer {
    if let Some(person) = person {
        let by = by(page, LOGOUT, Some(&person))?;
        let ended = end_login(mcias, &by, person.account.id, person.login.id).await;
        ended.map_err(failed)?;
    }
    let mut answer = page.log_out(&LocalPath::home()).await?;
    if !after.uri.is_empty() {
        let state = (!after.state.is_empty()).then_some(("state", &*after.state));
        let between = match (state, after.uri.contains('?')) {
            (None, _) => "",
            (Some(_), true) => "&",
            (Some(_), false) => "?",
        };
        let to = format!("{}{between}{}", after.uri, query(state));
        let to = HeaderValue::from_str(&to).map_err(|_| ErrorPage::internal())?;
        *answer.status_mut() = StatusCode::SEE_OTHER;
        answer.headers_mut().insert(header::LOCATION, to);
    }
    Ok(answer.into_response())
}
