//! Who looks at a page.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse as _, Response},
};
use mcdsl::{
    auth::Identity,
    db::is_unwritable,
    web::{self, CurrentSession, Page},
};
use rusqlite::Connection;

use super::{LOGIN, failed, then};
use crate::{
    SERVICE,
    account::{self, Account, Status},
    core::Mcias,
    error::Error,
    service,
    session::{self, Session, find_session},
    standing::Standing,
    time::at,
};

/// Between two writes of when a login was used: not one for each page.
const TOUCH: Duration = Duration::from_secs(60);
/// What pages keep with a session of the web: the login.
pub(super) const LOGIN_ID: &str = "login";

/// Somebody who is logged in, as the database has him now.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) account: Account,
    pub(crate) login: Session,
    /// What the login lacks now.
    pub(crate) standing: Standing,
}

impl Person {
    /// Who asks, if anybody does whose login goes on.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn of(mcias: &Arc<Mcias>, page: &Page) -> Result<Option<Self>, Error> {
        let Some(session) = page.session() else {
            return Ok(None);
        };
        let person = Self::find(mcias, session).await?;
        let roles = person.as_ref().map(|person| person.identity().roles);
        if person.is_some() {
            page.login_goes_on();
        }
        page.has_roles(&roles.unwrap_or_default());
        Ok(person)
    }

    async fn find(mcias: &Arc<Mcias>, session: &web::Session) -> Result<Option<Self>, Error> {
        let Some(login) = session.data[LOGIN_ID].as_str().map(str::to_owned) else {
            return Ok(None);
        };
        let (id, this) = (session.account.clone(), Arc::clone(mcias));
        let now = mcias.now();
        let read = move |db: &Connection| {
            let login = find_session(db, &id, &login)?;
            let login = login.filter(|l| l.service == SERVICE && !l.is_over(now));
            let account = account::by_id(db, &id)?;
            let account = account.filter(|account| account.status == Status::Active);
            let (Some(login), Some(account)) = (login, account) else {
                return Ok(None);
            };
            let verdict = this
                .policy()
                .judge(&account, &service::named(db, SERVICE)?)?;
            if !verdict.allowed {
                return Ok(None);
            }
            let standing = Standing::of(&account, &verdict, login.has_shown_both());
            Ok::<_, Error>(Some(Self {
                account,
                login,
                standing,
            }))
        };
        let person = mcias.store.read(read).await?;
        if let Some(person) = &person
            && at(person.login.used) + TOUCH <= now
        {
            let id = person.login.id.clone();
            let touch =
                move |tx: &rusqlite::Transaction<'_>| Ok::<_, Error>(session::touch(tx, &id, now)?);
            match mcias.store.write(touch).await {
                // Who only reads is not kept from it: it is noted once there is room.
                Err(error) if is_unwritable(&error) => {}
                touched => {
                    touched?;
                }
            }
        }
        Ok(person)
    }

    /// As methods of the API know him.
    pub(crate) fn identity(&self) -> Identity {
        let (account, login) = (&self.account, &self.login);
        let restricted = self.standing.is_restricted();
        let unless_restricted = |names: &[String]| {
            if restricted {
                Vec::new()
            } else {
                names.to_vec()
            }
        };
        Identity {
            account: account.id.clone(),
            name: account.name.clone(),
            account_type: account.account_type,
            roles: unless_restricted(&account.roles),
            tags: unless_restricted(&account.tags),
            token: login.token.clone(),
            session: login.id.clone(),
            methods: login.methods.clone(),
            issued: at(login.used),
            expires: at(login.expires),
        }
    }
}

impl FromRequestParts<Arc<Mcias>> for Person {
    type Rejection = Response;

    /// Who is not logged in, or no longer, is sent to log in and comes back.
    async fn from_request_parts(parts: &mut Parts, mcias: &Arc<Mcias>) -> Result<Self, Response> {
        let refused = |error| failed(error).into_response();
        let page = Page::from_request_parts(parts, mcias).await;
        let page = page.unwrap_or_else(|never| match never {});
        match Self::of(mcias, &page).await.map_err(refused)? {
            Some(person) => Ok(person),
            None if page.session().is_some() => {
                let next = match parts.uri.path_and_query() {
                    Some(path) if parts.method.is_safe() => then(LOGIN, path.as_str()),
                    _ => then(LOGIN, "/"),
                };
                let answer = page.log_out(&next).await;
                Err(answer.unwrap_or_else(|e| e.into_response()))
            }
            None => match CurrentSession::from_request_parts(parts, mcias).await {
                Err(to_login) => Err(to_login),
                // There is none, as was just seen.
                Ok(_) => Err(refused(Error::Internal("a session from nowhere"))),
            },
        }
    }
}

/// Who is logged in, if anybody is.
#[derive(Clone)]
pub(crate) struct MaybePerson(pub(crate) Option<Person>);

impl FromRequestParts<Arc<Mcias>> for MaybePerson {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, mcias: &Arc<Mcias>) -> Result<Self, Response> {
        let page = Page::from_request_parts(parts, mcias).await;
        let page = page.unwrap_or_else(|never| match never {});
        let person = Person::of(mcias, &page).await;
        person
            .map(Self)
            .map_err(|error| failed(error).into_response())
    }
}

impl MaybePerson {
    /// Account and login of a page's session, whether it goes on or not.
    pub(super) fn login_of(page: &Page) -> Option<(String, String)> {
        let session = page.session()?;
        let login = session.data[LOGIN_ID].as_str()?;
        Some((session.account.clone(), login.to_owned()))
    }
}
