//! Asking again, before what cannot be taken back.

use askama::Template;
use mcdsl::web::{CsrfField, ErrorPage, Page, Query};
use serde::Deserialize;

use super::{Answer, Refusal, account, again, link, rule, service, tokens};

/// Where it is asked.
pub(super) const ASK: &str = "/admin/ask";

/// Something that is asked again.
pub(super) struct Act {
    /// Where it is done.
    pub(super) path: &'static str,
    /// The question; `{}` is the name.
    pub(super) title: &'static str,
    /// What follows from it.
    pub(super) text: &'static str,
    /// The answer that does it.
    pub(super) button: &'static str,
    /// The page of what it is about, and the part of the administration.
    pub(super) back: &'static str,
    pub(super) here: &'static str,
}

const ACTS: [&Act; 9] = [
    &account::REMOVE,
    &account::RESET,
    &account::CLEAR,
    &account::END,
    &tokens::ROTATE,
    &tokens::REVOKE,
    &rule::REMOVE,
    &service::SECRET,
    &service::REMOVE,
];

/// What an act is about.
#[derive(Clone, Deserialize)]
pub(super) struct About {
    pub(super) name: String,
    /// Of a token.
    #[serde(default)]
    pub(super) id: String,
    /// What would come of it is meant.
    #[serde(default)]
    pub(super) meant: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    act: String,
    #[serde(flatten)]
    about: About,
}

#[derive(Template)]
#[template(path = "admin/ask.html")]
struct Question<'q> {
    csrf: CsrfField,
    here: &'static str,
    act: &'static Act,
    about: &'q About,
    back: String,
    /// It has to be said that it is meant.
    ask: bool,
}

impl Act {
    fn title(&self, about: &About) -> String {
        self.title.replacen("{}", &about.name, 1)
    }

    fn question<'q>(&'static self, page: &Page, about: &'q About, ask: bool) -> Question<'q> {
        Question {
            csrf: page.csrf(),
            here: self.here,
            act: self,
            about,
            back: link(self.back, &[("name", &about.name)]),
            ask,
        }
    }

    /// Where it is asked.
    pub(super) fn link(&self, name: &str, id: &str) -> String {
        link(ASK, &[("act", self.path), ("name", name), ("id", id)])
    }

    /// The question again, and why it was not done.
    pub(super) fn refused(&'static self, page: Page, about: &About, refusal: &Refusal) -> Answer {
        let question = self.question(&page, about, refusal.unmeant);
        again(page, refusal, &self.title(about), &question)
    }
}

pub(super) async fn show(page: Page, Query(asked): Query<Asked>) -> Answer {
    let act = ACTS.into_iter().find(|act| act.path == asked.act);
    let act = act.ok_or_else(ErrorPage::not_found)?;
    let about = About {
        name: shortened(asked.about.name),
        id: shortened(asked.about.id),
        meant: None,
    };
    page.render(&act.title(&about), &act.question(&page, &about, false))
}

/// Longer than any name or id is none.
fn shortened(text: String) -> String {
    text.chars().take(256).collect()
}
