//! One rule of the login policy.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mc_proto::mcias::v1::Rule as Message;
use mcdsl::web::{CsrfField, ErrorPage, Form, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    Admin, Answer, again, and_ended,
    ask::{About, Act},
    attempt, done, lines,
    rules::LIST,
};
use crate::{core::Mcias, error::Error, pages::failed, policy};

/// Where one is made and changed.
pub(super) const EDIT: &str = "/admin/rule";

pub(super) const REMOVE: Act = Act {
    path: "/admin/rule/remove",
    title: "Remove the rule {}?",
    text: "From then on it decides nothing. Whoever no other rule lets in logs in no more, and the logins end.",
    button: "Remove the rule",
    back: EDIT,
    here: LIST,
};

/// A rule, as it was typed.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    /// The rule is to be made: one of its name is not to be replaced.
    new: Option<String>,
    name: String,
    effect: String,
    priority: String,
    roles: Vec<String>,
    account_types: Vec<String>,
    accounts: String,
    tags: String,
    services: String,
    service_tags: String,
    second_factor: Option<String>,
    comment: String,
    /// Everybody may log in everywhere.
    allow_everybody: Option<String>,
    /// It has to be said that they may.
    #[serde(skip)]
    ask: bool,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            new: None,
            name: String::new(),
            effect: "allow".to_owned(),
            priority: "0".to_owned(),
            roles: Vec::new(),
            account_types: Vec::new(),
            accounts: String::new(),
            tags: String::new(),
            services: String::new(),
            service_tags: String::new(),
            second_factor: None,
            comment: String::new(),
            allow_everybody: None,
            ask: false,
        }
    }
}

impl From<Message> for Typed {
    fn from(rule: Message) -> Self {
        let effect = if rule.deny { "deny" } else { "allow" };
        Self {
            new: None,
            name: rule.name,
            effect: effect.to_owned(),
            priority: rule.priority.to_string(),
            roles: rule.roles,
            account_types: rule.account_types,
            accounts: rule.accounts.join("\n"),
            tags: rule.tags.join("\n"),
            services: rule.services.join("\n"),
            service_tags: rule.service_tags.join("\n"),
            second_factor: rule.second_factor.then(String::new),
            comment: rule.comment,
            ..Self::default()
        }
    }
}

impl Typed {
    fn rule(&self) -> Result<Message, Error> {
        let priority = self.priority.trim().parse();
        Ok(Message {
            name: self.name.trim().to_owned(),
            priority: priority.map_err(|_| Error::invalid("priority: it is no whole number"))?,
            deny: match self.effect.as_str() {
                "allow" => false,
                "deny" => true,
                _ => return Err(Error::invalid("effect: it is neither allow nor deny")),
            },
            roles: self.roles.clone(),
            account_types: self.account_types.clone(),
            accounts: lines(&self.accounts),
            tags: lines(&self.tags),
            services: lines(&self.services),
            service_tags: lines(&self.service_tags),
            second_factor: self.second_factor.is_some(),
            comment: self.comment.trim().to_owned(),
        })
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }

    fn has_type(&self, name: &str) -> bool {
        self.account_types.iter().any(|has| has == name)
    }

    fn title(&self) -> String {
        match self.new {
            Some(_) => "New rule".to_owned(),
            None => format!("Rule {}", self.name),
        }
    }

    fn form(&self, page: &Page) -> RuleForm<'_> {
        RuleForm {
            csrf: page.csrf(),
            here: LIST,
            remove: REMOVE.link(&self.name, ""),
            form: self,
        }
    }
}

#[derive(Template)]
#[template(path = "admin/rule.html")]
struct RuleForm<'r> {
    csrf: CsrfField,
    here: &'static str,
    remove: String,
    form: &'r Typed,
}

/// Which one; nothing: a new one.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    name: String,
}

pub(super) async fn edit(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Query(which): Query<Which>,
) -> Answer {
    let form = if which.name.is_empty() {
        Typed {
            new: Some(String::new()),
            ..Typed::default()
        }
    } else {
        let read = |db: &Connection| policy::rules(db);
        let rules = mcias.store.read(read).await.map_err(failed)?;
        let found = rules
            .into_iter()
            .find(|stored| stored.rule.name == which.name);
        Typed::from(policy::message(found.ok_or_else(ErrorPage::not_found)?))
    };
    page.render(&form.title(), &form.form(&page))
}

pub(super) async fn save(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(mut form): Form<Typed>,
) -> Answer {
    let by = admin.by(&page, EDIT)?;
    let new = form.new.is_some();
    by.about(form.name.trim());
    let meant = form.allow_everybody.is_some();
    let saving = async { mcias.set_rule(&by, form.rule()?, new, meant).await };
    match attempt(&mcias, &by, saving).await {
        Ok((stored, ended)) => {
            let text = format!("The rule {} is in force.", stored.rule.name);
            done(&page, LIST, and_ended(text, ended)).await
        }
        Err(refusal) => {
            form.ask = refusal.unmeant;
            let (title, filled) = (form.title(), form.form(&page));
            again(page, &refusal, &title, &filled)
        }
    }
}

pub(super) async fn remove(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, REMOVE.path)?;
    let removing = mcias.delete_rule(&by, about.name.clone(), about.meant.is_some());
    match attempt(&mcias, &by, removing).await {
        Ok(ended) => {
            let text = format!("The rule {} is removed.", about.name);
            done(&page, LIST, and_ended(text, ended)).await
        }
        Err(refusal) => REMOVE.refused(page, &about, &refusal),
    }
}
