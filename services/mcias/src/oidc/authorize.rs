//! The authorization endpoint: somebody is sent here by a client, and sent back with a code.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::web::{ErrorPage, Form, LocalPath, Page};
use rusqlite::Connection;
use tonic::Code as Outcome;

use super::{
    AUTHORIZE,
    code::{self, Code},
    consent::{self, Consent, Said},
    entitlement::{Lacking, lacking},
    error::plain,
    hint::{self, Hinted},
    params::{Params, query},
    wanted::Wanted,
};
use crate::{
    core::{Change, Mcias},
    error::Error,
    pages::{
        Answer, FACTORS, LOGIN, MaybePerson, PASSWORD, Person, by, failed, leads_on_to,
        login_again, then,
    },
    redirect,
    service::{self, Service},
    time::unix,
};

/// Bytes of a request. It goes through the login page and back, where it has to fit as well.
const MAX: usize = 1500;
/// With an ID token, which does not.
const MAX_HINTED: usize = 8 * 1024;

/// Where an answer goes: known good.
struct Target {
    client: Service,
    redirect_uri: String,
    state: Option<String>,
    issuer: String,
}

impl Target {
    /// Of the client's own redirect URIs; `None` if it is none of them.
    fn of(db: &Connection, params: &Params, issuer: &str) -> Result<Option<Self>, Error> {
        let (Some(client), Some(uri)) = (params.get("client_id"), params.get("redirect_uri"))
        else {
            return Ok(None);
        };
        let client = service::find(db, client)?;
        let client = client.filter(|client| {
            let mut own = client.redirect_uris.iter();
            own.any(|own| redirect::is_own(own, uri, client.public_client))
        });
        Ok(client.map(|client| Self {
            client,
            redirect_uri: uri.to_owned(),
            state: params.get("state").map(str::to_owned),
            issuer: issuer.to_owned(),
        }))
    }

