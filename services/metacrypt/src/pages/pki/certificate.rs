//! One certificate: what it says, another in its place, its end.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{
    GetCertificateRequest, PkiCertificate, RenewCertificateRequest, RevocationReason,
    RevokeCertificateRequest,
};
use mcdsl::web::{CsrfField, Form};
use serde::Deserialize;
use tonic::Status;

use super::{
    certificates::{end, void},
    issue::Once,
    key, keys, may, tabs,
};
use crate::{
    engine::pki::action,
    pages::{
        Answer, Visitor,
        ask::{Ask, Choice},
        refusal,
        shown::{Cell, Facts, File, Part, Tabs, moment, path, said, seconds, time, when},
    },
};

/// Mount and serial number.
type At = Path<(String, String)>;

fn page_of(mount: &str, serial: &str) -> String {
    path(&["pki", mount, "certificate", serial])
}

fn reason_name(reason: RevocationReason) -> String {
    match reason {
        RevocationReason::Unspecified => "no reason said".to_owned(),
        reason => said(reason.as_str_name(), "REVOCATION_REASON_").replace('-', " "),
    }
}

fn facts(visitor: &Visitor, mount: &str, found: &PkiCertificate) -> Facts {
    let now = visitor.ui.metacrypt.seal.clock().now();
    let mut facts = vec![
        ("Names", Cell::lines(found.names.iter().cloned())),
        ("Serial number", Cell::code(&*found.serial)),
        (
            "Profile",
            match &*found.profile {
                "" => Cell::text(format!("none: it is the CA {}'s", found.ca)),
                profile => Cell::text(profile),
            },
        ),
        (
            "Issuer",
            Cell::text(&*found.issuer).and_if(
                found.issuer_revoked(),
                Part::Badge("error", "revoked".to_owned()),
            ),
        ),
        ("Valid from", when(found.not_before.as_ref())),
        ("End", end(found.not_after.as_ref(), void(found), now)),
        (
            "For the account",
            match found.account == visitor.who.account {
                true => Cell::text("yours"),
                false if !found.account_name.is_empty() => {
                    Cell::text(&*found.account_name).below(Part::Muted(found.account.clone()))
                }
                false => Cell::code(&*found.account),
            },
        ),
    ];
    if !found.renews.is_empty() {
        let renews = Cell::link(&*found.renews, page_of(mount, &found.renews));
        facts.push(("Renews", renews));
    }
    if let Some(at) = time(found.revoked.as_ref()) {
        let revoked = Cell::text(moment(at)).below(Part::Text(reason_name(found.reason())));
        facts.push(("Revoked", revoked));
    }
    Facts(facts)
}

#[derive(Template)]
#[template(path = "pki/certificate.html")]
struct One {
    tabs: Tabs,
    facts: Facts,
    file: File,
    renew: Option<String>,
    revoke: Option<String>,
}

