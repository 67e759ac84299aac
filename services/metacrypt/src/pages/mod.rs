//! Pages: what the API's methods do, for people with a browser.
//!
//! They are clients of the API within the process ([`Local`]) with the token of whoever is logged in: what may be done is decided there, and
//! written down there. What a page knows beside is which buttons to show ([`Visitor::may`]), by the same policy. Nothing is changed by GET, what
//! cannot be taken back is asked again ([`ask`]), and secrets are in the answer to the form that made them and nowhere else.

mod ask;
mod audit;
mod home;
mod mounts;
mod pki;
mod policy;
mod refusal;
mod shown;
mod ssh;
mod transit;
mod visitor;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use mcdsl::{
    server::Local,
    service::Base,
    web::{ErrorPage, NavItem},
};

pub(crate) use mcdsl::web::Answer;

use self::visitor::Visitor;
use crate::core::Metacrypt;

/// The role that sees what only administrators may.
const ADMIN: Option<&str> = Some(mcdsl::auth::ADMIN);

/// What all pages have.
#[derive(Clone)]
pub(crate) struct Ui {
    api: Local,
    /// For what is shown; what is done, `api` does.
    metacrypt: Arc<Metacrypt>,
}

type Handlers = MethodRouter<Ui>;
/// Pages: paths and what answers there.
type Table = Vec<(&'static str, Handlers)>;

/// Pages of what is behind the seal.
fn behind() -> Table {
    [
        mounts::table(),
        policy::table(),
        audit::table(),
        pki::table(),
        ssh::table(),
        transit::table(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All of them.
pub(crate) fn router(base: &Base, metacrypt: &Arc<Metacrypt>) -> Router {
    let nav = |label, path, role| NavItem { label, path, role };
    let nav = vec![
        nav("Certificates", pki::HOME, None),
        nav("SSH", ssh::HOME, None),
        nav("Transit", transit::HOME, None),
        nav("Mounts", mounts::LIST, None),
        nav("Policy", policy::LIST, ADMIN),
        nav("Audit", audit::LOG, ADMIN),
    ];
    let ui = Ui {
        api: base.api.clone(),
        metacrypt: Arc::clone(metacrypt),
    };
    let add = |routes: Router<Ui>, (path, handlers)| routes.route(path, handlers);
    let closed = middleware::from_fn_with_state(ui.clone(), while_open);
    let behind = behind().into_iter().fold(Router::new(), add);
    let routes = home::table().into_iter().fold(Router::new(), add);
    let routes = routes.merge(behind.route_layer(closed));
    base.pages(nav, routes.with_state(ui))
}

/// Before what is behind the seal: says that it is closed, instead of one method's word after another.
async fn while_open(State(ui): State<Ui>, request: Request, next: Next) -> Response {
    if !ui.metacrypt.is_sealed() {
        return next.run(request).await;
    }
    let text = "Metacrypt is sealed: its keys are not in memory, so that nothing can be read or made. The start page says how it is opened.";
    ErrorPage::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
