//! What is revoked as a whole: accounts and keys.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{
    CreateSshRevocationRequest, DeleteSshRevocationRequest, ListSshRevocationsRequest,
    SshRevocation, create_ssh_revocation_request as create, ssh_revocation::What,
};
use mcdsl::web::{CsrfField, ErrorPage, Form, Query};
use serde::Deserialize;
use tonic::Status;

use super::tabs;
use crate::{
    engine::ssh::action,
    pages::{
        Answer, Visitor, refusal,
        shown::{Tabs, link, moment, path, time},
    },
};

/// One of them.
struct Row {
    id: String,
    what: &'static str,
    name: String,
    since: String,
    may_lift: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct From {
    after: String,
}

/// What is to be revoked, as it was typed: one of them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    account: String,
    public_key: String,
}

#[derive(Template)]
#[template(path = "ssh/revocations.html")]
struct List<'l> {
    csrf: CsrfField,
    tabs: Tabs,
    here: String,
    krl: String,
    rows: Vec<Row>,
    next: Option<String>,
    form: &'l Typed,
    may_revoke: bool,
}

fn row(visitor: &Visitor, mount: &str, found: SshRevocation) -> Row {
    let (what, name) = match found.what {
        Some(What::KeyId(account)) => ("account", account),
        Some(What::PublicKey(key)) => ("key", key),
        None => ("", String::new()),
    };
    Row {
        may_lift: visitor.may(
            action::DELETE_REVOCATION,
            &[mount, "revocations", &found.id],
        ),
        what,
        name,
        since: time(found.revoked.as_ref()).map_or_else(String::new, moment),
        id: found.id,
    }
}

async fn content<'l>(
    visitor: &Visitor,
    mount: &str,
    after: String,
    form: &'l Typed,
) -> Result<List<'l>, ErrorPage> {
    let request = ListSshRevocationsRequest {
        mount: mount.to_owned(),
        after,
        limit: 0,
    };
    let listed = visitor.ssh()?.list_revocations(request).await?;
    let listed = listed.into_inner();
    let here = path(&["ssh", mount, "revocations"]);
    let next = link(&here, &[("after", &listed.next)]);
    let rows = listed.revocations.into_iter();
    Ok(List {
        csrf: visitor.csrf(),
        tabs: tabs(mount, "revocations"),
        here,
        krl: path(&["v1", "ssh", mount, "krl"]),
        rows: rows.map(|found| row(visitor, mount, found)).collect(),
        next: (!listed.next.is_empty()).then_some(next),
        form,
        may_revoke: visitor.may(action::CREATE_REVOCATION, &[mount, "revocations"]),
    })
}

fn title(mount: &str) -> String {
    format!("Revocations of {mount}")
}

pub(super) async fn list(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(from): Query<From>,
) -> Answer {
    let typed = Typed::default();
    let list = content(&visitor, &mount, from.after, &typed).await?;
    visitor.page.render(&title(&mount), &list)
}

/// That it is done, and what may be other than it was meant.
fn done(made: &SshRevocation) -> String {
    let mut text = "It is revoked.".to_owned();
    if let Some(number) = made.certificates {
        text.push_str(&match number {
            0 => " No certificate of this name is known here.".to_owned(),
            number => format!(
                " It has {number} certificates here, those among them that expired within 30 days."
            ),
        });
    }
    if made.account_exists == Some(false) {
        text.push_str(" MCIAS has no account of this name.");
    }
    text
}

pub(super) async fn revoke(
    visitor: Visitor,
    Path(mount): Path<String>,
    Form(typed): Form<Typed>,
) -> Answer {
    let what = match (typed.account.trim(), typed.public_key.trim()) {
        (account, "") if !account.is_empty() => Ok(create::What::KeyId(account.to_owned())),
        ("", key) if !key.is_empty() => Ok(create::What::PublicKey(key.to_owned())),
        _ => Err(Status::invalid_argument(
            "write the name of an account or a public key: one of them",
        )),
    };
    let revoked = match what {
        Ok(what) => {
            let request = CreateSshRevocationRequest {
                mount: mount.clone(),
                what: Some(what),
            };
            visitor.ssh()?.create_revocation(request).await
        }
        Err(wrong) => Err(wrong),
    };
    match revoked {
        Ok(made) => {
            let to = path(&["ssh", &mount, "revocations"]);
            visitor.done(&to, done(made.get_ref())).await
        }
        Err(refused) => {
            let list = content(&visitor, &mount, String::new(), &typed).await?;
            refusal::again(visitor.page.clone(), refused, &title(&mount), &list)
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Which {
    id: String,
}

pub(super) async fn lift(
    visitor: Visitor,
    Path(mount): Path<String>,
    Form(which): Form<Which>,
) -> Answer {
    let request = DeleteSshRevocationRequest {
        mount: mount.clone(),
        id: which.id,
    };
    visitor.ssh()?.delete_revocation(request).await?;
    let to = path(&["ssh", &mount, "revocations"]);
    visitor
        .done(
            &to,
            "It is lifted: certificates that have not ended are valid again.",
        )
        .await
}
