//! A public key is signed.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{SignSshKeyRequest, SshCertificate, SshProfile};
use mcdsl::web::{CsrfField, ErrorPage, Form, Query};
use serde::Deserialize;
use tonic::Status;

use super::{certificate, kind, may, principals, readable, tabs};
use crate::{
    engine::ssh::action,
    pages::{
        Answer, Visitor, refusal,
        shown::{Facts, File, Tabs, length, names, path, seconds},
    },
};

/// What is to be signed, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    profile: String,
    public_key: String,
    principals: String,
    ttl: String,
}

#[derive(Template)]
#[template(path = "ssh/sign.html")]
struct Sign<'s> {
    csrf: CsrfField,
    tabs: Tabs,
    here: String,
    form: &'s Typed,
    /// Those that he may sign by, as far as he may read them: name and what it says.
    profiles: Vec<(String, String)>,
    /// He may sign by the one that is chosen.
    signs: bool,
}

/// What a profile says, in a line.
fn in_a_line(profile: &SshProfile) -> String {
    let most = length(profile.max_ttl_s);
    let named = principals(profile).join(", ");
    format!("{}: {named}; {most} at most", kind(profile.kind()))
}

async fn form<'s>(visitor: &Visitor, mount: &str, form: &'s Typed) -> Result<Sign<'s>, ErrorPage> {
    let signs = |name: &str| may(visitor, mount, name, action::SIGN);
    let mut profiles = readable(visitor, mount).await?;
    profiles.retain(|profile| signs(&profile.name));
    let line = |profile: SshProfile| {
        let said = in_a_line(&profile);
        (profile.name, said)
    };
    Ok(Sign {
        csrf: visitor.csrf(),
        tabs: tabs(mount, "sign"),
        here: path(&["ssh", mount, "sign"]),
        signs: signs(&form.profile),
        form,
        profiles: profiles.into_iter().map(line).collect(),
    })
}

fn title(mount: &str) -> String {
    format!("Sign a key by {mount}")
}

pub(super) async fn show(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(mut typed): Query<Typed>,
) -> Answer {
    typed.profile = typed.profile.trim().to_owned();
    let content = form(&visitor, &mount, &typed).await?;
    visitor.page.render(&title(&mount), &content)
}

async fn asked(visitor: &Visitor, mount: &str, typed: &Typed) -> Result<SshCertificate, Status> {
    let mut ssh = visitor
        .ssh()
        .map_err(|_| Status::unauthenticated("log in again"))?;
    let request = SignSshKeyRequest {
        mount: mount.to_owned(),
        profile: typed.profile.clone(),
        public_key: typed.public_key.trim().to_owned(),
        principals: names(&typed.principals),
        ttl_s: seconds("ttl_s", &typed.ttl)?,
    };
    Ok(ssh.sign(request).await?.into_inner())
}

#[derive(Template)]
#[template(path = "ssh/signed.html")]
struct Signed {
    tabs: Tabs,
    facts: Facts,
    file: File,
    page: String,
}

pub(super) async fn sign(
    visitor: Visitor,
    Path(mount): Path<String>,
    Form(typed): Form<Typed>,
) -> Answer {
    match asked(&visitor, &mount, &typed).await {
        Ok(signed) => {
            let content = Signed {
                tabs: tabs(&mount, "sign"),
                facts: certificate::facts(&visitor, &signed),
                file: certificate::file(&signed),
                page: certificate::page_of(&mount, signed.serial),
            };
            visitor.page.render("The key is signed", &content)
        }
        Err(refused) => {
            let content = form(&visitor, &mount, &typed).await?;
            refusal::again(visitor.page.clone(), refused, &title(&mount), &content)
        }
    }
}
