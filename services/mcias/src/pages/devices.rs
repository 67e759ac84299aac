//! Logins from new devices, of which their owner says whether it was him.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mcdsl::web::{CsrfField, Flash, Form, LocalPath, Page};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    Answer, PASSWORD, Person, Refusal, by, failed, home::methods, leading_on, refused,
    sessions::ago, then,
};
use crate::{
    core::{Change, Mcias},
    device::{self, NewDevice},
    error::Error,
    session::find_session,
    shown,
};

/// Where they are shown after a login.
pub(super) const DEVICES: &str = "/devices";

#[derive(Template)]
#[template(path = "devices.html")]
struct Devices {
    news: News,
}

/// What somebody is told.
pub(super) struct News {
    pub(super) csrf: CsrfField,
    /// Where an answer goes on to.
    pub(super) next: String,
    pub(super) devices: Vec<Row>,
    /// This login may say that it was its owner.
    pub(super) may_accept: bool,
}

pub(super) struct Row {
    pub(super) network: String,
    /// As the client said it: by this the answer names it.
    pub(super) device: String,
    /// As people are shown it.
    pub(super) shown: String,
    pub(super) when: String,
    pub(super) methods: String,
    pub(super) service: String,
    pub(super) current: bool,
}

impl News {
    /// For the page of somebody.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn of(
        mcias: &Arc<Mcias>,
        page: &Page,
        person: &Person,
        next: &LocalPath,
    ) -> Result<Self, Error> {
        let (account, login) = (person.account.id.clone(), person.login.clone());
        let read = move |db: &Connection| {
            let may_accept = device::may_answer(db, &account, &login)?;
            Ok::<_, Error>((device::unanswered(db, &account)?, may_accept))
        };
        let (devices, may_accept) = mcias.store.read(read).await?;
        let (now, login) = (mcias.now(), &person.login);
        let row = |new: NewDevice| Row {
            when: ago(new.since, now),
            methods: methods(&new.methods),
            current: new.network == login.source && new.device == login.device,
            shown: shown::device(&new.device),
            network: new.network,
            device: new.device,
            service: new.service,
        };
        Ok(Self {
            csrf: page.csrf(),
            next: next.as_str().to_owned(),
            devices: devices.into_iter().map(row).collect(),
            may_accept,
        })
    }

    /// Whether there is one to say of that it was somebody else.
    pub(super) fn has_others(&self) -> bool {
        self.devices.iter().any(|device| !device.current)
    }
}

/// Where a login leads that goes on to `next`: to what its owner has not answered for, if this login may.
///
/// # Errors
/// If the database fails.
pub(super) async fn first(
    mcias: &Arc<Mcias>,
    account: &str,
    login: &str,
    next: &LocalPath,
) -> Result<LocalPath, Error> {
    let (account, login) = (account.to_owned(), login.to_owned());
    let read = move |db: &Connection| {
        let Some(login) = find_session(db, &account, &login)? else {
            return Ok(false);
        };
        let other = |new: &NewDevice| new.network != login.source || new.device != login.device;
        Ok::<_, Error>(
            device::may_answer(db, &account, &login)?
                && device::unanswered(db, &account)?.iter().any(other),
        )
    };
    let asks = mcias.store.read(read).await?;
    let there = then(DEVICES, next.as_str());
    // A path that is too long for that leads on: the start page tells as well.
    Ok(if asks && there != LocalPath::home() {
        there
    } else {
        next.clone()
    })
}

#[derive(Deserialize)]
pub(super) struct Asked {
    network: String,
    device: String,
    answer: Which,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    Mine,
    NotMine,
}

pub(super) async fn show(State(mcias): State<Arc<Mcias>>, page: Page, person: Person) -> Answer {
    render(&mcias, page, &person).await
}

async fn render(mcias: &Arc<Mcias>, page: Page, person: &Person) -> Answer {
    let next = page.next();
    let page = leading_on(mcias, page, &next).await?;
    let news = News::of(mcias, &page, person, &next)
        .await
        .map_err(failed)?;
    page.render("New devices", &Devices { news })
}

pub(super) async fn answer(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Asked>,
) -> Answer {
    let next = page.next();
    let by = by(&page, DEVICES, Some(&person))?;
    let (account, login) = (person.account.clone(), person.login.clone());
    let Asked {
        network,
        device,
        answer,
    } = asked;
    let write = move |change: &mut Change<'_>| {
        change.resource = account.name;
        change.note(|detail| {
            let detail = detail.text("network", &network).text("device", &device);
            detail.flag("mine", matches!(answer, Which::Mine))
        });
        match answer {
            Which::Mine => device::accept(change.tx, &account.id, &login, &network, &device),
            Which::NotMine => device::reject(change, &account.id, &login, &network, &device),
        }
    };
    match (mcias.write(&by, write).await, answer) {
        (Ok(()), Which::Mine) => {
            let first = first(&mcias, &person.account.id, &person.login.id, &next).await;
            page.redirect(&first.map_err(failed)?, None).await
        }
        (Ok(()), Which::NotMine) => {
            let text =
                "Its logins have ended. Whoever it was knows your password: choose a new one now.";
            let to = then(PASSWORD, next.as_str());
            page.redirect(&to, Some(Flash::notice(text))).await
        }
        (Err(error), _) => {
            let refusal: Refusal = refused(&mcias, &by, error).await?;
            let page = page.with(Flash::error(refusal.text.clone()));
            Ok(refusal.with(render(&mcias, page, &person).await?))
        }
    }
}
