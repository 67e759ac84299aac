//! The policy: its rules, and what they say of somebody.

mod explain;
mod rule;

use askama::Template;
use axum::routing::get;
use mc_proto::metacrypt::v1::{ListRulesRequest, ListRulesResponse, Rule};

use super::{
    Answer, Table as Routes, Visitor,
    shown::{Cell, Part, Table, Tabs, link},
};

pub(super) const LIST: &str = "/policy";
const RULE: &str = "/policy/rule";
const DELETE: &str = "/policy/rule/delete";
const EXPLAIN: &str = "/policy/explain";

pub(super) fn table() -> Routes {
    vec![
        (LIST, get(list)),
        (RULE, get(rule::edit).post(rule::save)),
        (DELETE, get(rule::ask).post(rule::delete)),
        (EXPLAIN, get(explain::explain)),
    ]
}

fn tabs(here: &str) -> Tabs {
    let links = [(LIST, "Rules"), (EXPLAIN, "Explain")];
    Tabs {
        label: "Policy".to_owned(),
        links: links.map(|(path, label)| (path.to_owned(), label)).into(),
        here: here.to_owned(),
    }
}

#[derive(Template)]
#[template(path = "policy/rules.html")]
struct List {
    tabs: Tabs,
    table: Table,
    /// Why they are not in force.
    unusable: String,
}

/// Whom a rule is about, in words.
fn whom(rule: &Rule) -> String {
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
    match parts.is_empty() {
        true => "everybody".to_owned(),
        false => parts.join("; "),
    }
}

fn effect(deny: bool) -> Cell {
    match deny {
        true => Cell::new().badge("error", "deny"),
        false => Cell::new().badge("success", "allow"),
    }
}

fn table_of(rules: &[Rule]) -> Table {
    let row = |rule: &Rule| {
        let name = Cell::link(&*rule.name, link(RULE, &[("name", &rule.name)]));
        let name = match &*rule.comment {
            "" => name,
            comment => name.below(Part::Muted(comment.to_owned())),
        };
        vec![
            name,
            Cell::text(rule.priority.to_string()),
            effect(rule.deny),
            Cell::text(whom(rule)),
            Cell::lines(rule.actions.iter().cloned()).whole(),
            Cell::lines(rule.resources.iter().cloned()),
        ]
    };
    Table {
        label: "Rules".to_owned(),
        heads: vec!["Rule", "Priority", "Effect", "Whom", "May do", "On"],
        rows: rules.iter().map(row).collect(),
        empty: "There are no rules: administrators alone may do anything.".to_owned(),
    }
}

async fn rules(visitor: &Visitor) -> Result<ListRulesResponse, tonic::Status> {
    let mut system = visitor
        .system()
        .map_err(|_| tonic::Status::unauthenticated(""))?;
    Ok(system.list_rules(ListRulesRequest {}).await?.into_inner())
}

async fn list(visitor: Visitor) -> Answer {
    let listed = rules(&visitor).await?;
    let list = List {
        tabs: tabs(LIST),
        table: table_of(&listed.rules),
        unusable: listed.unusable,
    };
    visitor.page.render("Policy", &list)
}
