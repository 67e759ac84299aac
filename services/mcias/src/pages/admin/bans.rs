//! Networks that are kept away for failed logins, and letting one in again.

use std::{sync::Arc, time::SystemTime};

use askama::Template;
use axum::extract::State;
use mc_proto::mcias::v1::{Ban, ListBansRequest};
use mcdsl::web::{CsrfField, Flash, Form, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{Admin, Answer, ROWS, attempt, done, link, moment, when};
use crate::{bans, core::Mcias, error::Error, pages::failed};

/// Where they are.
pub(super) const LIST: &str = "/admin/bans";
/// Where one ends.
pub(super) const LIFT: &str = "/admin/ban/lift";

/// Which page of them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    after: String,
}

#[derive(Template)]
#[template(path = "admin/bans.html")]
struct List {
    csrf: CsrfField,
    here: &'static str,
    bans: Vec<Row>,
    /// From the first again.
    first: Option<String>,
    next: Option<String>,
}

struct Row {
    network: String,
    until: String,
    left: String,
    bans: u32,
    reason: String,
}

pub(super) async fn list(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Query(which): Query<Which>,
) -> Answer {
    render(&mcias, page, which.after).await
}

async fn render(mcias: &Arc<Mcias>, page: Page, after: String) -> Answer {
    let first = Some(LIST.to_owned()).filter(|_| !after.is_empty());
    let (asked, now) = (ListBansRequest { after, limit: 0 }, mcias.now());
    let read = move |db: &Connection| Ok::<_, Error>(bans::list(db, &asked, ROWS, now)?);
    let found = mcias.store.read(read).await.map_err(failed)?;
    let next = Some(found.next).filter(|next| !next.is_empty());
    let list = List {
        csrf: page.csrf(),
        here: LIST,
        bans: (found.bans.into_iter())
            .map(|ban| Row::new(ban, now))
            .collect(),
        first,
        next: next.map(|next| link(LIST, &[("after", &next)])),
    };
    page.render("Bans", &list)
}

impl Row {
    fn new(ban: Ban, now: SystemTime) -> Self {
        let until = ban.until.and_then(|until| SystemTime::try_from(until).ok());
        Self {
            until: until.map(moment).unwrap_or_default(),
            left: until.map(|until| when(until, now)).unwrap_or_default(),
            network: ban.source,
            bans: ban.bans,
            reason: ban.reason,
        }
    }
}

/// Which one.
#[derive(Deserialize)]
pub(super) struct Lift {
    network: String,
}

pub(super) async fn lift(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(asked): Form<Lift>,
) -> Answer {
    let by = admin.by(&page, LIFT)?;
    let lifting = mcias.lift_ban(&by, &asked.network);
    match attempt(&mcias, &by, lifting).await {
        Ok(network) => done(&page, LIST, format!("{network} is let in again.")).await,
        Err(refusal) => {
            let page = page.with(Flash::error(refusal.text.clone()));
            Ok(refusal.with(render(&mcias, page, String::new()).await?))
        }
    }
}
