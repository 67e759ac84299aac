//! Who asks, by the request's head: read once, before its handler runs.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::http::{HeaderMap, Uri, request::Parts};

use super::{ErrorPage, LocalPath, Session, State, cookie, error::Wants, secret::Secret};
use crate::server::{Connection, Source};

/// What is known of a request before its handler runs.
pub(super) struct Visit {
    pub(super) state: Arc<State>,
    pub(super) session: Option<Session>,
    /// What is to be told once it is known whose the session is.
    pub(super) connection: Connection,
    /// The account's roles by now, if the service has looked.
    pub(super) roles: OnceLock<Vec<String>>,
    /// What tokens are bound to: the session's cookie, or without a session the form cookie.
    pub(super) secret: Secret,
    /// The form cookie is not set yet.
    pub(super) secret_is_new: bool,
    pub(super) uri: Uri,
    /// GET or HEAD.
    pub(super) reads: bool,
    /// A link of another site led here, so that the browser keeps the session's cookie to itself.
    pub(super) by_foreign_link: bool,
    pub(super) wants: Wants,
    /// The page in which htmx runs.
    pub(super) around: LocalPath,
    pub(super) source: Option<IpAddr>,
    pub(super) user_agent: String,
    pub(super) login_cookie: Option<String>,
}

impl Visit {
    /// If nobody can say whose session it is, it is nobody's.
    pub(super) async fn of(state: Arc<State>, request: &Parts) -> (Self, Result<(), ErrorPage>) {
        let headers = &request.headers;
        let read = |name| cookie::read(headers, name).and_then(Secret::parse);
        let mut known = Ok(());
        let mut found = None;
        if let Some(secret) = read(&state.cookies.session) {
            let leaves = !request.method.is_safe() && request.uri.path() == state.site.logout;
            match find(&state, &secret, leaves).await {
                Ok(session) => found = session.map(|session| (session, secret)),
                Err(error) => known = Err(error),
            }
        }
        let connection = Connection::of(&request.extensions);
        // Of a login elsewhere was asked just now whether it goes on; of others the service looks.
        if let (Some((session, _)), Some(_)) = (&found, &state.site.sso) {
            connection.known(&session.account);
        }
        let form_secret = read(&state.cookies.form);
        let secret_is_new = found.is_none() && form_secret.is_none();
        let (session, secret) = match found {
            Some((session, secret)) => (Some(session), secret),
            None => (None, form_secret.unwrap_or_else(Secret::random)),
        };
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let foreign = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
        let visit = Self {
            session,
            connection,
            roles: OnceLock::new(),
            secret,
            secret_is_new,
            uri: request.uri.clone(),
            reads: request.method.is_safe(),
            by_foreign_link: foreign && text("sec-fetch-mode") == Some("navigate"),
            wants: Wants::of(headers),
            around: around(headers),
            source: request.extensions.get::<Source>().map(|s| s.0),
            user_agent: text("user-agent").unwrap_or_default().to_owned(),
            login_cookie: cookie::read(headers, &state.cookies.login).map(str::to_owned),
            state,
        };
        (visit, known)
    }

    pub(super) fn path(&self) -> LocalPath {
        LocalPath::or_home(self.uri.path_and_query().map(|p| p.as_str()))
    }
}

/// The session of a cookie, if its login goes on. Who logs out may do so whether it does or not, or nobody can say.
async fn find(state: &State, secret: &Secret, leaves: bool) -> Result<Option<Session>, ErrorPage> {
    let sessions = &state.site.sessions;
    let found = sessions.find(secret).await?;
    match (found, &state.site.sso) {
        (Some(session), Some(sso)) if !leaves => sso.admit(sessions, session, secret).await,
        (found, _) => Ok(found),
    }
}

fn around(headers: &HeaderMap) -> LocalPath {
    let url = headers.get("hx-current-url").and_then(|v| v.to_str().ok());
    let uri: Option<Uri> = url.and_then(|u| u.parse().ok());
    LocalPath::or_home(
        uri.as_ref()
            .and_then(|u| Some(u.path_and_query()?.as_str())),
    )
}
