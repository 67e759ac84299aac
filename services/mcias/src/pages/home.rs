//! Who is logged in.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mcdsl::web::{LocalPath, Page};

use super::{Answer, FACTORS, PASSWORD, Person, devices::News, failed};
use crate::core::Mcias;

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    person: &'a Person,
    roles: String,
    methods: String,
    news: News,
}

pub(super) async fn show(State(mcias): State<Arc<Mcias>>, page: Page, person: Person) -> Answer {
    let first = match (person.standing.expired, person.standing.enrol) {
        (true, _) => Some(PASSWORD),
        (false, true) => Some(FACTORS),
        (false, false) => None,
    };
    if first.is_some() {
        return page.redirect(&LocalPath::or_home(first), None).await;
    }
    let home = LocalPath::home();
    let news = News::of(&mcias, &page, &person, &home).await;
    let news = news.map_err(failed)?;
    let roles = person.account.roles.join(", ");
    let methods = methods(&person.login.methods);
    let home = Home {
        person: &person,
        roles,
        methods,
        news,
    };
    page.render("Your account", &home)
}

/// How somebody logged in, in words (RFC 8176).
pub(super) fn methods(names: &[String]) -> String {
    let words = names.iter().filter_map(|name| match name.as_str() {
        "pwd" => Some("password"),
        "otp" => Some("code"),
        // They say that there were two, which one sees, and that a passkey knew its user.
        "mfa" | "user" => None,
        "hwk" | "swk" | "pop" => Some("passkey"),
        other => Some(other),
    });
    words.collect::<Vec<_>>().join(" and ")
}
