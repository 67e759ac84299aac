//! Passkeys: the page gives the browser what to make, and gets what it made.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::Uri};
use mc_proto::mcias::v1::{BeginPasskeyResponse, FinishPasskeyRequest, Passkey};
use mcdsl::web::{CsrfField, ErrorPage, Flash, Form, Page};
use serde::Deserialize;
use tonic::Code;

use super::{
    Answer, Confirmed, Person, Question, all, by, enrolled, failed, leading_on, put, put_again,
    query, record,
};
use crate::{core::Mcias, factors, passkey};

pub(super) const ADD: &str = "/factors/passkeys";
pub(super) const FINISH: &str = "/factors/passkeys/finish";
pub(super) const REMOVE: &str = "/factors/passkeys/remove";

#[derive(Template)]
#[template(path = "passkey.html")]
struct Create<'a> {
    csrf: CsrfField,
    query: String,
    options: &'a str,
    ceremony: &'a str,
    name: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Made {
    ceremony: String,
    credential: String,
    name: String,
}

fn question(name: String) -> Question {
    Question {
        title: "Add a passkey",
        path: ADD,
        text: "Your other logins end when it is added, for they have not shown it.".to_owned(),
        button: "Go on",
        removes: false,
        id: String::new(),
        name: Some(name),
    }
}

fn removal(passkey: Passkey) -> Question {
    Question {
        title: "Remove a passkey",
        path: REMOVE,
        text: format!(
            "Nobody logs in with {} any more, and your other logins end. Recovery codes go with the last second factor.",
            passkey.name
        ),
        button: "Remove",
        removes: true,
        id: passkey.id,
        name: None,
    }
}

pub(super) async fn ask(page: Page, person: Person) -> Answer {
    put(&question(String::new()), &page, &person)
}

pub(super) async fn begin(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let by = by(&page, ADD, Some(&person))?;
    let begun = match passkey::named(&asked.name) {
        Ok(name) => (mcias.begin_passkey(&by, asked.password).await).map(|begun| (begun, name)),
        Err(error) => Err(error),
    };
    match begun {
        Ok((begun, name)) => {
            record(&mcias, &by, Code::Ok, "").await?;
            create(&mcias, page, &begun, &name).await
        }
        Err(error) => {
            let question = question(asked.name);
            put_again(&mcias, &by, error, &question, page, &person).await
        }
    }
}

async fn create(
    mcias: &Arc<Mcias>,
    page: Page,
    begun: &BeginPasskeyResponse,
    name: &str,
) -> Answer {
    let next = page.next();
    let page = leading_on(mcias, page, &next).await?;
    let content = Create {
        csrf: page.csrf(),
        query: query(&page),
        options: &begun.options,
        ceremony: &begun.ceremony,
        name,
    };
    page.render("Add a passkey", &content)
}

pub(super) async fn finish(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(made): Form<Made>,
) -> Answer {
    let by = by(&page, FINISH, Some(&person))?;
    let question = question(made.name.clone());
    let request = FinishPasskeyRequest {
        ceremony: made.ceremony,
        credential: made.credential,
        name: made.name,
    };
    match mcias.finish_passkey(&by, request).await {
        Ok(passkey) => {
            let text = format!("The passkey {} is added.", passkey.name);
            enrolled(&page, &person, &text).await
        }
        Err(error) => put_again(&mcias, &by, error, &question, page, &person).await,
    }
}

pub(super) async fn ask_removal(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    uri: Uri,
) -> Answer {
    let query = uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let id = pairs.find(|(name, _)| name == "id");
    let id = id.map_or_else(String::new, |(_, id)| id.into_owned());
    let passkey = find(&mcias, &page, &person, &id).await?;
    put(&removal(passkey), &page, &person)
}

pub(super) async fn remove(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let passkey = find(&mcias, &page, &person, &asked.id).await?;
    let by = by(&page, REMOVE, Some(&person))?;
    let text = format!("The passkey {} is removed.", passkey.name);
    let id = passkey.id.clone();
    match factors::remove_passkey(&mcias, &by, id, asked.password).await {
        Ok(()) => page.redirect(&all(), Some(Flash::success(text))).await,
        Err(error) => put_again(&mcias, &by, error, &removal(passkey), page, &person).await,
    }
}

/// One of his own.
async fn find(
    mcias: &Arc<Mcias>,
    page: &Page,
    person: &Person,
    id: &str,
) -> Result<Passkey, ErrorPage> {
    let by = by(page, REMOVE, Some(person))?;
    let factors = factors::factors(mcias, &by).await.map_err(failed)?;
    let mut passkeys = factors.passkeys.into_iter();
    passkeys
        .find(|passkey| passkey.id == id)
        .ok_or_else(ErrorPage::not_found)
}
