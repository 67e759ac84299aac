//! The list of accounts, and new ones.

use std::{sync::Arc, time::SystemTime};

use askama::Template;
use axum::extract::State;
use mc_proto::AccountType;
use mcdsl::web::{CsrfField, Form, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{Admin, Answer, ROWS, Secret, account::PAGE, again, attempt, done, lines, link, when};
use crate::{
    account::{self, Account, Find, Status, change::NewAccount, contact::Contact},
    core::Mcias,
    error::Error,
    name::Role,
    pages::failed,
};

/// Where they are.
pub(super) const LIST: &str = "/admin/accounts";
/// Where one is made.
pub(super) const NEW: &str = "/admin/accounts/new";

/// What of accounts is looked for, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    name: String,
    status: String,
    role: String,
    after: String,
}

#[derive(Template)]
#[template(path = "admin/accounts.html")]
struct List {
    here: &'static str,
    search: Search,
    accounts: Vec<Row>,
    /// From the first again.
    first: Option<String>,
    next: Option<String>,
}

struct Row {
    account: Account,
    page: String,
    last_login: String,
}

pub(super) async fn list(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Query(search): Query<Search>,
) -> Answer {
    let find = Find {
        part: search.name.trim().to_ascii_lowercase(),
        status: Status::ALL
            .into_iter()
            .find(|s| s.as_str() == search.status),
        role: search.role.parse::<Role>().ok(),
        after: search.after.clone(),
        limit: ROWS,
        ..Find::default()
    };
    let read = move |db: &Connection| Ok::<_, Error>(account::list(db, &find)?);
    let (accounts, more) = mcias.store.read(read).await.map_err(failed)?;
    let to = |after: &str| {
        let Search {
            name, status, role, ..
        } = &search;
        let query = [
            ("name", name.as_str()),
            ("status", status),
            ("role", role),
            ("after", after),
        ];
        link(LIST, &query)
    };
    let last = accounts.last().filter(|_| more);
    let list = List {
        here: LIST,
        next: last.map(|account| to(&account.name)),
        first: Some(to("")).filter(|_| !search.after.is_empty()),
        accounts: accounts
            .into_iter()
            .map(|account| Row::new(account, mcias.now()))
            .collect(),
        search,
    };
    page.render("Accounts", &list)
}

impl Row {
    fn new(account: Account, now: SystemTime) -> Self {
        Self {
            page: link(PAGE, &[("name", &account.name)]),
            last_login: account
                .last_login
                .map_or("never".to_owned(), |time| when(time, now)),
            account,
        }
    }
}

/// A new account, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct New {
    name: String,
    display_name: String,
    email: String,
    account_type: String,
    roles: Vec<String>,
    tags: String,
    second_factor_required: Option<String>,
}

#[derive(Template)]
#[template(path = "admin/new_account.html")]
struct NewForm<'n> {
    csrf: CsrfField,
    here: &'static str,
    form: &'n New,
}

impl New {
    fn is_system(&self) -> bool {
        self.account_type == "system"
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }

    fn form(&self, page: &Page) -> NewForm<'_> {
        NewForm {
            csrf: page.csrf(),
            here: LIST,
            form: self,
        }
    }
}

const TITLE: &str = "New account";

pub(super) async fn new(page: Page) -> Answer {
    let form = New {
        roles: vec![Role::User.as_str().to_owned()],
        ..New::default()
    };
    page.render(TITLE, &form.form(&page))
}

pub(super) async fn make(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(form): Form<New>,
) -> Answer {
    let by = admin.by(&page, NEW)?;
    let asked = NewAccount {
        name: form.name.trim().to_owned(),
        contact: Contact {
            display_name: Some(form.display_name.clone()),
            email: Some(form.email.clone()),
        },
        account_type: if form.is_system() {
            AccountType::System
        } else {
            AccountType::Human
        },
        roles: form.roles.clone(),
        tags: lines(&form.tags),
        second_factor_required: form.second_factor_required.is_some(),
        password: String::new(),
    };
    let (made, password) = match attempt(&mcias, &by, mcias.create_account(&by, asked)).await {
        Ok(made) => made,
        Err(refusal) => {
            let filled = form.form(&page);
            return again(page, &refusal, TITLE, &filled);
        }
    };
    let to = link(PAGE, &[("name", &made.name)]);
    let Some(password) = password else {
        return done(&page, &to, "The account is there. Issue it a token next.").await;
    };
    let secret = Secret {
        here: LIST,
        what: "Password",
        value: &password,
        text: format!(
            "The first password of {}. It has to be changed at the first login.",
            made.name
        ),
        to,
        then: format!("Go on to {}", made.name),
    };
    page.render("The account is there", &secret)
}
