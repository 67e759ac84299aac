//! One key: its versions, and what goes through it.

use askama::Template;
use axum::extract::Path;
use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{
    Ciphertext, DecryptRequest, EncryptRequest, GetKeyRequest, KeyAlgorithm, Plaintext,
    RotateKeyRequest, TransitKey, TransitKeyVersion,
};
use mcdsl::web::{CsrfField, ErrorPage, Form};
use serde::Deserialize;
use tonic::{Code, Status};

use super::{algorithm, page_of, tabs};
use crate::{
    engine::transit::action,
    pages::{
        Answer, Visitor,
        ask::Ask,
        refusal,
        shown::{Cell, Facts, Part, Table, Tabs, length, when},
    },
};

/// Mount and name.
type At = Path<(String, String)>;

/// A text, as it was typed. The allocator overwrites it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    text: String,
    about: String,
}

/// What came of it.
enum Made {
    Nothing,
    Ciphertext(String),
    /// What was decrypted, and whether it is shown as base64, for it is no text.
    Plaintext(String, bool),
}

#[derive(Template)]
#[template(path = "transit/key.html")]
struct Key {
    csrf: CsrfField,
    tabs: Tabs,
    page: String,
    /// What may be read of it.
    read: Option<(Facts, Table)>,
    rotates: bool,
    encrypts: bool,
    decrypts: bool,
    /// It needs associated data.
    needs_about: bool,
    encrypted: Typed,
    decrypted: Typed,
    made: Made,
}

fn encrypts(algorithm: KeyAlgorithm) -> bool {
    use KeyAlgorithm as A;
    matches!(
        algorithm,
        A::Aes256Gcm | A::Xchacha20Poly1305 | A::Aes256Siv | A::X25519Mlkem768
    )
}

fn facts(key: &TransitKey) -> Facts {
    let yes = |is| if is { "yes" } else { "no" };
    let age = match key.rotate_after_s {
        0 => "never of itself".to_owned(),
        seconds => format!("after {}", length(seconds)),
    };
    let rotation = Cell::text(age);
    let rotation = match key.cannot_rotate {
        true => rotation.badge("warning", "it has as many versions as it may"),
        false => rotation,
    };
    Facts(vec![
        ("Algorithm", Cell::text(algorithm(key.algorithm()))),
        ("Made", when(key.created.as_ref())),
        ("Rotates", rotation),
        ("Exportable", Cell::text(yes(key.exportable))),
        ("Deletable", Cell::text(yes(key.deletable))),
    ])
}

fn versions(key: &TransitKey) -> Table {
    let newest = key.versions.iter().map(|version| version.version).max();
    let row = |version: &TransitKeyVersion| {
        let number = Cell::text(version.version.to_string());
        let number = match version.version {
            one if Some(one) == newest => number.badge("success", "in use"),
            one if one < key.min_decryption_version => number.badge("warning", "not used"),
            _ => number.badge("", "decrypts and verifies"),
        };
        let public = match &*version.public_key {
            "" => Cell::text(""),
            pem => Cell::new().and(Part::Code(pem.to_owned())),
        };
        vec![number, when(version.created.as_ref()), public]
    };
    let has_public = key.versions.iter().any(|one| !one.public_key.is_empty());
    let mut rows: Vec<_> = key.versions.iter().rev().map(row).collect();
    let mut heads = vec!["Version", "Made", "Public key"];
    if !has_public {
        heads.pop();
        rows.iter_mut().for_each(|row| row.truncate(2));
    }
    Table {
        label: "Versions".to_owned(),
        heads,
        rows,
        empty: String::new(),
    }
}

async fn content(visitor: &Visitor, mount: &str, name: &str) -> Result<Key, ErrorPage> {
    let may = |action| visitor.may(action, &[mount, "keys", name]);
    let uses = may(action::ENCRYPT) || may(action::DECRYPT) || may(action::ROTATE);
    let request = GetKeyRequest {
        mount: mount.to_owned(),
        name: name.to_owned(),
    };
    let key = match visitor.transit()?.get_key(request).await {
        Ok(key) => Some(key.into_inner()),
        // Who may use it need not be allowed to read it.
        Err(refused) if refused.code() == Code::PermissionDenied && uses => None,
        Err(refused) => return Err(refused.into()),
    };
    let kind = key.as_ref().map(TransitKey::algorithm);
    let fits = kind.is_none_or(encrypts);
    Ok(Key {
        csrf: visitor.csrf(),
        tabs: tabs(visitor, mount, ""),
        page: page_of(mount, name),
        rotates: may(action::ROTATE),
        encrypts: fits && may(action::ENCRYPT),
        decrypts: fits && may(action::DECRYPT),
        needs_about: kind == Some(KeyAlgorithm::Aes256Siv),
        read: key.as_ref().map(|key| (facts(key), versions(key))),
        encrypted: Typed::default(),
        decrypted: Typed::default(),
        made: Made::Nothing,
    })
}

