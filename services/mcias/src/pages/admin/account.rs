//! One account: what it is, has and may, and what is done to it.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode};
use mcdsl::web::{CsrfField, Flash, Form, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    Admin, Answer, Refusal, Secret,
    accounts::LIST,
    and_ended,
    ask::{About, Act},
    attempt, done,
    failures::{self, CLEAR_FAILURES},
    lines, link, moment,
    tokens::{ISSUE, NewToken, TokenRow, token_rows},
    when,
};
use crate::{
    account::{self, Account, Status, change::Update, contact::Contact, tokens},
    core::Mcias,
    error::Error,
    gate,
    pages::{failed, home::methods},
    session::{self, Session},
    shown,
    time::at,
};

/// Where one is.
pub(super) const PAGE: &str = "/admin/account";
/// Where it is changed.
pub(super) const CHANGE: &str = "/admin/account/change";

pub(super) const REMOVE: Act = Act {
    path: "/admin/account/remove",
    title: "Remove {}?",
    text: "The account, its logins, tokens and second factors are gone at once, and cannot be brought back. \
           To keep it from logging in, disable it instead.",
    button: "Remove the account",
    back: PAGE,
    here: LIST,
};
pub(super) const RESET: Act = Act {
    path: "/admin/account/reset-password",
    title: "Reset the password of {}?",
    text: "The account gets a new password, which is shown to you once and has to be changed at the next login. \
           All its logins end, and a locked account is active again.",
    button: "Reset the password",
    back: PAGE,
    here: LIST,
};
pub(super) const CLEAR: Act = Act {
    path: "/admin/account/clear-second-factors",
    title: "Take the second factors of {} away?",
    text: "For somebody who has lost them: authenticator app, passkeys and recovery codes are removed, and all logins end.",
    button: "Take them away",
    back: PAGE,
    here: LIST,
};
pub(super) const END: Act = Act {
    path: "/admin/account/end-logins",
    title: "End all logins and tokens of {}?",
    text: "They end at once, those of services that it logged in to included.",
    button: "End them",
    back: PAGE,
    here: LIST,
};

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// What may be changed, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Changed {
    name: String,
    display_name: String,
    email: String,
    status: String,
    roles: Vec<String>,
    tags: String,
    second_factor_required: Option<String>,
    /// The tokens of a system account may go.
    sure: Option<String>,
    /// It has to be said that they may.
    #[serde(skip)]
    ask: bool,
}

impl Changed {
    fn of(account: &Account) -> Self {
        Self {
            name: account.name.clone(),
            display_name: account.display_name.clone(),
            email: account.email.clone(),
            status: account.status.as_str().to_owned(),
            roles: account.roles.clone(),
            tags: account.tags.join("\n"),
            second_factor_required: account.second_factor_required.then(String::new),
            ..Self::default()
        }
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }

    fn asked(&self, human: bool) -> Result<Update, Error> {
        let status = Status::ALL.into_iter().find(|s| s.as_str() == self.status);
        let status = status
            .ok_or_else(|| Error::invalid("status: it is none of active, disabled and locked"))?;
        Ok(Update {
            name: self.name.clone(),
            contact: Contact {
                display_name: human.then(|| self.display_name.clone()),
                email: human.then(|| self.email.clone()),
            },
            status: Some(status),
            roles: Some(self.roles.clone()),
            tags: Some(lines(&self.tags)),
            second_factor_required: human.then_some(self.second_factor_required.is_some()),
        })
    }
}

#[derive(Template)]
#[template(path = "admin/account.html")]
struct One {
    csrf: CsrfField,
    here: &'static str,
    account: Account,
    created: String,
    last_login: String,
    failed_logins: Vec<String>,
    form: Changed,
    logins: Vec<Login>,
    tokens: Vec<TokenRow>,
    new: NewToken,
}

struct Login {
    service: String,
    source: String,
    device: String,
    methods: String,
    created: String,
    used: String,
    current: bool,
}

impl One {
    fn ask(&self, act: &Act) -> String {
        act.link(&self.account.name, "")
    }
}

/// What of the forms on the page was filled in.
#[derive(Default)]
pub(super) struct Filled {
    pub(super) change: Option<Changed>,
    pub(super) token: Option<NewToken>,
}

/// The page of an account.
pub(super) async fn render(
    mcias: &Arc<Mcias>,
    page: &Page,
    admin: &Admin,
    name: String,
    filled: Filled,
) -> Answer {
    let now = mcias.now();
    let read = move |db: &Connection| {
        let account = account::named(db, &name)?;
        let logins = session::sessions(db, &account.id, now)?;
        let tokens = tokens::list(db, &account.id)?;
        let failed = gate::failures(db, &account.name, now)?;
        Ok::<_, Error>((account, logins, tokens, failed))
    };
    let (account, logins, issued, failed) = mcias.store.read(read).await.map_err(failed)?;
    let row = |login: Session| Login {
        current: login.id == admin.login(),
        methods: methods(&login.methods),
        created: when(at(login.created), now),
        used: when(at(login.used), now),
        service: login.service,
        source: login.source,
        device: shown::device(&login.device),
    };
    let title = account.name.clone();
    let one = One {
        csrf: page.csrf(),
        here: LIST,
        created: moment(account.created),
        last_login: account.last_login.map_or("never".to_owned(), moment),
        failed_logins: failed.iter().map(|f| failures::line(f, now)).collect(),
        form: filled.change.unwrap_or_else(|| Changed::of(&account)),
        logins: logins.into_iter().map(row).collect(),
        tokens: token_rows(&account.name, issued, now),
        new: filled.token.unwrap_or_default(),
        account,
    };
    page.render(&title, &one)
}

