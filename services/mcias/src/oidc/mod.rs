//! OpenID Connect provider: the authorization code flow with PKCE (S256 alone), for the services that are registered with redirect URIs.
//!
//! What a client gets is a login of its own to its service: it is in the account's list, has an end, and ends with the login at this
//! service that it was given by. Its access token is one as the API issues them. Of codes, refresh tokens and clients' secrets the
//! database has hashes alone.

mod authorize;
mod basic;
mod client;
mod code;
mod consent;
mod discovery;
mod entitlement;
mod error;
mod form;
mod grant;
mod hint;
mod id_token;
mod introspect;
mod logout;
mod params;
mod pkce;
mod revoke;
mod scope;
mod token;
mod userinfo;
mod wanted;

pub(crate) use discovery::PATH as DISCOVERY;

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use rusqlite::Transaction;

use self::form::Form;
pub(crate) use self::{
    authorize::{Onward, leads_to},
    grant::{follow, hand_over, is_clients},
};
use crate::core::Mcias;

/// Bytes of a request to an endpoint: an ID token and an access token fit.
const MAX_BODY: usize = 16 * 1024;

const AUTHORIZE: &str = "/oauth/authorize";
/// What the question before a login of a program posts to.
const CONSENT: &str = "/oauth/authorize/consent";
const TOKEN: &str = "/oauth/token";
const USERINFO: &str = "/oauth/userinfo";
const INTROSPECT: &str = "/oauth/introspect";
const REVOKE: &str = "/oauth/revoke";
const LOGOUT: &str = "/oauth/logout";
/// What the question of the logout page posts to.
const CONFIRM: &str = "/oauth/logout/confirm";

/// What people see of it, for the pages.
pub(crate) fn pages() -> Router<Arc<Mcias>> {
    Router::new()
        .route(AUTHORIZE, get(authorize::authorize))
        .route(CONSENT, post(authorize::asked))
        .route(LOGOUT, get(logout::show))
        .route(CONFIRM, post(logout::confirmed))
}

/// What programs ask, beside the pages.
pub(crate) fn endpoints(mcias: &Arc<Mcias>) -> Router {
    Router::new()
        .route(discovery::PATH, get(discovery::show))
        .route(TOKEN, post(token::token))
        .route(USERINFO, get(userinfo::show).post(userinfo::show))
        .route(INTROSPECT, post(introspect::introspect))
        .route(REVOKE, post(revoke::revoke))
        // Clients may also post a form (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2). It changes nothing yet, and goes on as a page.
        .route(
            AUTHORIZE,
            post(async |form: Form| as_page(AUTHORIZE, &form)),
        )
        .route(LOGOUT, post(async |form: Form| as_page(LOGOUT, &form)))
        .with_state(Arc::clone(mcias))
}

fn as_page(path: &str, form: &Form) -> Response {
    Redirect::to(&format!("{path}?{}", form.0.query())).into_response()
}

/// Forgets codes that nobody can exchange or replay any more.
pub(crate) fn forget(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<usize> {
    code::forget(tx, now)
}
