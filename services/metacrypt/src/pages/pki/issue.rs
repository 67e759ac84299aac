//! A certificate is issued.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{
    GetPkiProfileRequest, IssueCertificateRequest, IssuedCertificate, PkiProfile, SignCsrRequest,
};
use mcdsl::web::{CsrfField, ErrorPage, Form, Query};
use serde::Deserialize;
use tonic::Status;

use super::{ISSUING, issuers, key, keys, may, readable, tabs};
use crate::{
    engine::pki::action,
    pages::{
        Answer, Visitor, refusal,
        shown::{Facts, File, Tabs, names, path, seconds, when},
    },
};

/// By which profile.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    profile: String,
}

/// What it is to be, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    profile: String,
    names: String,
    csr: String,
    ttl: String,
    key: String,
}

#[derive(Template)]
#[template(path = "pki/issue.html")]
struct Issue<'i> {
    csrf: CsrfField,
    tabs: Tabs,
    here: String,
    /// Those that he may issue by, as far as he may read them.
    profiles: Vec<String>,
    /// What the one that is chosen says, if he may read it.
    facts: Option<Facts>,
    form: &'i Typed,
    /// A new key may be made; a request may be signed.
    issues: bool,
    signs: bool,
    keys: [(&'static str, &'static str); 4],
}

async fn profile(
    visitor: &Visitor,
    mount: &str,
    name: &str,
) -> Result<Option<PkiProfile>, ErrorPage> {
    if name.is_empty() || !may(visitor, mount, name, &[action::READ]) {
        return Ok(None);
    }
    let request = GetPkiProfileRequest {
        mount: mount.to_owned(),
        name: name.to_owned(),
    };
    let found = visitor.pki()?.get_profile(request).await?;
    Ok(Some(found.into_inner()))
}

async fn form<'i>(visitor: &Visitor, mount: &str, form: &'i Typed) -> Result<Issue<'i>, ErrorPage> {
    let all = readable(visitor, mount).await?;
    let names = all.into_iter().map(|profile| profile.name);
    let profiles = names.filter(|name| may(visitor, mount, name, &ISSUING));
    let found = profile(visitor, mount, &form.profile).await?;
    Ok(Issue {
        csrf: visitor.csrf(),
        tabs: tabs(mount, "issue"),
        here: path(&["pki", mount, "issue"]),
        profiles: profiles.collect(),
        facts: found.as_ref().map(issuers::facts),
        issues: may(visitor, mount, &form.profile, &[action::ISSUE]),
        signs: may(visitor, mount, &form.profile, &[action::SIGN]),
        form,
        keys: keys(),
    })
}

fn title(mount: &str) -> String {
    format!("Issue a certificate of {mount}")
}

pub(super) async fn show(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(which): Query<Which>,
) -> Answer {
    let typed = Typed {
        profile: which.profile.trim().to_owned(),
        ..Typed::default()
    };
    let content = form(&visitor, &mount, &typed).await?;
    visitor.page.render(&title(&mount), &content)
}

async fn asked(visitor: &Visitor, mount: &str, typed: &Typed) -> Result<IssuedCertificate, Status> {
    let mut pki = visitor
        .pki()
        .map_err(|_| Status::unauthenticated("log in again"))?;
    let ttl_s = seconds("ttl_s", &typed.ttl)?;
    let (mount, profile) = (mount.to_owned(), typed.profile.clone());
    let names = names(&typed.names);
    let issued = match typed.csr.trim() {
        "" => {
            let request = IssueCertificateRequest {
                mount,
                profile,
                names,
                ttl_s,
                key_algorithm: key(&typed.key).into(),
            };
            pki.issue(request).await
        }
        csr => {
            let request = SignCsrRequest {
                mount,
                profile,
                csr: csr.to_owned(),
                names,
                ttl_s,
            };
            pki.sign(request).await
        }
    };
    Ok(issued?.into_inner())
}

pub(super) async fn issue(
    visitor: Visitor,
    Path(mount): Path<String>,
    Form(typed): Form<Typed>,
) -> Answer {
    match asked(&visitor, &mount, &typed).await {
        Ok(issued) => Once::of(&mount, issued).show(&visitor),
        Err(refused) => {
            let content = form(&visitor, &mount, &typed).await?;
            refusal::again(visitor.page.clone(), refused, &title(&mount), &content)
        }
    }
}

/// What was issued, with its key, which is shown once.
#[derive(Template)]
#[template(path = "pki/issued.html")]
pub(super) struct Once {
    tabs: Tabs,
    page: String,
    ends: crate::pages::shown::Cell,
    key: Option<File>,
    chain: File,
    root: File,
}

impl Once {
    pub(super) fn of(mount: &str, issued: IssuedCertificate) -> Self {
        let file = |end: &str, text| File {
            name: format!("{}{end}.pem", issued.serial),
            text,
        };
        let key = Some(issued.private_key.clone()).filter(|key| !key.is_empty());
        Self {
            tabs: tabs(mount, "issue"),
            page: path(&["pki", mount, "certificate", &issued.serial]),
            ends: when(issued.not_after.as_ref()),
            key: key.map(|key| file("-key", key)),
            chain: file("", issued.chain.clone()),
            root: file("-root", issued.root.clone()),
        }
    }

    pub(super) fn show(&self, visitor: &Visitor) -> Answer {
        visitor.page.render("The certificate is issued", self)
    }
}