fn title(name: &str) -> String {
    format!("Key {name}")
}

pub(super) async fn show(visitor: Visitor, Path((mount, name)): At) -> Answer {
    let content = content(&visitor, &mount, &name).await?;
    visitor.page.render(&title(&name), &content)
}

/// The page again with what came of it, or why nothing did.
async fn answer(
    visitor: Visitor,
    (mount, name): (String, String),
    made: Result<Made, Status>,
    fill: impl FnOnce(&mut Key),
) -> Answer {
    let mut content = content(&visitor, &mount, &name).await?;
    fill(&mut content);
    match made {
        Ok(made) => {
            content.made = made;
            visitor.page.render(&title(&name), &content)
        }
        Err(refused) => refusal::again(visitor.page, refused, &title(&name), &content),
    }
}

/// Of lists of one.
fn only<T>(list: Vec<T>) -> Result<T, Status> {
    let none = || Status::internal("the answer has another number of entries than the request");
    list.into_iter().next().ok_or_else(none)
}

pub(super) async fn encrypt(
    visitor: Visitor,
    Path((mount, name)): At,
    Form(typed): Form<Typed>,
) -> Answer {
    let request = EncryptRequest {
        mount: mount.clone(),
        name: name.clone(),
        plaintexts: vec![Plaintext {
            plaintext: typed.text.clone().into_bytes(),
            associated_data: typed.about.clone().into_bytes(),
        }],
    };
    let encrypted = visitor.transit()?.encrypt(request).await;
    let made = encrypted.and_then(|made| only(made.into_inner().ciphertexts));
    let made = made.map(Made::Ciphertext);
    let mut typed = typed;
    if made.is_ok() {
        // It has served.
        typed.text.clear();
    }
    answer(visitor, (mount, name), made, |key| key.encrypted = typed).await
}

pub(super) async fn decrypt(
    visitor: Visitor,
    Path((mount, name)): At,
    Form(typed): Form<Typed>,
) -> Answer {
    let request = DecryptRequest {
        mount: mount.clone(),
        name: name.clone(),
        ciphertexts: vec![Ciphertext {
            ciphertext: typed.text.trim().to_owned(),
            associated_data: typed.about.clone().into_bytes(),
        }],
    };
    let decrypted = visitor.transit()?.decrypt(request).await;
    let made = decrypted.and_then(|made| only(made.into_inner().plaintexts));
    let made = made.map(|plain| match String::from_utf8(plain.plaintext) {
        Ok(text) => Made::Plaintext(text, false),
        Err(bytes) => Made::Plaintext(BASE64.encode(bytes.as_bytes()), true),
    });
    answer(visitor, (mount, name), made, |key| key.decrypted = typed).await
}

fn question(visitor: &Visitor, mount: &str, name: &str) -> Ask {
    let page = page_of(mount, name);
    let text = "It gets another version, which encrypts and signs from then on. Those before still decrypt and verify.";
    Ask {
        danger: false,
        ..Ask::new(visitor, text, format!("{page}/rotate"), "Rotate it", page)
    }
}

pub(super) async fn ask(visitor: Visitor, Path((mount, name)): At) -> Answer {
    let title = format!("Rotate the key {name}?");
    question(&visitor, &mount, &name).show(&visitor, &title)
}

pub(super) async fn rotate(visitor: Visitor, Path((mount, name)): At) -> Answer {
    let request = RotateKeyRequest {
        mount: mount.clone(),
        name: name.clone(),
    };
    match visitor.transit()?.rotate_key(request).await {
        Ok(_) => {
            let text = "It is rotated: its newest version is in use.";
            visitor.done(&page_of(&mount, &name), text).await
        }
        Err(refused) => {
            let title = format!("Rotate the key {name}?");
            question(&visitor, &mount, &name).again(&visitor, &title, refused)
        }
    }
}
