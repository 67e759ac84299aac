//! Asking before a program on somebody's machine is logged in as him: whatever listens there may pretend to be it (RFC 8252 §8.6), so
//! that a code is given for the person's click alone.

use askama::Template;
use mcdsl::web::{CsrfField, Page};
use serde::Deserialize;

use super::CONSENT;
use crate::pages::Answer;

/// What the person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// He was not asked yet.
    Unasked,
    Given,
    Refused,
}

/// What the question's form sends.
#[derive(Deserialize)]
pub(super) struct Said {
    refuse: Option<String>,
}

impl Said {
    pub(super) fn consent(&self) -> Consent {
        match self.refuse {
            Some(_) => Consent::Refused,
            None => Consent::Given,
        }
    }
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Question<'q> {
    csrf: CsrfField,
    action: &'static str,
    query: &'q str,
    client: &'q str,
    account: &'q str,
}

/// Asks; the answer comes with `query`, the request for authorization, and leads to `redirect_uri`.
pub(super) fn ask(
    page: Page,
    client: &str,
    account: &str,
    query: &str,
    redirect_uri: &str,
) -> Answer {
    let question = Question {
        csrf: page.csrf(),
        action: CONSENT,
        query,
        client,
        account,
    };
    let page = page.clone().with_form_action(redirect_uri).unwrap_or(page);
    page.render(&format!("Log in to {client}?"), &question)
}
