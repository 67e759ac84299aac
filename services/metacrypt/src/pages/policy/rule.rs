//! One rule.

use askama::Template;
use mc_proto::metacrypt::v1::{CreateRuleRequest, DeleteRuleRequest, Rule};
use mcdsl::web::{CsrfField, ErrorPage, Form, Query};
use serde::Deserialize;
use tonic::Status;

use super::{DELETE, LIST, RULE, tabs};
use crate::{
    engine,
    pages::{
        Answer, Visitor,
        ask::Ask,
        refusal,
        shown::{Tabs, link, names},
    },
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
    anyone: Option<String>,
    roles: Vec<String>,
    account_types: Vec<String>,
    accounts: String,
    tags: String,
    actions: String,
    resources: String,
    comment: String,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            new: None,
            name: String::new(),
            effect: "allow".to_owned(),
            priority: "0".to_owned(),
            anyone: None,
            roles: Vec::new(),
            account_types: Vec::new(),
            accounts: String::new(),
            tags: String::new(),
            actions: String::new(),
            resources: String::new(),
            comment: String::new(),
        }
    }
}

impl From<Rule> for Typed {
    fn from(rule: Rule) -> Self {
        Self {
            new: None,
            name: rule.name,
            effect: if rule.deny { "deny" } else { "allow" }.to_owned(),
            priority: rule.priority.to_string(),
            anyone: rule.anyone.then(String::new),
            roles: rule.roles,
            account_types: rule.account_types,
            accounts: rule.accounts.join("\n"),
            tags: rule.tags.join("\n"),
            actions: rule.actions.join("\n"),
            resources: rule.resources.join("\n"),
            comment: rule.comment,
        }
    }
}

impl Typed {
    fn rule(&self) -> Result<Rule, Status> {
        let priority = self.priority.trim().parse();
        Ok(Rule {
            name: self.name.trim().to_owned(),
            priority: priority.map_err(|_| {
                Status::invalid_argument("priority: write a whole number, like 0 or -10")
            })?,
            deny: match &*self.effect {
                "allow" => false,
                "deny" => true,
                _ => return Err(Status::invalid_argument("effect: choose allow or deny")),
            },
            anyone: self.anyone.is_some(),
            roles: self.roles.clone(),
            account_types: self.account_types.clone(),
            accounts: names(&self.accounts),
            tags: names(&self.tags),
            actions: names(&self.actions),
            resources: names(&self.resources),
            comment: self.comment.trim().to_owned(),
        })
    }

    fn title(&self) -> String {
        match self.new {
            Some(_) => "New rule".to_owned(),
            None => format!("Rule {}", self.name),
        }
    }

    fn has(list: &[String], word: &str) -> bool {
        list.iter().any(|has| has == word)
    }
}

#[derive(Template)]
#[template(path = "policy/rule.html")]
struct RuleForm<'r> {
    csrf: CsrfField,
    tabs: Tabs,
    form: &'r Typed,
    remove: String,
    /// All actions that there are.
    actions: Vec<&'static str>,
}

fn form<'r>(visitor: &Visitor, form: &'r Typed) -> RuleForm<'r> {
    RuleForm {
        csrf: visitor.csrf(),
        tabs: tabs(LIST),
        remove: link(DELETE, &[("name", &form.name)]),
        actions: engine::actions().map(|action| action.0).collect(),
        form,
    }
}

/// Which one; nothing: a new one.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    name: String,
}

pub(super) async fn edit(visitor: Visitor, Query(which): Query<Which>) -> Answer {
    let rules = super::rules(&visitor).await?.rules;
    let typed = match &*which.name {
        "" => Typed {
            new: Some(String::new()),
            ..Typed::default()
        },
        name => {
            let found = rules.into_iter().find(|rule| rule.name == name);
            Typed::from(found.ok_or_else(ErrorPage::not_found)?)
        }
    };
    visitor.page.render(&typed.title(), &form(&visitor, &typed))
}

pub(super) async fn save(visitor: Visitor, Form(typed): Form<Typed>) -> Answer {
    let saved = match typed.rule() {
        Ok(rule) => {
            let request = CreateRuleRequest {
                rule: Some(rule),
                replace: typed.new.is_none(),
            };
            visitor.system()?.create_rule(request).await
        }
        Err(wrong) => Err(wrong),
    };
    match saved {
        Ok(rule) => {
            let text = format!("The rule {} is in force.", rule.get_ref().name);
            visitor.done(LIST, text).await
        }
        Err(refused) => {
            let content = form(&visitor, &typed);
            refusal::again(visitor.page.clone(), refused, &typed.title(), &content)
        }
    }
}

fn question(visitor: &Visitor, name: &str) -> Ask {
    let text = "From then on it decides nothing: what it allows, nobody may for it any more; what it denies, others may be allowed.";
    let back = link(RULE, &[("name", name)]);
    Ask {
        fields: vec![("name", name.to_owned())],
        ..Ask::new(visitor, text, DELETE.to_owned(), "Remove the rule", back)
    }
}

fn title(name: &str) -> String {
    format!("Remove the rule {name}?")
}

pub(super) async fn ask(visitor: Visitor, Query(which): Query<Which>) -> Answer {
    question(&visitor, &which.name).show(&visitor, &title(&which.name))
}

pub(super) async fn delete(visitor: Visitor, Form(which): Form<Which>) -> Answer {
    let name = which.name;
    let request = DeleteRuleRequest { name: name.clone() };
    match visitor.system()?.delete_rule(request).await {
        Ok(_) => {
            visitor
                .done(LIST, format!("The rule {name} is removed."))
                .await
        }
        Err(refused) => question(&visitor, &name).again(&visitor, &title(&name), refused),
    }
}
