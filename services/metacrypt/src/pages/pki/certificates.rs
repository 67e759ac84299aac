//! The certificates that were issued: those that end soonest first.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{ListCertificatesRequest, PkiCertificate};
use mcdsl::web::Query;
use prost_types::Timestamp;
use serde::Deserialize;

use super::tabs;
use crate::pages::{
    Answer, Visitor, refusal,
    shown::{Cell, Part, Table, Tabs, apart, link, moment, path, time},
};

/// What ends within it is marked.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// The end of the year 9999: all that have not ended.
const NEVER_S: i64 = 253_402_300_799;
/// Names of a certificate that a list shows.
const FEW: usize = 3;

/// What is looked for, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    name: String,
    /// Days; nothing: whenever; `all`: also what ended.
    ends: String,
    profile: String,
    issuer: String,
    revoked: Option<String>,
    after: String,
}

impl Search {
    fn request(&self, mount: &str, now: SystemTime) -> ListCertificatesRequest {
        let within = |days: u64| Timestamp::from(now + Duration::from_secs(days * 86_400));
        let never = Timestamp {
            seconds: NEVER_S,
            nanos: 0,
        };
        ListCertificatesRequest {
            mount: mount.to_owned(),
            expires_before: match &*self.ends {
                "all" => None,
                "7" => Some(within(7)),
                "30" => Some(within(30)),
                "90" => Some(within(90)),
                _ => Some(never),
            },
            name: self.name.trim().to_owned(),
            revoked: self.revoked.is_some(),
            issuer: self.issuer.trim().to_owned(),
            profile: self.profile.trim().to_owned(),
            after: self.after.clone(),
            limit: 50,
        }
    }

    fn next(&self, mount: &str, after: &str) -> Option<String> {
        let revoked = self.revoked.as_ref().map_or("", |_| "yes");
        let query = [
            ("name", &*self.name),
            ("ends", &self.ends),
            ("profile", &self.profile),
            ("issuer", &self.issuer),
            ("revoked", revoked),
            ("after", after),
        ];
        (!after.is_empty()).then(|| link(&path(&["pki", mount]), &query))
    }
}

/// What is marked of a certificate that is not good before its end: it is revoked, or the CA that issued it.
pub(super) fn void(found: &PkiCertificate) -> Option<&'static str> {
    match found.revoked {
        Some(_) => Some("revoked"),
        None => found.issuer_revoked().then_some("CA revoked"),
    }
}

/// When a certificate ends, marked if that is soon, or by `void`: why it is not good any more.
pub(in crate::pages) fn end(
    not_after: Option<&Timestamp>,
    void: Option<&str>,
    now: SystemTime,
) -> Cell {
    let Some(end) = time(not_after) else {
        return Cell::text("");
    };
    let left = apart(end, now);
    let cell = Cell::new();
    let cell = match (void, end.duration_since(now)) {
        (Some(why), _) => cell.badge("error", why),
        (None, Err(_)) => cell.badge("", format!("ended {left}")),
        (None, Ok(rest)) if rest < SOON => cell.badge("warning", format!("ends {left}")),
        (None, Ok(_)) => cell.badge("success", format!("ends {left}")),
    };
    cell.below(Part::Muted(moment(end))).whole()
}

fn row(mount: &str, found: &PkiCertificate, now: SystemTime) -> Vec<Cell> {
    let page = path(&["pki", mount, "certificate", &found.serial]);
    let (few, more) = found.names.split_at(found.names.len().min(FEW));
    let named = match few {
        [] if !found.ca.is_empty() => format!("the CA {}", found.ca),
        [] => "without a name".to_owned(),
        few => few.join(", "),
    };
    let name = Cell::link(named, page).and_if(
        !more.is_empty(),
        Part::Muted(format!(" and {} more", more.len())),
    );
    let of = match &*found.profile {
        "" => Cell::new().and(Part::Muted(format!("CA {}", found.ca))),
        profile => Cell::text(profile),
    };
    let end = end(found.not_after.as_ref(), void(found), now);
    vec![name, of, Cell::text(&*found.issuer), end]
}

#[derive(Template)]
#[template(path = "pki/certificates.html")]
struct List {
    tabs: Tabs,
    here: String,
    search: Search,
    table: Table,
    next: Option<String>,
}

pub(super) async fn list(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(search): Query<Search>,
) -> Answer {
    let now = visitor.ui.metacrypt.seal.clock().now();
    let listed = visitor
        .pki()?
        .list_certificates(search.request(&mount, now))
        .await;
    let (listed, refused) = match listed {
        Ok(listed) => (listed.into_inner(), None),
        Err(refused) => (Default::default(), Some(refused)),
    };
    let mut found = listed.certificates;
    found.sort_by_key(|found| found.not_after.map(|end| end.seconds));
    let title = format!("Certificates of {mount}");
    let list = List {
        tabs: tabs(&mount, ""),
        here: path(&["pki", &mount]),
        next: search.next(&mount, &listed.next),
        search,
        table: Table {
            label: "Certificates".to_owned(),
            heads: vec!["Names", "Profile", "Issuer", "End"],
            rows: found.iter().map(|found| row(&mount, found, now)).collect(),
            empty: "There is no certificate like that which you may read.".to_owned(),
        },
    };
    match refused {
        None => visitor.page.render(&title, &list),
        Some(refused) => refusal::again(visitor.page, refused, &title, &list),
    }
}
