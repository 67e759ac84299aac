//! The certificates that were signed: those that end soonest first.

use std::time::SystemTime;

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{ListSshCertificatesRequest, SshCertificate};
use mcdsl::web::Query;
use serde::Deserialize;

use super::{kind, tabs};
use crate::pages::{
    Answer, Visitor,
    pki::end,
    refusal,
    shown::{Cell, Part, Table, Tabs, link, path},
};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    account: String,
    profile: String,
    after: String,
}

#[derive(Template)]
#[template(path = "ssh/certificates.html")]
struct List {
    tabs: Tabs,
    here: String,
    search: Search,
    table: Table,
    next: Option<String>,
}

pub(super) fn void(found: &SshCertificate) -> Option<&'static str> {
    found.revoked.then_some("revoked")
}

fn row(mount: &str, found: &SshCertificate, now: SystemTime) -> Vec<Cell> {
    let page = path(&["ssh", mount, "certificate", &found.serial.to_string()]);
    vec![
        Cell::link(found.principals.join(", "), page)
            .below(Part::Muted(format!("serial {}", found.serial))),
        Cell::text(&*found.key_id),
        Cell::text(&*found.profile).and(Part::Muted(format!(" for {}", kind(found.kind())))),
        end(found.valid_before.as_ref(), void(found), now),
    ]
}

pub(super) async fn list(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(search): Query<Search>,
) -> Answer {
    let now = visitor.ui.metacrypt.seal.clock().now();
    let request = ListSshCertificatesRequest {
        mount: mount.clone(),
        profile: search.profile.trim().to_owned(),
        key_id: search.account.trim().to_owned(),
        after: search.after.clone(),
        limit: 50,
        ..ListSshCertificatesRequest::default()
    };
    let (listed, refused) = match visitor.ssh()?.list_certificates(request).await {
        Ok(listed) => (listed.into_inner(), None),
        Err(refused) => (Default::default(), Some(refused)),
    };
    let query = [
        ("account", &*search.account),
        ("profile", &search.profile),
        ("after", &listed.next),
    ];
    let next = link(&path(&["ssh", &mount]), &query);
    let rows = listed.certificates.iter();
    let list = List {
        tabs: tabs(&mount, ""),
        here: path(&["ssh", &mount]),
        next: (!listed.next.is_empty()).then_some(next),
        table: Table {
            label: "Certificates".to_owned(),
            heads: vec!["Principals", "Account", "Profile", "End"],
            rows: rows.map(|found| row(&mount, found, now)).collect(),
            empty: "There is no valid certificate like that which you may read.".to_owned(),
        },
        search,
    };
    let title = format!("Certificates of {mount}");
    match refused {
        None => visitor.page.render(&title, &list),
        Some(refused) => refusal::again(visitor.page, refused, &title, &list),
    }
}