    /// Sends the browser back (RFC 9207: with the issuer, so that no client takes it for another's answer).
    fn send(&self, answer: &[(&str, &str)]) -> Result<Response, ErrorPage> {
        let state = self.state.as_deref().map(|state| ("state", state));
        let more = state.into_iter().chain([("iss", &*self.issuer)]);
        let query = query(answer.iter().copied().chain(more));
        let to = redirect::with_answer(&self.redirect_uri, &query);
        let to = HeaderValue::from_str(&to).map_err(|_| ErrorPage::internal())?;
        Ok((StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response())
    }

    /// Whether whatever listens on the person's machine may pretend to be the client: it has no secret, and its address is anybody's.
    fn is_anybodys(&self) -> bool {
        self.client.public_client && redirect::is_local(&self.redirect_uri)
    }

    fn refuse(&self, error: &str, description: &str) -> Result<Response, ErrorPage> {
        let description = plain(description);
        self.send(&[("error", error), ("error_description", &description)])
    }
}

pub(super) async fn authorize(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
    uri: Uri,
) -> Answer {
    answer(&mcias, page, person, &uri, None).await
}

/// The person was asked ([`consent`]).
pub(super) async fn asked(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    MaybePerson(person): MaybePerson,
    uri: Uri,
    Form(said): Form<Said>,
) -> Answer {
    answer(&mcias, page, person, &uri, Some(said)).await
}

async fn answer(
    mcias: &Arc<Mcias>,
    page: Page,
    person: Option<Person>,
    uri: &Uri,
    said: Option<Said>,
) -> Answer {
    let query = uri.query().unwrap_or_default();
    let sense = |text: &str| {
        ErrorPage::bad_request(format!(
            "The service that sent you here made a mistake: {text}."
        ))
    };
    let long = || sense("its request is too long");
    if query.len() > MAX_HINTED {
        return Err(long());
    }
    let params = Params::parse(query.as_bytes()).map_err(|error| sense(&error.to_string()))?;
    if params.query_without(&[hint::HINT]).len() > MAX {
        return Err(long());
    }
    let target = target(mcias, params.clone()).await.map_err(failed)?;
    let unknown =
        "it is not known here, or not at the address that it wants you to be sent back to";
    let Some(target) = target else {
        turned_away(mcias, &page, person.as_ref(), &params).await?;
        return Err(sense(unknown));
    };
    let wanted = match Wanted::of(&params) {
        Ok(wanted) => wanted,
        Err((error, text)) => return target.refuse(error, &text),
    };
    let hinted = match Hinted::of(mcias, &params, &target.client.name) {
        Ok(hinted) => hinted,
        Err((error, text)) => return target.refuse(error, &text),
    };
    // What goes on from the login page, or another one, to here again.
    let request = |without: &[&str]| {
        let without = [without, &hint::PARAMETERS].concat();
        let query = params.query_without(&without);
        let hinted = hinted.as_ref().map(Hinted::parameter).unwrap_or_default();
        format!("{query}{hinted}")
    };
    let on = |without: &[&str]| format!("{AUTHORIZE}?{}", request(without));
    if !leads_on_to(&on(&[])) {
        let text = "the request is too long to go through the login page";
        return target.refuse("invalid_request", text);
    }
    let Some(person) = person else {
        if let Some(again) = page.once_more() {
            return Ok(again);
        }
        if wanted.silent {
            return target.refuse("login_required", "nobody is logged in");
        }
        // With the session of a login that is over, if there is one.
        return page.log_out(&then(LOGIN, &on(wanted.answered()))).await;
    };
    let age = unix(mcias.now()) - person.login.created;
    if wanted.anew || wanted.max_age.is_some_and(|most| age > most) {
        if wanted.silent {
            return target.refuse("login_required", "the login is too old");
        }
        let next = on(wanted.answered());
        return page.redirect(&login_again(&next), None).await;
    }
    if let Some(hinted) = hinted.as_ref().filter(|h| h.sub != person.account.id) {
        if wanted.silent || hinted.asked {
            let text = "somebody else is logged in than the one of id_token_hint";
            return target.refuse("login_required", text);
        }
        return page.redirect(&login_again(&on(&[])), None).await;
    }
    let lack = if person.standing.enrol {
        Some(Lacking::Factor)
    } else {
        let lack = lacking(mcias, &person.account, &person.login, &target.client);
        lack.map_err(failed)?
    };
    let consent = match said {
        Some(said) => match said.consent(mcias, &person, &request(&[])) {
            None if lack.is_none() => return void(mcias, &page, person, &target).await,
            consent => consent.unwrap_or(Consent::Unasked),
        },
        None => Consent::Unasked,
    };
    match lack {
        Some(Lacking::Leave) => deny(mcias, &page, person, target, Lacking::Leave.text()).await,
        None if !target.is_anybodys() => give(mcias, &page, person, target, wanted).await,
        None => match consent {
            Consent::Given => give(mcias, &page, person, target, wanted).await,
            Consent::Refused => deny(mcias, &page, person, target, "the person refused").await,
            Consent::Unasked if wanted.silent => {
                let text = "the person is asked before each login of a program on his machine";
                target.refuse("interaction_required", text)
            }
            Consent::Unasked => {
                let (client, uri) = (&target.client.name, &target.redirect_uri);
                consent::ask(mcias, page, &person, client, &request(&[]), uri)
            }
        },
        Some(lack) if wanted.silent => target.refuse("interaction_required", lack.text()),
        Some(Lacking::Second) => page.redirect(&login_again(&on(&[])), None).await,
        Some(Lacking::Password) => page.redirect(&then(PASSWORD, &on(&[])), None).await,
        Some(Lacking::Factor) => page.redirect(&then(FACTORS, &on(&[])), None).await,
    }
}

/// Writes down that somebody came who cannot be sent back: by a client that is not known, or not at that address. Anybody can.
async fn turned_away(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: Option<&Person>,
    params: &Params,
) -> Result<(), ErrorPage> {
    let said = |name| mcdsl::shown::visible(params.get(name).unwrap_or_default());
    let (client, uri) = (said("client_id"), said("redirect_uri"));
    tracing::debug!(
        client,
        redirect_uri = uri,
        "a login was asked for by a client that is not known, or not at that redirect URI"
    );
    let by = by(page, AUTHORIZE, person)?;
    let write = move |change: &mut Change<'_>| {
        let known = service::find(change.tx, &client)?.is_some();
        change.outcome = Outcome::InvalidArgument;
        let message = match known {
            true => "the redirect URI is not one of the client's",
            false => "the client is not known",
        };
        change.note(|detail| {
            let detail = detail.text("client", &client).text("redirect_uri", &uri);
            detail.text("message", message)
        });
        change.resource = client;
        Ok(())
    };
    mcias.refuse(&by, write).await.map_err(failed)
}

