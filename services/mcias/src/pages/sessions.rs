//! The logins of whoever asks, and their end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use askama::Template;
use axum::{extract::State, response::Response};
use mcdsl::web::{CsrfField, ErrorPage, Flash, Form, LocalPath, Page};
use rusqlite::Connection;
use serde::Deserialize;

use super::{Person, by, end_login, failed, home::methods};
use crate::{core::Mcias, error::Error, session::sessions, shown, time::at};

#[derive(Template)]
#[template(path = "sessions.html")]
struct List {
    csrf: CsrfField,
    logins: Vec<Row>,
}

struct Row {
    id: String,
    service: String,
    device: String,
    source: String,
    methods: String,
    created: String,
    used: String,
    current: bool,
    new_device: bool,
}

#[derive(Deserialize)]
pub(super) struct End {
    id: String,
}

pub(super) async fn show(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
) -> Result<Response, ErrorPage> {
    let now = mcias.now();
    let account = person.account.id.clone();
    let read = move |db: &Connection| Ok::<_, Error>(sessions(db, &account, now)?);
    let logins = mcias.store.read(read).await.map_err(failed)?;
    let row = |session: crate::session::Session| Row {
        current: session.id == person.login.id,
        methods: methods(&session.methods),
        created: ago(session.created, now),
        used: ago(session.used, now),
        new_device: session.new_device,
        id: session.id,
        service: session.service,
        device: shown::device(&session.device),
        source: session.source,
    };
    let list = List {
        csrf: page.csrf(),
        logins: logins.into_iter().map(row).collect(),
    };
    page.render("Your logins", &list)
}

pub(super) async fn end(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<End>,
) -> Result<Response, ErrorPage> {
    let by = by(&page, "/sessions/end", Some(&person))?;
    let id: String = asked.id.chars().take(64).collect();
    let current = id == person.login.id;
    let ended = end_login(&mcias, &by, person.account.id, id).await;
    ended.map_err(failed)?;
    if current {
        return page.log_out(&LocalPath::home()).await;
    }
    let back = LocalPath::or_home(Some("/sessions"));
    let message = Flash::success("The login has ended.");
    page.redirect(&back, Some(message)).await
}

/// How long ago a time of the database was, for people.
pub(super) fn ago(time: i64, now: SystemTime) -> String {
    let passed = now.duration_since(at(time)).unwrap_or_default();
    match passed.as_secs() / 60 {
        0 => "just now".to_owned(),
        minutes => {
            let whole = Duration::from_secs(minutes * 60);
            format!("{} ago", mcdsl::human::duration_short(whole))
        }
    }
}
