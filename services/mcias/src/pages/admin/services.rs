//! The services that tokens may be for, clients of OpenID Connect among them.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mcdsl::web::Page;
use rusqlite::Connection;

use super::{Answer, link, service::EDIT};
use crate::{
    core::Mcias,
    error::Error,
    pages::failed,
    service::{self, Service},
};

/// Where they are.
pub(super) const LIST: &str = "/admin/services";

#[derive(Template)]
#[template(path = "admin/services.html")]
struct List {
    here: &'static str,
    services: Vec<Row>,
}

struct Row {
    service: Service,
    page: String,
    kind: &'static str,
}

/// What a service is to OpenID Connect.
pub(super) fn kind(service: &Service) -> &'static str {
    match (service.public_client, service.redirect_uris.is_empty()) {
        (true, _) => "public client",
        (false, false) => "client with a secret",
        (false, true) => "no client",
    }
}

pub(super) async fn list(State(mcias): State<Arc<Mcias>>, page: Page) -> Answer {
    let read = |db: &Connection| Ok::<_, Error>(service::list(db)?);
    let services = mcias.store.read(read).await.map_err(failed)?;
    let row = |service: Service| Row {
        page: link(EDIT, &[("name", &service.name)]),
        kind: kind(&service),
        service,
    };
    let list = List {
        here: LIST,
        services: services.into_iter().map(row).collect(),
    };
    page.render("Services", &list)
}
