//! What the web UIs of services share: layout, sessions, CSRF tokens, security headers, error pages.
//!
//! [`wrap`] puts a service's routes behind one guard. The guard knows who asks ([`Session`]), refuses unsafe requests that did not begin
//! on one of our own pages, turns failures into pages and sets the headers: a handler can forget none of it. A handler takes a [`Page`]
//! and renders its own askama template in it.
//!
//! Sessions' cookies are `SameSite=Strict`: who comes by a link of another site is nobody on the first request. [`CurrentSession`] then
//! answers a page that loads itself again, this time from here. What other programs call (OIDC's token endpoint, REST) is no page and
//! is merged beside the wrapped routes.
//!
//! There is no script but htmx, which evaluates nothing, and what a service has of its own; no style but the style sheet: the content security policy has no exception.
//! Rejected: `tower-sessions` and `axum_csrf` (their stores and cookies would have to be bent to all of the above), the crate `servable`
//! for htmx (GPL-3.0).

mod assets;
mod cookie;
mod error;
mod extract;
mod form;
mod guard;
mod headers;
mod login_state;
mod marked;
mod origin;
mod page;
mod path;
mod query;
mod secret;
mod session;
pub mod sso;
mod visit;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    response::{IntoResponse as _, Response},
};
use tower_http::catch_panic::CatchPanicLayer;

pub use error::ErrorPage;
pub use extract::{CurrentSession, Person};
pub use form::Form;
pub use headers::OriginError;
pub use page::{CsrfField, Page};
pub use path::LocalPath;
pub use query::Query;
pub use session::{
    Flash, Limits, MAX_DATA, NewSession, SESSIONS_SQL, Session, SessionError, SessionId, Sessions,
    Tone,
};
pub use sso::Sso;

use crate::{
    db::Migration,
    server::{Local, Source},
};

/// What a page's handler gives.
pub type Answer = Result<Response, ErrorPage>;

/// Bytes of a form.
pub const MAX_FORM: usize = 64 * 1024;

/// The step of a service's schema that makes the table of sessions.
#[must_use]
pub const fn migration(version: u32) -> Migration {
    Migration::new(version, "sessions of pages", SESSIONS_SQL)
}

/// A link of the navigation or of the account's menu.
#[derive(Clone, Debug)]
pub struct NavItem {
    /// What it says.
    pub label: &'static str,
    /// Where it leads.
    pub path: &'static str,
    /// Who sees it: those with this role; all who are logged in without one. It hides, the page itself must refuse.
    pub role: Option<&'static str>,
}

/// A script of a service's own, which all of its pages load. What it needs is in attributes of the page (`data-…`), and pages have to do
/// without it.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The file's name, e.g. `passkeys.js`.
    pub name: &'static str,
    /// What it does.
    pub content: &'static str,
}

/// A service's web UI.
pub struct Site {
    /// In the names of cookies, hence a token (RFC 6265, 4.1.1), e.g. `mcias`.
    pub service: &'static str,
    /// In the header and in titles, e.g. `MCIAS`.
    pub title: &'static str,
    /// In the header.
    pub nav: Vec<NavItem>,
    /// Under the account's name, above “Log out”.
    pub account: Vec<NavItem>,
    /// The page that logs in; it is sent `next`, see [`Page::next`].
    pub login: &'static str,
    /// The path that is posted to to log out; it answers [`Page::log_out`].
    pub logout: &'static str,
    /// What it adds to htmx, in this order.
    pub scripts: Vec<Script>,
    /// Who is logged in.
    pub sessions: Sessions,
    /// Logs in and out by MCIAS: then the pages `login` and `logout` are there already. `None` at MCIAS itself.
    pub sso: Option<Arc<Sso>>,
}

impl Local {
    /// For who is logged in on this page by [`Sso`].
    ///
    /// # Errors
    /// 401 if nobody is.
    pub fn of(&self, page: &Page) -> Result<Self, ErrorPage> {
        let (bearer, source) = page
            .bearer()
            .ok_or_else(|| ErrorPage::of(StatusCode::UNAUTHORIZED))?;
        Ok(self.with(Some(bearer), Source(source)))
    }

    /// For whoever asks for this page, logged in (by [`Sso`]) or not: for methods that anybody may call.
    ///
    /// # Errors
    /// 500 if nobody knows where the request came from, which a server of this crate does.
    pub fn anybody(&self, page: &Page) -> Result<Self, ErrorPage> {
        let source = page.source().ok_or_else(|| {
            tracing::error!("nobody knows where a request came from");
            ErrorPage::internal()
        })?;
        let bearer = page.bearer().map(|(bearer, _)| bearer);
        Ok(self.with(bearer, Source(source)))
    }
}

struct State {
    site: Site,
    scripts: Vec<assets::Asset>,
    cookies: Cookies,
    login_states: login_state::Key,
}

/// Names of cookies.
struct Cookies {
    session: String,
    form: String,
    login: String,
}

/// Puts `routes` behind the guard, and adds the assets and a page for what is not found.
pub fn wrap(site: Site, routes: Router) -> Router {
    let cookies = Cookies {
        session: format!("__Host-{}", site.service),
        form: format!("__Host-{}-form", site.service),
        login: format!("__Host-{}-login", site.service),
    };
    let scripts: Vec<_> = site.scripts.iter().map(assets::script).collect();
    let assets = assets::router(&scripts);
    let routes = match &site.sso {
        Some(sso) => routes.merge(sso::routes(sso, &site)),
        None => routes,
    };
    let state = Arc::new(State {
        site,
        scripts,
        cookies,
        login_states: login_state::Key::random(),
    });
    routes
        .fallback(async || ErrorPage::not_found())
        // What it says is in the log, by the hook.
        .layer(CatchPanicLayer::custom(|_| {
            ErrorPage::internal().into_response()
        }))
        .layer(middleware::from_fn_with_state(state, guard::guard))
        .merge(assets)
        .layer(middleware::map_response(headers::set))
}
