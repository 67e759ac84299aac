//! Recovery codes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mcdsl::web::{Form, Page};

use super::{Answer, Confirmed, Person, Question, by, put, put_again};
use crate::{core::Mcias, factors};

pub(super) const PATH: &str = "/factors/recovery-codes";

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct Codes {
    codes: Vec<String>,
}

fn question() -> Question {
    Question {
        title: "New recovery codes",
        path: PATH,
        text: "You get ten new ones, and those before are void.".to_owned(),
        button: "Make them",
        removes: false,
        id: String::new(),
        name: None,
    }
}

pub(super) async fn ask(page: Page, person: Person) -> Answer {
    put(&question(), &page, &person)
}

pub(super) async fn make(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let by = by(&page, PATH, Some(&person))?;
    match factors::new_recovery_codes(&mcias, &by, asked.password).await {
        Ok(codes) => page.render("Your recovery codes", &Codes { codes }),
        Err(error) => put_again(&mcias, &by, error, &question(), page, &person).await,
    }
}
