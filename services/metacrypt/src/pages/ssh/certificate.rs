//! One certificate, and its end.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{
    GetSshCertificateRequest, RevokeSshCertificateRequest, SshCertificate,
};

use super::{certificates::void, kind, may, tabs};
use crate::{
    engine::ssh::action,
    pages::{
        Answer, Visitor,
        ask::Ask,
        pki::end,
        shown::{Cell, Facts, File, Tabs, path, when},
    },
};

/// Mount and serial number.
type At = Path<(String, u64)>;

pub(super) fn page_of(mount: &str, serial: u64) -> String {
    path(&["ssh", mount, "certificate", &serial.to_string()])
}

/// What a certificate says.
pub(super) fn facts(visitor: &Visitor, found: &SshCertificate) -> Facts {
    let now = visitor.ui.metacrypt.seal.clock().now();
    Facts(vec![
        ("Principals", Cell::lines(found.principals.iter().cloned())),
        ("For", Cell::text(kind(found.kind()))),
        ("Account", Cell::text(&*found.key_id)),
        ("Profile", Cell::text(&*found.profile)),
        ("Serial number", Cell::code(found.serial.to_string())),
        ("Valid from", when(found.valid_after.as_ref())),
        ("End", end(found.valid_before.as_ref(), void(found), now)),
        ("Key", Cell::code(&*found.fingerprint)),
        ("Signed by", Cell::code(&*found.ca_fingerprint)),
    ])
}

/// The file that ssh looks for beside the key.
pub(super) fn file(found: &SshCertificate) -> File {
    File {
        name: format!("{}-cert.pub", found.serial),
        text: format!("{}\n", found.certificate.trim_end()),
    }
}

#[derive(Template)]
#[template(path = "ssh/certificate.html")]
struct One {
    tabs: Tabs,
    facts: Facts,
    file: File,
    revoke: Option<String>,
}

pub(super) async fn show(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    let request = GetSshCertificateRequest {
        mount: mount.clone(),
        serial,
    };
    let found = visitor.ssh()?.get_certificate(request).await?;
    let found = found.into_inner();
    let revoke = !found.revoked && may(&visitor, &mount, &found.profile, action::REVOKE);
    let one = One {
        tabs: tabs(&mount, ""),
        facts: facts(&visitor, &found),
        file: file(&found),
        revoke: revoke.then(|| format!("{}/revoke", page_of(&mount, serial))),
    };
    let title = format!("Certificate for {}", found.principals.join(", "));
    visitor.page.render(&title, &one)
}

fn question(visitor: &Visitor, mount: &str, serial: u64) -> Ask {
    let page = page_of(mount, serial);
    let text = format!(
        "The certificate {serial} is in the list of what is revoked from then on, for ever. Hosts that read the list refuse it."
    );
    Ask::new(visitor, text, format!("{page}/revoke"), "Revoke it", page)
}

const REVOKE: &str = "Revoke the certificate?";

pub(super) async fn ask(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    question(&visitor, &mount, serial).show(&visitor, REVOKE)
}

pub(super) async fn revoke(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    let request = RevokeSshCertificateRequest {
        mount: mount.clone(),
        serial,
    };
    match visitor.ssh()?.revoke(request).await {
        Ok(_) => {
            visitor
                .done(&page_of(&mount, serial), "It is revoked.")
                .await
        }
        Err(refused) => question(&visitor, &mount, serial).again(&visitor, REVOKE, refused),
    }
}
