//! Who is logged in.

use askama::Template;
use axum::response::Response;
use mcdsl::web::{ErrorPage, LocalPath, Page};

use super::{PASSWORD, Person};

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    person: &'a Person,
    roles: String,
    methods: String,
}

pub(super) async fn show(page: Page, person: Person) -> Result<Response, ErrorPage> {
    if person.account.password_expired {
        return page.redirect(&to_password(), None).await;
    }
    let roles = person.account.roles.join(", ");
    let methods = methods(&person.login.methods);
    let home = Home {
        person: &person,
        roles,
        methods,
    };
    page.render("Your account", &home)
}

fn to_password() -> LocalPath {
    LocalPath::or_home(Some(PASSWORD))
}

/// How somebody logged in, in words (RFC 8176).
pub(super) fn methods(names: &[String]) -> String {
    let words = names.iter().filter_map(|name| match name.as_str() {
        "pwd" => Some("password"),
        "otp" => Some("code"),
        // It says that there were two, which one sees.
        "mfa" => None,
        "hwk" | "swk" | "pop" => Some("passkey"),
        other => Some(other),
    });
    words.collect::<Vec<_>>().join(" and ")
}
