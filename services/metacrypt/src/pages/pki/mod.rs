//! Certificates: what was issued, by what, and more of it.

mod certificate;
mod certificates;
mod issue;
mod issuers;

pub(super) use self::certificates::end;

use axum::routing::get;
use mc_proto::metacrypt::v1::{CertificateKey, ListPkiProfilesRequest, PkiProfile};
use mcdsl::web::{ErrorPage, Query};

use super::{
    Answer, Table as Routes, Visitor,
    mounts::{Which, choose},
    shown::{Tabs, path, said},
};
use crate::engine::{Act, pki::action};

pub(super) const HOME: &str = "/pki";
const LIST: &str = "/pki/{mount}";
const ISSUE: &str = "/pki/{mount}/issue";
const ISSUERS: &str = "/pki/{mount}/issuers";
const PROFILES: &str = "/pki/{mount}/profiles";
const ONE: &str = "/pki/{mount}/certificate/{serial}";
const RENEW: &str = "/pki/{mount}/certificate/{serial}/renew";
const REVOKE: &str = "/pki/{mount}/certificate/{serial}/revoke";

pub(super) fn table() -> Routes {
    vec![
        (HOME, get(home)),
        (LIST, get(certificates::list)),
        (ISSUE, get(issue::show).post(issue::issue)),
        (ISSUERS, get(issuers::issuers)),
        (PROFILES, get(issuers::profiles)),
        (ONE, get(certificate::show)),
        (RENEW, get(certificate::renewal).post(certificate::renew)),
        (REVOKE, get(certificate::ask).post(certificate::revoke)),
    ]
}

async fn home(visitor: Visitor, which: Query<Which>) -> Answer {
    choose(visitor, which, "pki", HOME, "Certificates").await
}

fn tabs(mount: &str, here: &str) -> Tabs {
    let links = [
        ("", "Certificates"),
        ("issue", "Issue"),
        ("issuers", "Issuers"),
        ("profiles", "Profiles"),
    ];
    let at = |part: &str| match part {
        "" => path(&["pki", mount]),
        part => path(&["pki", mount, part]),
    };
    Tabs {
        label: format!("Mount {mount}"),
        links: links.map(|(part, label)| (at(part), label)).into(),
        here: at(here),
    }
}

/// Whether he may do one of these by certificates of a profile.
fn may(visitor: &Visitor, mount: &str, profile: &str, actions: &[Act]) -> bool {
    let on = [mount, "profiles", profile];
    actions.iter().any(|action| visitor.may(*action, &on))
}

/// Pages of profiles that are read at most: as many as there may be.
const MOST: usize = 10;

/// The profiles that he may read.
async fn readable(visitor: &Visitor, mount: &str) -> Result<Vec<PkiProfile>, ErrorPage> {
    let (mut all, mut after) = (Vec::new(), String::new());
    for _ in 0..MOST {
        let request = ListPkiProfilesRequest {
            mount: mount.to_owned(),
            after,
            limit: 0,
        };
        let page = visitor.pki()?.list_profiles(request).await?.into_inner();
        all.extend(page.profiles);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    Ok(all)
}

/// What issues.
const ISSUING: [Act; 2] = [action::ISSUE, action::SIGN];

/// Keys that are made here, with what they are called.
fn keys() -> [(&'static str, &'static str); 4] {
    [
        ("", "as the profile says"),
        ("ecdsa-p256", "ECDSA P-256"),
        ("ecdsa-p384", "ECDSA P-384"),
        ("ed25519", "Ed25519"),
    ]
}

fn key(text: &str) -> CertificateKey {
    match text {
        "ecdsa-p256" => CertificateKey::EcdsaP256,
        "ecdsa-p384" => CertificateKey::EcdsaP384,
        "ed25519" => CertificateKey::Ed25519,
        _ => CertificateKey::Unspecified,
    }
}

fn key_name(key: CertificateKey) -> String {
    said(key.as_str_name(), "CERTIFICATE_KEY_")
}
