//! How somebody logs in, and what there is to change of it: passkeys, an authenticator app, recovery codes. Whatever makes or takes away
//! one asks for the password on a page of its own, so that nothing here needs a script but passkeys themselves.

mod passkeys;
mod recovery;
mod totp;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use mc_proto::mcias::v1::Passkey;
use mcdsl::web::{CsrfField, Flash, LocalPath, Page};
use serde::Deserialize;

use super::{Answer, Person, by, failed, leading_on, login, record, refused, sessions::ago, then};
use crate::{by::By, core::Mcias, error::Error, factors, time::unix};

/// Where all of it is.
pub(crate) const FACTORS: &str = "/factors";

/// The pages.
pub(super) fn routes() -> Router<Arc<Mcias>> {
    Router::new()
        .route(FACTORS, get(show))
        .route(totp::SET_UP, get(totp::ask).post(totp::begin))
        .route(totp::CONFIRM, post(totp::confirm))
        .route(totp::REMOVE, get(totp::ask_removal).post(totp::remove))
        .route(recovery::PATH, get(recovery::ask).post(recovery::make))
        .route(passkeys::ADD, get(passkeys::ask).post(passkeys::begin))
        .route(passkeys::FINISH, post(passkeys::finish))
        .route(
            passkeys::REMOVE,
            get(passkeys::ask_removal).post(passkeys::remove),
        )
}

#[derive(Template)]
#[template(path = "factors.html")]
struct Factors<'a> {
    person: &'a Person,
    /// The account has a second factor that this login has not shown.
    shown_less: bool,
    /// Somebody was led here to enrol one.
    wanted: bool,
    has_factor: bool,
    totp: bool,
    recovery_codes: u32,
    passkeys: Vec<Row>,
    password_changed: String,
    /// Where it goes on to, for links.
    query: String,
}

struct Row {
    id: String,
    name: String,
    created: String,
    used: String,
}

/// What is asked before anything is changed.
struct Question {
    title: &'static str,
    path: &'static str,
    text: String,
    button: &'static str,
    /// It takes something away.
    removes: bool,
    /// Of what, if there are several.
    id: String,
    /// What a new one is to be called, if it has a name.
    name: Option<String>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm<'a> {
    csrf: CsrfField,
    question: &'a Question,
    /// For the browser's password manager.
    account: &'a str,
    query: String,
    /// Where it leads to leave everything as it is.
    back: LocalPath,
}

/// What the form of a [`Question`] sends.
#[derive(Deserialize)]
struct Confirmed {
    #[serde(default)]
    password: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

async fn show(State(mcias): State<Arc<Mcias>>, page: Page, person: Person) -> Answer {
    let by = by(&page, FACTORS, Some(&person))?;
    let factors = factors::factors(&mcias, &by).await.map_err(failed)?;
    let now = mcias.now();
    let passed = |time: Option<prost_types::Timestamp>, never: &str| match time {
        Some(time) => ago(unix(time.try_into().unwrap_or(now)), now),
        None => never.to_owned(),
    };
    let row = |passkey: Passkey| Row {
        id: passkey.id,
        name: passkey.name,
        created: passed(passkey.created, ""),
        used: passed(passkey.used, "never"),
    };
    let has_factor = person.account.has_second_factor();
    let content = Factors {
        person: &person,
        shown_less: person.standing.unshown,
        wanted: !has_factor && page.next() != LocalPath::home(),
        has_factor,
        totp: factors.totp,
        recovery_codes: factors.recovery_codes,
        passkeys: factors.passkeys.into_iter().map(row).collect(),
        password_changed: passed(factors.password_changed, "never"),
        query: query(&page),
    };
    page.render("Login security", &content)
}

/// `?next=…`, if it goes on.
fn query(page: &Page) -> String {
    let next = page.next();
    if next == LocalPath::home() {
        return String::new();
    }
    let next: String = url::form_urlencoded::byte_serialize(next.as_str().as_bytes()).collect();
    format!("?next={next}")
}

/// Where it goes on to once there is a second factor.
fn onward(page: &Page) -> LocalPath {
    let next = page.next();
    if next == LocalPath::home() {
        return all();
    }
    next
}

fn all() -> LocalPath {
    LocalPath::or_home(Some(FACTORS))
}

fn put(question: &Question, page: &Page, person: &Person) -> Answer {
    let content = Confirm {
        csrf: page.csrf(),
        question,
        account: &person.account.name,
        query: query(page),
        back: match question.path {
            // Whoever was led here goes on without them.
            recovery::PATH => onward(page),
            _ => LocalPath::or_home(Some(&format!("{FACTORS}{}", query(page)))),
        },
    };
    page.render(question.title, &content)
}

/// The question once more, with what was wrong.
async fn put_again(
    mcias: &Arc<Mcias>,
    by: &By,
    error: Error,
    question: &Question,
    page: Page,
    person: &Person,
) -> Answer {
    let refusal = refused(mcias, by, error).await?;
    let page = page.with(Flash::error(refusal.text.clone()));
    Ok(refusal.with(put(question, &page, person)?))
}

/// On from an enrolment. Under a new cookie: a copy of the one before was never shown the second factor.
async fn enrolled(page: &Page, person: &Person, text: &str) -> Answer {
    let mut person = person.clone();
    (person.standing.enrol, person.standing.unshown) = (false, false);
    let next = page.next();
    // Who goes on elsewhere sees no page that would offer them.
    let to = if next != LocalPath::home() && person.account.recovery_codes == 0 {
        then(recovery::PATH, next.as_str())
    } else {
        onward(page)
    };
    login::anew(page, &person, &to, Flash::success(text)).await
}
