//! Recovery codes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mcdsl::web::{Form, LocalPath, Page};

use super::{Answer, Confirmed, Person, Question, by, onward, put, put_again};
use crate::{core::Mcias, factors};

pub(super) const PATH: &str = "/factors/recovery-codes";

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct Codes {
    codes: Vec<String>,
    /// Where it goes on to.
    next: LocalPath,
}

fn question(person: &Person) -> Question {
    let text = match person.account.recovery_codes {
        0 => "Each replaces your second factor once, should you lose it. You get ten.",
        _ => "You get ten new ones, and those before are void.",
    };
    Question {
        title: "New recovery codes",
        path: PATH,
        text: text.to_owned(),
        button: "Make them",
        removes: false,
        id: String::new(),
        name: None,
    }
}

pub(super) async fn ask(page: Page, person: Person) -> Answer {
    put(&question(&person), &page, &person)
}

pub(super) async fn make(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Confirmed>,
) -> Answer {
    let by = by(&page, PATH, Some(&person))?;
    match factors::new_recovery_codes(&mcias, &by, asked.password).await {
        Ok(codes) => {
            let next = onward(&page);
            page.render("Your recovery codes", &Codes { codes, next })
        }
        Err(error) => put_again(&mcias, &by, error, &question(&person), page, &person).await,
    }
}
