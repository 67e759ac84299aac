//! Asking before a program on somebody's machine is logged in as him: whatever listens there may pretend to be it (RFC 8252 §8.6), so
//! that a code is given for the person's click alone.
//!
//! What was shown is sealed into the form: the answer is good for this request, of this login of this account, and for a while. Shown twice it
//! gives a second code for the same program, which alone has the verifier of either.

use std::time::Duration;

use askama::Template;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mcdsl::{
    clock::SKEW,
    web::{CsrfField, Page},
};
use serde::Deserialize;

use super::CONSENT;
use crate::{
    core::Mcias,
    error::Error,
    pages::{Answer, Person, failed},
    random::{hash, hex},
    time::unix,
};

/// For the person to answer.
const LIFETIME: Duration = Duration::from_secs(300);

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
    /// What was shown.
    #[serde(default)]
    shown: String,
}

impl Said {
    /// What the person said to `query`; `None`: he was not asked that, or too long ago.
    pub(super) fn consent(&self, mcias: &Mcias, person: &Person, query: &str) -> Option<Consent> {
        let said = match self.refuse {
            Some(_) => Consent::Refused,
            None => Consent::Given,
        };
        is_open(mcias, person, query, &self.shown).then_some(said)
    }
}

/// What is asked of whom, for the seal: nothing of it is in the form, so that nothing has to be compared.
fn asked(person: &Person, query: &str) -> String {
    let asked = hash(&[&person.account.id, &person.login.id, query]);
    format!("consent/{}", hex(&asked))
}

/// Until when an answer is good, sealed.
fn seal(mcias: &Mcias, person: &Person, query: &str) -> Result<String, Error> {
    let until = unix(mcias.now() + LIFETIME).to_be_bytes();
    let sealed = mcias.passing.seal(&asked(person, query), &until)?;
    Ok(BASE64.encode(sealed))
}

fn is_open(mcias: &Mcias, person: &Person, query: &str, shown: &str) -> bool {
    let until = || {
        let sealed = BASE64.decode(shown).ok()?;
        let until = mcias.passing.open(&asked(person, query), &sealed).ok()?;
        Some(i64::from_be_bytes(until.as_slice().try_into().ok()?))
    };
    // What is good for longer was sealed while the clock was ahead.
    let latest = unix(mcias.now() + LIFETIME + SKEW);
    until().is_some_and(|until| until > unix(mcias.now()) && until <= latest)
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Question<'q> {
    csrf: CsrfField,
    action: &'static str,
    query: &'q str,
    client: &'q str,
    account: &'q str,
    shown: String,
}

/// Asks; the answer comes with `query`, the request for authorization, and leads to `redirect_uri`.
pub(super) fn ask(
    mcias: &Mcias,
    page: Page,
    person: &Person,
    client: &str,
    query: &str,
    redirect_uri: &str,
) -> Answer {
    let question = Question {
        csrf: page.csrf(),
        action: CONSENT,
        query,
        client,
        account: &person.account.name,
        shown: seal(mcias, person, query).map_err(failed)?,
    };
    let page = page.clone().with_form_action(redirect_uri).unwrap_or(page);
    page.render(&format!("Log in to {client}?"), &question)
}
