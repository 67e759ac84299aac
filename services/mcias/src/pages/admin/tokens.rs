//! Tokens of system accounts.

use std::{sync::Arc, time::SystemTime};

use axum::extract::State;
use mcdsl::web::{Form, Page};
use serde::Deserialize;

use super::{
    Admin, Answer, Secret,
    account::{Filled, PAGE, refused},
    accounts::LIST,
    ask::{About, Act},
    attempt, done, lines, link, moment, when,
};
use crate::{
    account::tokens::{self, DAYS, MAX_DAYS, Token},
    core::Mcias,
    error::Error,
    token::Issued,
};

/// Where one is issued.
pub(super) const ISSUE: &str = "/admin/token/issue";

pub(super) const ROTATE: Act = Act {
    path: "/admin/token/rotate",
    title: "Replace a token of {}?",
    text: "A new token for the same services and as long is issued and shown to you once. The old one is refused from then on: \
           what uses it has to be given the new one.",
    button: "Replace the token",
    back: PAGE,
    here: LIST,
};
pub(super) const REVOKE: Act = Act {
    path: "/admin/token/revoke",
    title: "Revoke a token of {}?",
    text: "The token is refused from then on, and cannot be brought back.",
    button: "Revoke the token",
    back: PAGE,
    here: LIST,
};

/// A token that is asked for, as it was typed.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct NewToken {
    name: String,
    pub(super) services: String,
    pub(super) days: String,
    pub(super) comment: String,
}

impl Default for NewToken {
    fn default() -> Self {
        Self {
            name: String::new(),
            services: crate::SERVICE.to_owned(),
            days: DAYS.to_string(),
            comment: String::new(),
        }
    }
}

impl NewToken {
    fn asked(&self) -> Result<tokens::NewToken, Error> {
        let days: Option<u32> = self.days.trim().parse().ok();
        let days = days.filter(|days| (1..=MAX_DAYS).contains(days));
        Ok(tokens::NewToken {
            name: self.name.clone(),
            services: lines(&self.services),
            days: days.ok_or_else(|| {
                Error::invalid(format!("days: they are no number from 1 to {MAX_DAYS}"))
            })?,
            comment: self.comment.trim().to_owned(),
        })
    }
}

/// A token on the page of its account.
pub(super) struct TokenRow {
    pub(super) id: String,
    pub(super) services: String,
    pub(super) comment: String,
    pub(super) issued: String,
    pub(super) expires: String,
    pub(super) state: &'static str,
    /// Where it is replaced and revoked, while it is valid.
    pub(super) acts: Option<(String, String)>,
}

/// Those of an account.
pub(super) fn token_rows(account: &str, issued: Vec<Token>, now: SystemTime) -> Vec<TokenRow> {
    let row = |token: Token| {
        let state = match token.revoked {
            true => "revoked",
            false if token.expires <= now => "expired",
            false => "valid",
        };
        let acts = || {
            (
                ROTATE.link(account, &token.id),
                REVOKE.link(account, &token.id),
            )
        };
        TokenRow {
            acts: (state == "valid").then(acts),
            services: token.services.join(", "),
            issued: moment(token.issued),
            expires: when(token.expires, now),
            comment: token.comment,
            id: token.id,
            state,
        }
    };
    issued.into_iter().map(row).collect()
}

fn shown(page: &Page, name: &str, issued: &Issued) -> Answer {
    let secret = Secret {
        here: LIST,
        what: "Token",
        value: &issued.token,
        text: format!(
            "The token of {name}, valid until {}. Its id is {}.",
            moment(issued.expires),
            issued.id
        ),
        to: link(PAGE, &[("name", name)]),
        then: format!("Back to {name}"),
    };
    page.render("The token is issued", &secret)
}

pub(super) async fn issue(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(form): Form<NewToken>,
) -> Answer {
    let by = admin.by(&page, ISSUE)?;
    let issuing = async { mcias.issue_token(&by, form.asked()?).await };
    let issued = attempt(&mcias, &by, issuing).await;
    let name = form.name.clone();
    match issued {
        Ok(issued) => shown(&page, &name, &issued),
        Err(refusal) => {
            let filled = Filled {
                token: Some(form),
                ..Filled::default()
            };
            refused(&mcias, page, &admin, name, filled, &refusal).await
        }
    }
}

pub(super) async fn rotate(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, ROTATE.path)?;
    let rotating = mcias.rotate_token(&by, about.name.clone(), about.id.clone());
    match attempt(&mcias, &by, rotating).await {
        Ok(issued) => shown(&page, &about.name, &issued),
        Err(refusal) => ROTATE.refused(page, &about, &refusal),
    }
}

pub(super) async fn revoke(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, REVOKE.path)?;
    let revoking = mcias.revoke_token(&by, about.id.clone());
    match attempt(&mcias, &by, revoking).await {
        Ok(()) => {
            let to = link(PAGE, &[("name", &about.name)]);
            done(&page, &to, "The token is revoked.").await
        }
        Err(refusal) => REVOKE.refused(page, &about, &refusal),
    }
}
