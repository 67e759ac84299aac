//! A key is made.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{CreateKeyRequest, KeyAlgorithm, TransitKey};
use mcdsl::web::{CsrfField, Form};
use serde::Deserialize;
use tonic::Status;

use super::{algorithm, page_of, tabs};
use crate::pages::{
    Answer, Visitor, refusal,
    shown::{Tabs, path, seconds},
};

/// What it is to be, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    name: String,
    algorithm: String,
    rotate: String,
    exportable: Option<String>,
}

/// Algorithms, and what they are for.
const ALGORITHMS: [(KeyAlgorithm, &str); 8] = [
    (KeyAlgorithm::Aes256Gcm, "encrypts"),
    (KeyAlgorithm::Xchacha20Poly1305, "encrypts"),
    (
        KeyAlgorithm::Aes256Siv,
        "encrypts the same text alike, so that it can be found",
    ),
    (
        KeyAlgorithm::X25519Mlkem768,
        "wraps keys, also against quantum computers",
    ),
    (KeyAlgorithm::Ed25519, "signs"),
    (KeyAlgorithm::EcdsaP256, "signs"),
    (KeyAlgorithm::EcdsaP384, "signs"),
    (KeyAlgorithm::HmacSha256, "authenticates"),
];

#[derive(Template)]
#[template(path = "transit/new.html")]
struct New<'n> {
    csrf: CsrfField,
    tabs: Tabs,
    here: String,
    form: &'n Typed,
    algorithms: Vec<(String, &'static str)>,
}

fn content<'n>(visitor: &Visitor, mount: &str, form: &'n Typed) -> New<'n> {
    let algorithms = ALGORITHMS
        .iter()
        .map(|(one, for_what)| (algorithm(*one), *for_what));
    New {
        csrf: visitor.csrf(),
        tabs: tabs(visitor, mount, "new"),
        here: path(&["transit", mount, "new"]),
        form,
        algorithms: algorithms.collect(),
    }
}

fn title(mount: &str) -> String {
    format!("New key of {mount}")
}

pub(super) async fn show(visitor: Visitor, Path(mount): Path<String>) -> Answer {
    let typed = Typed::default();
    let content = content(&visitor, &mount, &typed);
    visitor.page.render(&title(&mount), &content)
}

async fn asked(visitor: &Visitor, mount: &str, typed: &Typed) -> Result<TransitKey, Status> {
    let mut transit = visitor
        .transit()
        .map_err(|_| Status::unauthenticated("log in again"))?;
    let mut all = ALGORITHMS.iter().map(|(one, _)| *one);
    let found = all.find(|one| algorithm(*one) == typed.algorithm);
    let found =
        found.ok_or_else(|| Status::invalid_argument("algorithm: choose one of the list"))?;
    let request = CreateKeyRequest {
        mount: mount.to_owned(),
        name: typed.name.trim().to_owned(),
        algorithm: found.into(),
        exportable: typed.exportable.is_some(),
        rotate_after_s: seconds("rotate_after_s", &typed.rotate)?,
    };
    Ok(transit.create_key(request).await?.into_inner())
}

pub(super) async fn make(
    visitor: Visitor,
    Path(mount): Path<String>,
    Form(typed): Form<Typed>,
) -> Answer {
    match asked(&visitor, &mount, &typed).await {
        Ok(key) => {
            let text = format!("The key {} is there.", key.name);
            visitor.done(&page_of(&mount, &key.name), text).await
        }
        Err(refused) => {
            let content = content(&visitor, &mount, &typed);
            refusal::again(visitor.page.clone(), refused, &title(&mount), &content)
        }
    }
}
