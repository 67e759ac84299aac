//! `id_token_hint`: whom a client means, by an ID token that it was once given.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    id_token::{self, Hint},
    params::{Params, query},
    wanted::Told,
};
use crate::{
    core::Mcias,
    error::Error,
    session::{Session, find_session},
};

/// The parameter of clients (OpenID Connect Core §3.1.2.1).
pub(super) const HINT: &str = "id_token_hint";
/// What stands for it once somebody was asked to log in: the account's id, which is short enough to go through the login page. A client
/// that says it itself learns no more than by a hint.
const MEANT: &str = "meant";

/// Both.
pub(super) const PARAMETERS: [&str; 2] = [HINT, MEANT];

/// Whom a client wants to be logged in.
pub(super) struct Hinted {
    pub(super) sub: String,
    /// Who is at the browser was asked to be that person, and has logged in.
    pub(super) asked: bool,
}

impl Hinted {
    /// Of a request for authorization by `client`.
    ///
    /// # Errors
    /// If the token is none of this service's, or was another client's.
    pub(super) fn of(mcias: &Mcias, params: &Params, client: &str) -> Result<Option<Self>, Told> {
        let Some(token) = params.get(HINT) else {
            let meant = params.get(MEANT).map(str::to_owned);
            return Ok(meant.map(|sub| Self { sub, asked: true }));
        };
        let hint = id_token::read(mcias, token).filter(|hint| hint.aud == client);
        let Some(hint) = hint else {
            let text = "id_token_hint is no ID token of this client's";
            return Err(("invalid_request", text.to_owned()));
        };
        Ok(Some(Self {
            sub: hint.sub,
            asked: false,
        }))
    }

    /// What says it after the login page, to be added to a query.
    pub(super) fn parameter(&self) -> String {
        format!("&{}", query([(MEANT, &*self.sub)]))
    }
}

/// Reads the hint of a request to log out.
///
/// # Errors
/// If there is one, and it is no ID token of this service.
pub(super) fn of_logout(mcias: &Mcias, params: &Params) -> Result<Option<Hint>, &'static str> {
    let Some(token) = params.get(HINT) else {
        return Ok(None);
    };
    let hint = id_token::read(mcias, token).ok_or("its id_token_hint is none of this service")?;
    if params
        .get("client_id")
        .is_some_and(|named| named != hint.aud)
    {
        return Err("its id_token_hint is another's");
    }
    Ok(Some(hint))
}

/// The login of the client that an ID token is of, if it goes on.
///
/// # Errors
/// If the database fails.
pub(super) async fn session(mcias: &Arc<Mcias>, hint: &Hint) -> Result<Option<Session>, Error> {
    let (sub, sid, aud) = (hint.sub.clone(), hint.sid.clone(), hint.aud.clone());
    let read = move |db: &Connection| {
        let session = find_session(db, &sub, &sid)?;
        Ok::<_, Error>(session.filter(|session| session.service == aud))
    };
    mcias.store.read(read).await
}
