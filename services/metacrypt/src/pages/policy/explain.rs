//! What the policy says of somebody: the API's answer.

use askama::Template;
use mc_proto::metacrypt::v1::{ExplainRequest, ExplainResponse};
use mcdsl::web::Query;
use serde::Deserialize;

use super::{EXPLAIN, tabs};
use crate::{
    engine,
    pages::{
        Answer, Visitor, refusal,
        shown::{Tabs, names},
    },
};

/// What is asked, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    account: String,
    account_type: String,
    roles: Vec<String>,
    tags: String,
    action: String,
    resource: String,
}

#[derive(Template)]
#[template(path = "policy/explain.html")]
struct Explain {
    tabs: Tabs,
    question: Question,
    actions: Vec<&'static str>,
    said: Option<ExplainResponse>,
}

impl Question {
    fn is_asked(&self) -> bool {
        !self.account.trim().is_empty() && !self.action.trim().is_empty()
    }

    fn request(&self) -> ExplainRequest {
        ExplainRequest {
            account: self.account.trim().to_owned(),
            account_type: self.account_type.clone(),
            roles: self.roles.clone(),
            tags: names(&self.tags),
            action: self.action.trim().to_owned(),
            resource: self.resource.trim().to_owned(),
        }
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }
}

const TITLE: &str = "Who may do what";

pub(super) async fn explain(visitor: Visitor, Query(question): Query<Question>) -> Answer {
    let said = match question.is_asked() {
        true => Some(visitor.system()?.explain(question.request()).await),
        false => None,
    };
    let (said, refused) = match said.transpose() {
        Ok(said) => (said.map(tonic::Response::into_inner), None),
        Err(refused) => (None, Some(refused)),
    };
    let content = Explain {
        tabs: tabs(EXPLAIN),
        question,
        actions: engine::actions().map(|action| action.0).collect(),
        said,
    };
    match refused {
        None => visitor.page.render(TITLE, &content),
        Some(refused) => refusal::again(visitor.page, refused, TITLE, &content),
    }
}
