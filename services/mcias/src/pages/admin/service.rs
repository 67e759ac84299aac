//! One service: where its logins lead, and the secret of its client.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use mc_proto::mcias::v1::Service as Message;
use mcdsl::web::{CsrfField, Form, Page, Query};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    Admin, Answer, Secret, again, and_ended,
    ask::{About, Act},
    attempt, done, lines, link,
    services::LIST,
};
use crate::{core::Mcias, oidc, pages::failed, service};

/// Where one is made and changed.
pub(super) const EDIT: &str = "/admin/service";

pub(super) const SECRET: Act = Act {
    path: "/admin/service/secret",
    title: "A new secret for {}?",
    text: "The secret is made anew and shown to you once. The old one is refused from then on: the service cannot log anybody in until it has \
           the new one.",
    button: "Make a new secret",
    back: EDIT,
    here: LIST,
};
pub(super) const REMOVE: Act = Act {
    path: "/admin/service/remove",
    title: "Remove the service {}?",
    text: "All logins to it end at once, and nobody can log in to it any more.",
    button: "Remove the service",
    back: EDIT,
    here: LIST,
};

/// A service, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    /// The service is to be made: one of its name is not to be replaced.
    new: Option<String>,
    name: String,
    redirect_uris: String,
    post_logout_redirect_uris: String,
    public_client: Option<String>,
    tags: String,
    comment: String,
    /// Of a client that there is: this service.
    #[serde(skip)]
    issuer: String,
}

impl From<Message> for Typed {
    fn from(service: Message) -> Self {
        Self {
            new: None,
            name: service.name,
            redirect_uris: service.redirect_uris.join("\n"),
            post_logout_redirect_uris: service.post_logout_redirect_uris.join("\n"),
            public_client: service.public_client.then(String::new),
            tags: service.tags.join("\n"),
            comment: service.comment,
            issuer: service.issuer,
        }
    }
}

impl Typed {
    fn message(&self) -> Message {
        Message {
            name: self.name.trim().to_owned(),
            tags: lines(&self.tags),
            redirect_uris: lines(&self.redirect_uris),
            post_logout_redirect_uris: lines(&self.post_logout_redirect_uris),
            public_client: self.public_client.is_some(),
            comment: self.comment.trim().to_owned(),
            issuer: String::new(),
        }
    }

    fn title(&self) -> String {
        match self.new {
            Some(_) => "New service".to_owned(),
            None => format!("Service {}", self.name),
        }
    }

    fn form(&self, page: &Page) -> ServiceForm<'_> {
        ServiceForm {
            csrf: page.csrf(),
            here: LIST,
            own: self.new.is_none() && self.name == crate::SERVICE,
            secret: SECRET.link(&self.name, ""),
            remove: REMOVE.link(&self.name, ""),
            form: self,
        }
    }
}

#[derive(Template)]
#[template(path = "admin/service.html")]
struct ServiceForm<'s> {
    csrf: CsrfField,
    here: &'static str,
    /// It is this service, which is no client of itself and stays.
    own: bool,
    secret: String,
    remove: String,
    form: &'s Typed,
}

impl ServiceForm<'_> {
    fn discovery(&self) -> String {
        format!("{}{}", self.form.issuer, oidc::DISCOVERY)
    }

    fn has_secret(&self) -> bool {
        self.form.public_client.is_none() && !lines(&self.form.redirect_uris).is_empty()
    }
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
        let read = move |db: &Connection| service::named(db, &which.name);
        let found = mcias.store.read(read).await.map_err(failed)?;
        Typed::from(service::message(found, &mcias.issuer))
    };
    page.render(&form.title(), &form.form(&page))
}

pub(super) async fn save(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(form): Form<Typed>,
) -> Answer {
    let by = admin.by(&page, EDIT)?;
    let new = form.new.is_some();
    let saving = mcias.set_service(&by, form.message(), new, false);
    match attempt(&mcias, &by, saving).await {
        Ok(made) => match made.secret {
            Some(secret) => shown(&mcias, &page, &made.service.name, &secret),
            None => {
                let text = format!("The service {} is kept.", made.service.name);
                done(&page, LIST, and_ended(text, made.ended)).await
            }
        },
        Err(refusal) => {
            let (title, filled) = (form.title(), form.form(&page));
            again(page, &refusal, &title, &filled)
        }
    }
}

fn shown(mcias: &Mcias, page: &Page, name: &str, secret: &str) -> Answer {
    let secret = Secret {
        here: LIST,
        what: "Client secret",
        value: secret,
        text: format!(
            "The secret of {name}, for its configuration, where the issuer is {} and the client id {name}.",
            mcias.issuer
        ),
        to: link(EDIT, &[("name", name)]),
        then: format!("Go on to {name}"),
    };
    page.render("The client's secret", &secret)
}

pub(super) async fn new_secret(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, SECRET.path)?;
    let making = mcias.new_secret(&by, about.name.clone());
    match attempt(&mcias, &by, making).await {
        Ok(secret) => shown(&mcias, &page, &about.name, &secret),
        Err(refusal) => SECRET.refused(page, &about, &refusal),
    }
}

pub(super) async fn remove(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    admin: Admin,
    Form(about): Form<About>,
) -> Answer {
    let by = admin.by(&page, REMOVE.path)?;
    let removing = mcias.delete_service(&by, about.name.clone());
    match attempt(&mcias, &by, removing).await {
        Ok(()) => {
            let text = format!("The service {} is removed.", about.name);
            done(&page, LIST, text).await
        }
        Err(refusal) => REMOVE.refused(page, &about, &refusal),
    }
}
