//! The CAs of a mount, and the profiles that say what certificates may be.

use std::time::SystemTime;

use axum::extract::Path;
use mc_proto::metacrypt::v1::{ListIssuersRequest, PkiIssuer, PkiProfile};
use mcdsl::web::Query;
use serde::Deserialize;

use super::{ISSUING, certificates::end, key_name, may, readable, tabs};
use crate::pages::{
    Answer, Visitor,
    shown::{Cell, Facts, Listed, Part, Table, length, link, path},
};

fn public(mount: &str, issuer: &str, what: &str) -> String {
    let issuer = path(&["v1", "pki", mount, "issuer", issuer]);
    match what {
        "" => issuer,
        what => format!("{issuer}/{what}"),
    }
}

fn row(mount: &str, issuer: &PkiIssuer, now: SystemTime) -> Vec<Cell> {
    let kind = match issuer.root {
        true => Cell::text("root"),
        false => Cell::text("issuer").and_if(
            !issuer.under.is_empty(),
            Part::Muted(format!(" below {}", issuer.under)),
        ),
    };
    let kind = match issuer.default {
        true => kind.badge("notice", "default"),
        false => kind,
    };
    let void = issuer.revoked.as_ref().map(|_| "revoked");
    let kind = match issuer.disabled && void.is_none() {
        true => kind.badge("warning", "disabled"),
        false => kind,
    };
    let file = |text, what| Part::File {
        text,
        to: public(mount, &issuer.name, what),
    };
    let files = Cell::new()
        .and(file("Certificate", ""))
        .and(file("Chain", "chain"))
        .and(file("CRL", "crl"));
    vec![
        Cell::text(&*issuer.name).below(Part::Muted(issuer.subject.clone())),
        kind,
        Cell::text(key_name(issuer.key_algorithm())).whole(),
        end(issuer.not_after.as_ref(), void, now),
        files,
    ]
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct After {
    after: String,
}

pub(super) async fn issuers(
    visitor: Visitor,
    Path(mount): Path<String>,
    Query(After { after }): Query<After>,
) -> Answer {
    let request = ListIssuersRequest {
        mount: mount.clone(),
        after,
        limit: 0,
    };
    let listed = visitor.pki()?.list_issuers(request).await?.into_inner();
    let now = visitor.ui.metacrypt.seal.clock().now();
    let listed = Listed {
        tabs: tabs(&mount, "issuers"),
        text: "Certificates, chains and CRLs are for everybody; the addresses need no login. Roots and issuers are made by metacrypt pki issuer.",
        table: Table {
            label: "Issuers".to_owned(),
            heads: vec!["Issuer", "Kind", "Key", "End", "Files"],
            rows: listed
                .issuers
                .iter()
                .map(|one| row(&mount, one, now))
                .collect(),
            empty: "There is no issuer that you may read.".to_owned(),
        },
        next: (!listed.next.is_empty()).then(|| {
            link(
                &path(&["pki", &mount, "issuers"]),
                &[("after", &listed.next)],
            )
        }),
    };
    let title = format!("Issuers of {mount}");
    visitor.page.render(&title, &listed)
}

/// The names that certificates of a profile may have, each in a line.
fn named(profile: &PkiProfile) -> Cell {
    let exact = [&profile.dns_names, &profile.ip_networks, &profile.uris];
    let exact = exact.into_iter().flatten().cloned();
    let below = profile.dns_suffixes.iter().chain(&profile.uri_prefixes);
    let below = below.map(|name| format!("below {name}"));
    let wildcards = profile.wildcards.then(|| "wildcards too".to_owned());
    Cell::lines(exact.chain(below).chain(wildcards))
}

fn uses(profile: &PkiProfile) -> Cell {
    let parts = [
        (profile.server, "servers"),
        (profile.client, "clients"),
        (profile.acme.is_some(), "ACME"),
    ];
    Cell::lines(
        parts
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, what)| what),
    )
}

fn key_names(profile: &PkiProfile) -> Cell {
    Cell::lines(profile.key_algorithms().map(key_name))
}

/// What a profile says.
pub(super) fn facts(profile: &PkiProfile) -> Facts {
    let life = match profile.ttl_s {
        0 => profile.max_ttl_s,
        ttl_s => ttl_s,
    };
    Facts(vec![
        ("Issuer", Cell::text(&*profile.issuer)),
        ("Names", named(profile)),
        ("For", uses(profile)),
        ("Keys", key_names(profile)),
        ("Lifetime", Cell::text(length(life))),
        ("At most", Cell::text(length(profile.max_ttl_s))),
    ])
}

pub(super) async fn profiles(visitor: Visitor, Path(mount): Path<String>) -> Answer {
    let profiles = readable(&visitor, &mount).await?;
    let row = |profile: &PkiProfile| {
        let name = Cell::text(&*profile.name);
        let name = match may(&visitor, &mount, &profile.name, &ISSUING) {
            true => {
                let issue = path(&["pki", &mount, "issue"]);
                let query = [("profile", &*profile.name)];
                name.and(Part::Break).and(Part::Link {
                    text: "Issue by it".to_owned(),
                    to: crate::pages::shown::link(&issue, &query),
                })
            }
            false => name,
        };
        vec![
            name,
            Cell::text(&*profile.issuer),
            named(profile),
            uses(profile),
            key_names(profile),
            Cell::text(length(profile.max_ttl_s)),
        ]
    };
    let listed = Listed {
        tabs: tabs(&mount, "profiles"),
        text: "What certificates may be, whoever asks. They are made by metacrypt pki profile.",
        table: Table {
            label: "Profiles".to_owned(),
            heads: vec!["Profile", "Issuer", "Names", "For", "Keys", "At most"],
            rows: profiles.iter().map(row).collect(),
            empty: "There is no profile that you may read.".to_owned(),
        },
        next: None,
    };
    let title = format!("Profiles of {mount}");
    visitor.page.render(&title, &listed)
}
