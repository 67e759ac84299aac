//! The login policy: its rules in the order in which they are asked, and what they say of somebody.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mc_proto::mcias::v1::Rule as Message;
use mcdsl::web::{Flash, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{Answer, lines, link, rule::EDIT};
use crate::{
    core::Mcias,
    error::Error,
    pages::{Refusal, failed, refusal::sentence},
    policy::{
        self,
        explain::{Explained, Why},
    },
    service,
};

/// Where they are.
pub(super) const LIST: &str = "/admin/rules";
/// Where one asks what they say.
pub(super) const EXPLAIN: &str = "/admin/explain";

#[derive(Template)]
#[template(path = "admin/rules.html")]
struct List {
    here: &'static str,
    rules: Vec<Row>,
}

struct Row {
    rule: Message,
    page: String,
    whom: String,
    what: String,
}

/// Whom it is about, in words.
fn whom(rule: &Message) -> String {
    let some = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let parts: Vec<String> = [
        some("role", &rule.roles),
        some("type", &rule.account_types),
        some("account", &rule.accounts),
        some("tagged", &rule.tags),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        "everybody".to_owned()
    } else {
        parts.join("; ")
    }
}

/// For which services it is, in words.
fn what(rule: &Message) -> String {
    let services = if rule.services.is_empty() {
        "all services".to_owned()
    } else {
        rule.services.join(", ")
    };
    if rule.service_tags.is_empty() {
        services
    } else {
        format!("{services}; tagged {}", rule.service_tags.join(", "))
    }
}

pub(super) async fn list(State(mcias): State<Arc<Mcias>>, page: Page) -> Answer {
    let read = |db: &Connection| policy::change::in_order(db);
    let rules = mcias.store.read(read).await.map_err(failed)?;
    let row = |stored| {
        let rule = policy::message(stored);
        Row {
            page: link(EDIT, &[("name", &rule.name)]),
            whom: whom(&rule),
            what: what(&rule),
            rule,
        }
    };
    let list = List {
        here: LIST,
        rules: rules.into_iter().map(row).collect(),
    };
    page.render("Login policy", &list)
}

/// What is asked of the policy, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    account: String,
    service: String,
    tags: String,
}

#[derive(Template)]
#[template(path = "admin/explain.html")]
struct Explain {
    here: &'static str,
    question: Question,
    services: Vec<String>,
    verdict: Option<Said>,
}

/// What the policy says.
struct Said {
    explained: Explained,
    /// Sentences: the reason first.
    texts: Vec<String>,
}

impl Said {
    fn page(why: &Why) -> String {
        link(EDIT, &[("name", why.rule.rule.as_str())])
    }
}

impl From<Explained> for Said {
    fn from(explained: Explained) -> Self {
        let first = explained.first.iter();
        let first = first.map(|what| format!("first it has to {what}"));
        let all = [explained.reason.clone()].into_iter().chain(first);
        let all = all.chain(explained.notes.iter().cloned());
        Self {
            texts: all.map(|text| sentence(&text, None)).collect(),
            explained,
        }
    }
}

pub(super) async fn explain(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Query(question): Query<Question>,
) -> Answer {
    let read = |db: &Connection| Ok::<_, Error>(service::list(db)?);
    let services = mcias.store.read(read).await.map_err(failed)?;
    let asked = !question.account.trim().is_empty() && !question.service.is_empty();
    let verdict = if asked {
        let account = question.account.trim().to_owned();
        let service = question.service.clone();
        let explaining = mcias.explain(account, service, lines(&question.tags));
        Some(explaining.await.map_err(Refusal::from))
    } else {
        None
    };
    let (said, refusal) = match verdict.transpose() {
        Ok(explained) => (explained.map(Said::from), None),
        Err(refusal) => (None, Some(refusal)),
    };
    let explain = Explain {
        here: EXPLAIN,
        question,
        services: services.into_iter().map(|service| service.name).collect(),
        verdict: said,
    };
    let Some(refusal) = refusal else {
        return page.render("Who may log in where", &explain);
    };
    let page = page.with(Flash::error(refusal.text.clone()));
    Ok(refusal.with(page.render("Who may log in where", &explain)?))
}
