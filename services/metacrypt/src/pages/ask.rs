//! Asking again, before what cannot be taken back.

use askama::Template;
use mcdsl::web::CsrfField;
use tonic::Status;

use super::{Answer, Visitor, refusal};

/// A question, whose answer is a form.
/// One of several values.
pub(super) struct Choice {
    /// What it is of.
    pub(super) label: &'static str,
    pub(super) field: &'static str,
    /// With what they mean.
    pub(super) values: Vec<(String, &'static str)>,
}

#[derive(Template)]
#[template(path = "ask.html")]
pub(super) struct Ask {
    pub(super) csrf: CsrfField,
    /// What follows from it.
    pub(super) text: String,
    /// Where it is posted to.
    pub(super) to: String,
    /// What else is sent: name and value.
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) choice: Option<Choice>,
    /// A name that has to be written once more, in the field `confirm`.
    pub(super) repeat: Option<String>,
    /// The answer that does it.
    pub(super) button: &'static str,
    /// Whether that destroys something.
    pub(super) danger: bool,
    /// Where one goes who leaves it.
    pub(super) back: String,
}

impl Ask {
    pub(super) fn new(
        visitor: &Visitor,
        text: impl Into<String>,
        to: String,
        button: &'static str,
        back: String,
    ) -> Self {
        Self {
            csrf: visitor.csrf(),
            text: text.into(),
            to,
            fields: Vec::new(),
            choice: None,
            repeat: None,
            button,
            danger: true,
            back,
        }
    }

    /// The question.
    pub(super) fn show(&self, visitor: &Visitor, title: &str) -> Answer {
        visitor.page.render(title, self)
    }

    /// The question again, and why it was not done.
    pub(super) fn again(&self, visitor: &Visitor, title: &str, refused: Status) -> Answer {
        refusal::again(visitor.page.clone(), refused, title, self)
    }
}
