//! Changing the password.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode};
use mc_proto::mcias::v1::ChangePasswordRequest;
use mcdsl::web::{CsrfField, Flash, Form, LocalPath, Page};
use serde::Deserialize;

use super::{Answer, FACTORS, PASSWORD, Person, by, leading_on, login, refused, then};
use crate::{core::Mcias, factors::change_password};

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordForm<'a> {
    csrf: CsrfField,
    next: &'a str,
    /// For the browser's password manager.
    account: &'a str,
    expired: bool,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    old_password: String,
    new_password: String,
    repeated: String,
}

pub(super) async fn show(State(mcias): State<Arc<Mcias>>, page: Page, person: Person) -> Answer {
    let next = page.next();
    form(&mcias, page, &person, &next).await
}

async fn form(mcias: &Arc<Mcias>, page: Page, person: &Person, next: &LocalPath) -> Answer {
    let page = leading_on(mcias, page, next).await?;
    let form = PasswordForm {
        csrf: page.csrf(),
        next: next.as_str(),
        account: &person.account.name,
        expired: person.account.password_expired,
    };
    page.render("Change your password", &form)
}

pub(super) async fn change(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    person: Person,
    Form(asked): Form<Asked>,
) -> Answer {
    let next = page.next();
    let by = by(&page, PASSWORD, Some(&person))?;
    if asked.new_password != asked.repeated {
        let page = page.with(Flash::error("The new password was not repeated as it is."));
        let mut answer = form(&mcias, page, &person, &next).await?;
        *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        return Ok(answer);
    }
    let request = ChangePasswordRequest {
        old_password: asked.old_password,
        new_password: asked.new_password,
    };
    match change_password(&mcias, &by, request).await {
        Ok(_) => {
            let text = "The password is changed. Everywhere else you are logged out.";
            let mut person = person;
            person.standing.expired = false;
            let to = if person.standing.enrol {
                then(FACTORS, next.as_str())
            } else {
                next
            };
            // Under a new cookie: a copy of the one before is of whoever had the old password.
            login::anew(&page, &person, &to, Flash::success(text)).await
        }
        Err(error) => {
            let refusal = refused(&mcias, &by, error).await?;
            let page = page.with(Flash::error(refusal.text.clone()));
            Ok(refusal.with(form(&mcias, page, &person, &next).await?))
        }
    }
}