pub(super) async fn show(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Query(asked): Query<Named>,
) -> Answer {
    render(&mcias, &page, &admin, asked.name, Filled::default()).await
}

pub(super) async fn change(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(form): Form<Changed>,
) -> Answer {
    let by = admin.by(&page, CHANGE)?;
    if costs_tokens(&mcias, &form).await.map_err(failed)? {
        let text = "Nothing is changed yet: all tokens of this account would be void.";
        let filled = Filled {
            change: Some(Changed { ask: true, ..form }),
            ..Filled::default()
        };
        let page = page.with(Flash::error(text));
        let name = filled.change.as_ref().map(|form| form.name.clone());
        let mut answer = render(&mcias, &page, &admin, name.unwrap_or_default(), filled).await?;
        *answer.status_mut() = StatusCode::CONFLICT;
        return Ok(answer);
    }
    let changing = async {
        let name = form.name.clone();
        let read = move |db: &Connection| account::named(db, &name);
        let account = mcias.store.read(read).await?;
        mcias
            .update_account(&by, form.asked(account.is_human())?)
            .await
    };
    let name = form.name.clone();
    match attempt(&mcias, &by, changing).await {
        Ok((_, ended)) => {
            let text = and_ended("Changed.".to_owned(), ended);
            done(&page, &link(PAGE, &[("name", &name)]), text).await
        }
        Err(refusal) => {
            let filled = Filled {
                change: Some(form),
                ..Filled::default()
            };
            refused(&mcias, page, &admin, name, filled, &refusal).await
        }
    }
}

/// Whether a change would cost a system account tokens, and nobody said that it may: people log in again, programs do not.
async fn costs_tokens(mcias: &Arc<Mcias>, form: &Changed) -> Result<bool, Error> {
    if form.sure.is_some() {
        return Ok(false);
    }
    let (name, now) = (form.name.clone(), mcias.now());
    let read = move |db: &Connection| {
        let Some(account) = account::by_name(db, &name)?.filter(|account| !account.is_human())
        else {
            return Ok(None);
        };
        let mut tokens = tokens::list(db, &account.id)?.into_iter();
        let valid = tokens.any(|token| !token.revoked && token.expires > now);
        Ok::<_, Error>(valid.then_some(account))
    };
    let Some(account) = mcias.store.read(read).await? else {
        return Ok(false);
    };
    // What is wrong in it is told when it is done.
    Ok(form.asked(false).is_ok_and(|asked| asked.revokes(&account)))
}

/// The account's page again, with what was typed and why it was refused.
pub(super) async fn refused(
    mcias: &Arc<Mcias>,
    page: Page,
    admin: &Admin,
    name: String,
    filled: Filled,
    refusal: &Refusal,
) -> Answer {
    let page = page.with(Flash::error(refusal.text.clone()));
    Ok(refusal.with(render(mcias, &page, admin, name, filled).await?))
}

pub(super) async fn remove(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, REMOVE.path)?;
    let removing = mcias.delete_account(&by, about.name.clone());
    match attempt(&mcias, &by, removing).await {
        Ok(()) => done(&page, LIST, format!("{} is removed.", about.name)).await,
        Err(refusal) => REMOVE.refused(page, &about, &refusal),
    }
}

pub(super) async fn reset_password(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, RESET.path)?;
    let resetting = mcias.reset_password(&by, about.name.clone());
    match attempt(&mcias, &by, resetting).await {
        Ok(password) => {
            let secret = Secret {
                here: LIST,
                what: "Password",
                value: &password,
                text: format!(
                    "The new password of {}. It has to be changed at the next login.",
                    about.name
                ),
                to: link(PAGE, &[("name", &about.name)]),
                then: format!("Back to {}", about.name),
            };
            page.render("The password is reset", &secret)
        }
        Err(refusal) => RESET.refused(page, &about, &refusal),
    }
}

pub(super) async fn clear_second_factors(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, CLEAR.path)?;
    let clearing = mcias.clear_second_factors(&by, about.name.clone());
    match attempt(&mcias, &by, clearing).await {
        Ok(()) => {
            let to = link(PAGE, &[("name", &about.name)]);
            done(&page, &to, "The second factors are gone.").await
        }
        Err(refusal) => CLEAR.refused(page, &about, &refusal),
    }
}

pub(super) async fn end_logins(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, END.path)?;
    let ending = mcias.end_logins(&by, about.name.clone(), None);
    match attempt(&mcias, &by, ending).await {
        Ok(()) => {
            let to = link(PAGE, &[("name", &about.name)]);
            done(&page, &to, "All logins have ended.").await
        }
        Err(refusal) => END.refused(page, &about, &refusal),
    }
}
