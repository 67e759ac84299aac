//! An authenticator app.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mc_proto::mcias::v1::BeginTotpResponse;
use mcdsl::web::{CsrfField, Flash, Form, Page};
use serde::Deserialize;

use super::{
    Answer, Confirmed, Person, Question, all, by, enrolled, failed, leading_on, put, put_again,
    query, refused,
};
use crate::{core::Mcias, factors};

pub(super) const SET_UP: &str = "/factors/totp";
pub(super) const CONFIRM: &str = "/factors/totp/confirm";
pub(super) const REMOVE: &str = "/factors/totp/remove";

const TITLE: &str = "Set up an authenticator app";
/// Characters of a secret that are typed at once.
const GROUP: usize = 4;

#[derive(Template)]
#[template(path = "totp.html")]
struct SetUp {
    csrf: CsrfField,
    query: String,
    /// Whoever has the cookie alone is not told it by a wrong code.
    shared: Option<Shared>,
}

struct Shared {
    /// The QR code, a `data:` URL.
    picture: String,
    uri: String,
    /// In groups.
    secret: String,
    /// By which the page is told it again after a wrong code.
    proof: String,
}

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    code: String,
    #[serde(default)]
    shown: String,
}

fn question() -> Question {
    Question {
        title: TITLE,
        path: SET_UP,
        text: "Your other logins end when it is set up, for they have not shown it.".to_owned(),
        button: "Go on",
        removes: false,
        id: String::new(),
        name: None,
    }
}

fn removal() -> Question {
    Question {
        title: "Remove the authenticator app",
        path: REMOVE,
        text: "Its codes are not taken any more, and your other logins end. Recovery codes go with the last second factor."
            .to_owned(),
        button: "Remove",
        removes: true,
        id: String::new(),
        name: None,
    }
}

pub(super) async fn ask(page: Page, person: Person) -> Answer {
    put(&question(), &page, &person)
}

pub(super) async fn begin(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let by = by(&page, SET_UP, Some(&person))?;
    match factors::begin_totp(&mcias, &by, asked.password).await {
        Ok(begun) => set_up(&mcias, page, Some(begun)).await,
        Err(error) => put_again(&mcias, &by, error, &question(), page, &person).await,
    }
}

pub(super) async fn confirm(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(typed): Form<Typed>,
) -> Answer {
    let by = by(&page, CONFIRM, Some(&person))?;
    match factors::confirm_totp(&mcias, &by, typed.code).await {
        Ok(()) => {
            let text =
                "The authenticator app is set up. Make recovery codes, in case that you lose it.";
            enrolled(&page, &person, text).await
        }
        Err(error) => {
            let refusal = refused(&mcias, &by, error).await?;
            let page = page.with(Flash::error(refusal.text.clone()));
            let begun = factors::begun_totp(&mcias, &by, typed.shown).await;
            Ok(refusal.with(set_up(&mcias, page, begun.map_err(failed)?).await?))
        }
    }
}

async fn set_up(mcias: &Arc<Mcias>, page: Page, begun: Option<BeginTotpResponse>) -> Answer {
    let next = page.next();
    let page = leading_on(mcias, page, &next).await?;
    let shared = begun.map(|begun| Shared {
        picture: format!("data:image/svg+xml;base64,{}", BASE64.encode(&begun.qr)),
        secret: grouped(&begun.secret),
        proof: factors::totp_proof(&begun.secret),
        uri: begun.uri,
    });
    let content = SetUp {
        csrf: page.csrf(),
        query: query(&page),
        shared,
    };
    page.render(TITLE, &content)
}

fn grouped(secret: &str) -> String {
    let secret: Vec<char> = secret.chars().collect();
    let groups = secret.chunks(GROUP).map(|group| group.iter().collect());
    groups.collect::<Vec<String>>().join(" ")
}

pub(super) async fn ask_removal(page: Page, person: Person) -> Answer {
    put(&removal(), &page, &person)
}

pub(super) async fn remove(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let by = by(&page, REMOVE, Some(&person))?;
    match factors::remove_totp(&mcias, &by, asked.password).await {
        Ok(()) => {
            let message = Flash::success("The authenticator app is removed.");
            page.redirect(&all(), Some(message)).await
        }
        Err(error) => put_again(&mcias, &by, error, &removal(), page, &person).await,
    }
}