pub(super) async fn show(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    let request = GetCertificateRequest {
        mount: mount.clone(),
        serial,
    };
    let found = visitor.pki()?.get_certificate(request).await?.into_inner();
    let page = page_of(&mount, &found.serial);
    let now = visitor.ui.metacrypt.seal.clock().now();
    let ended = time(found.not_after.as_ref()).is_some_and(|end| end <= now);
    let leaf = !found.profile.is_empty() && found.revoked.is_none() && !ended;
    let renewed =
        leaf && !found.issuer_revoked() && may(&visitor, &mount, &found.profile, &[action::RENEW]);
    let revoked = leaf && may(&visitor, &mount, &found.profile, &[action::REVOKE]);
    let title = match &*found.names {
        [first, ..] => format!("Certificate for {first}"),
        [] => "Certificate".to_owned(),
    };
    let one = One {
        tabs: tabs(&mount, ""),
        facts: facts(&visitor, &mount, &found),
        file: File {
            name: format!("{}.pem", found.serial),
            text: found.certificate,
        },
        renew: renewed.then(|| format!("{page}/renew")),
        revoke: revoked.then(|| format!("{page}/revoke")),
    };
    visitor.page.render(&title, &one)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Reason {
    reason: String,
}

fn question(visitor: &Visitor, mount: &str, serial: &str) -> Ask {
    let page = page_of(mount, serial);
    let reasons = [
        RevocationReason::Unspecified,
        RevocationReason::KeyCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn,
    ];
    let means = [
        "no reason said",
        "its key is known to others",
        "the names are somebody else's now",
        "another certificate is in its place",
        "it is not used any more",
        "who has it may not any more",
    ];
    let values = reasons.iter().zip(means);
    let values = values.map(|(reason, means)| ((*reason as i32).to_string(), means));
    let text = format!(
        "The certificate {serial} is not valid from then on, for ever: CRL and OCSP say so. Who uses it needs another one first."
    );
    Ask {
        choice: Some(Choice {
            label: "Why",
            field: "reason",
            values: values.collect(),
        }),
        ..Ask::new(visitor, text, format!("{page}/revoke"), "Revoke it", page)
    }
}

const REVOKE: &str = "Revoke the certificate?";

pub(super) async fn ask(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    question(&visitor, &mount, &serial).show(&visitor, REVOKE)
}

pub(super) async fn revoke(
    visitor: Visitor,
    Path((mount, serial)): At,
    Form(typed): Form<Reason>,
) -> Answer {
    let number = typed.reason.parse().ok();
    let reason = number.and_then(|number: i32| RevocationReason::try_from(number).ok());
    let revoked = match reason {
        Some(reason) => {
            let request = RevokeCertificateRequest {
                mount: mount.clone(),
                serial: serial.clone(),
                reason: reason.into(),
            };
            visitor.pki()?.revoke(request).await.map(drop)
        }
        None => Err(Status::invalid_argument("reason: choose one of the list")),
    };
    match revoked {
        Ok(()) => {
            visitor
                .done(&page_of(&mount, &serial), "It is revoked.")
                .await
        }
        Err(refused) => question(&visitor, &mount, &serial).again(&visitor, REVOKE, refused),
    }
}

/// What the next one is to be, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Typed {
    csr: String,
    ttl: String,
    key: String,
}

#[derive(Template)]
#[template(path = "pki/renew.html")]
struct Renewal<'r> {
    csrf: CsrfField,
    tabs: Tabs,
    page: String,
    form: &'r Typed,
    keys: [(&'static str, &'static str); 4],
}

fn form<'r>(visitor: &Visitor, mount: &str, serial: &str, form: &'r Typed) -> Renewal<'r> {
    Renewal {
        csrf: visitor.csrf(),
        tabs: tabs(mount, ""),
        page: page_of(mount, serial),
        form,
        keys: keys(),
    }
}

const RENEW: &str = "Renew the certificate";

pub(super) async fn renewal(visitor: Visitor, Path((mount, serial)): At) -> Answer {
    let typed = Typed::default();
    let content = form(&visitor, &mount, &serial, &typed);
    visitor.page.render(RENEW, &content)
}

pub(super) async fn renew(
    visitor: Visitor,
    Path((mount, serial)): At,
    Form(typed): Form<Typed>,
) -> Answer {
    let renewed = match seconds("ttl_s", &typed.ttl) {
        Ok(ttl_s) => {
            let request = RenewCertificateRequest {
                mount: mount.clone(),
                serial: serial.clone(),
                csr: typed.csr.trim().to_owned(),
                ttl_s,
                key_algorithm: key(&typed.key).into(),
            };
            visitor.pki()?.renew(request).await
        }
        Err(wrong) => Err(wrong),
    };
    match renewed {
        Ok(issued) => Once::of(&mount, issued.into_inner()).show(&visitor),
        Err(refused) => {
            let content = form(&visitor, &mount, &serial, &typed);
            refusal::again(visitor.page.clone(), refused, RENEW, &content)
        }
    }
}