async fn target(mcias: &Arc<Mcias>, params: Params) -> Result<Option<Target>, Error> {
    let this = Arc::clone(mcias);
    let read = move |db: &Connection| Target::of(db, &params, &this.issuer);
    mcias.store.read(read).await
}

async fn give(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: Person,
    target: Target,
    wanted: Wanted,
) -> Answer {
    let by = by(page, AUTHORIZE, Some(&person))?;
    let code = Code {
        client: target.client.name.clone(),
        redirect_uri: target.redirect_uri.clone(),
        challenge: wanted.challenge,
        nonce: wanted.nonce,
        scopes: wanted.scopes,
        account: person.account.id,
        login: person.login.id,
    };
    let name = person.account.name;
    let write = move |change: &mut Change<'_>| {
        change.resource = name;
        change.note(|detail| detail.text("client", &code.client));
        code::issue(change.tx, &code, change.now)
    };
    let code = mcias.write(&by, write).await.map_err(failed)?;
    target.send(&[("code", &code)])
}

/// Writes down why nobody goes on to the client, and says so there.
async fn deny(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: Person,
    target: Target,
    why: &'static str,
) -> Answer {
    write_down(mcias, page, person, &target, why).await?;
    target.refuse("access_denied", why)
}

/// An answer to something else, or to nothing: where it would lead, nobody was asked.
async fn void(mcias: &Arc<Mcias>, page: &Page, person: Person, target: &Target) -> Answer {
    let why = "the answer is none to what is asked, or too late";
    write_down(mcias, page, person, target, why).await?;
    let client = &target.client.name;
    Err(ErrorPage::bad_request(format!(
        "What you answered is not what {client} asks for now, or you were asked too long ago. Begin the login again in {client}."
    )))
}

/// Writes down why nobody goes on to the client.
async fn write_down(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: Person,
    target: &Target,
    why: &'static str,
) -> Result<(), ErrorPage> {
    let by = by(page, AUTHORIZE, Some(&person))?;
    let client = target.client.name.clone();
    let write = move |change: &mut Change<'_>| {
        change.resource = person.account.name;
        change.outcome = Outcome::PermissionDenied;
        change.note(|detail| {
            let detail = detail.text("client", &client);
            detail.text("message", why)
        });
        Ok(())
    };
    mcias.write(&by, write).await.map_err(failed)
}

/// The client that a login goes on to.
pub(crate) struct Onward {
    pub(crate) client: String,
    /// Its redirect URI: the login may lead there at once, if only to say that it is refused.
    pub(crate) redirect_uri: String,
}

/// What a login goes on to that leads to `next`, if a client asks for it there.
///
/// # Errors
/// If the database fails.
pub(crate) async fn leads_to(
    mcias: &Arc<Mcias>,
    next: &LocalPath,
) -> Result<Option<Onward>, Error> {
    let query = next.as_str().strip_prefix(AUTHORIZE);
    let query = query.and_then(|rest| rest.strip_prefix('?'));
    let Some(Ok(params)) = query.map(|query| Params::parse(query.as_bytes())) else {
        return Ok(None);
    };
    let target = target(mcias, params).await?;
    Ok(target.map(|target| Onward {
        redirect_uri: target.redirect_uri,
        client: target.client.name,
    }))
}
