//! The authorities' keys, which hosts and people trust, and the profiles.

use askama::Template;
use axum::extract::Path;
use mc_proto::metacrypt::v1::{GetSshCaRequest, SshCa, SshProfile};
use tonic::Code;

use super::{kind, may, principals, readable, tabs};
use crate::{
    engine::ssh::action,
    pages::{
        Answer, Visitor,
        shown::{Cell, Listed, Part, Table, Tabs, length, link, moment, path, said, time},
    },
};

/// One authority, as far as it may be read.
struct Authority {
    name: &'static str,
    /// Whom it vouches for, and what they need of it.
    means: &'static str,
    /// Its keys, as everybody may have them.
    public: String,
    keys: Vec<Key>,
    refused: Option<&'static str>,
}

struct Key {
    signs: bool,
    number: u32,
    made: String,
    fingerprint: String,
    line: String,
}

#[derive(Template)]
#[template(path = "ssh/keys.html")]
struct Keys {
    tabs: Tabs,
    authorities: Vec<Authority>,
    krl: String,
}

fn keys_of(ca: SshCa) -> Vec<Key> {
    let signing = ca.signing;
    let keys = ca.keys.into_iter().map(|key| Key {
        signs: key.number == signing,
        number: key.number,
        made: time(key.created.as_ref()).map_or_else(String::new, moment),
        fingerprint: key.fingerprint,
        line: key.public_key,
    });
    keys.collect()
}

pub(super) async fn keys(visitor: Visitor, Path(mount): Path<String>) -> Answer {
    let public = |file| path(&["v1", "ssh", &mount, file]);
    let mut authorities = Vec::new();
    for (name, file, means) in [
        (
            "user",
            "user-ca",
            "Hosts trust it by TrustedUserCAKeys of sshd: who has a certificate by it logs in as one of its principals.",
        ),
        (
            "host",
            "host-ca",
            "People trust it by a line @cert-authority of known_hosts: hosts with a certificate by it are the ones they say.",
        ),
    ] {
        let request = GetSshCaRequest {
            mount: mount.clone(),
            ca: name.to_owned(),
        };
        let (keys, refused) = match visitor.ssh()?.get_ca(request).await {
            Ok(ca) => (keys_of(ca.into_inner()), None),
            Err(error) => match error.code() {
                Code::PermissionDenied => (
                    Vec::new(),
                    Some("You may not read more of it than everybody does."),
                ),
                Code::NotFound | Code::FailedPrecondition => (Vec::new(), None),
                _ => return Err(error.into()),
            },
        };
        authorities.push(Authority {
            name,
            means,
            public: public(file),
            keys,
            refused,
        });
    }
    let content = Keys {
        tabs: tabs(&mount, "keys"),
        authorities,
        krl: public("krl"),
    };
    visitor
        .page
        .render(&format!("CA keys of {mount}"), &content)
}

fn row(visitor: &Visitor, mount: &str, profile: &SshProfile) -> Vec<Cell> {
    let name = Cell::text(&*profile.name);
    let name = match may(visitor, mount, &profile.name, action::SIGN) {
        true => {
            let query = [("profile", &*profile.name)];
            name.below(Part::Link {
                text: "Sign by it".to_owned(),
                to: link(&path(&["ssh", mount, "sign"]), &query),
            })
        }
        false => name,
    };
    let extensions = profile.extensions();
    let mut allows: Vec<_> = extensions
        .map(|e| said(e.as_str_name(), "SSH_EXTENSION_"))
        .collect();
    if !profile.force_command.is_empty() {
        allows.push(format!("runs only {}", profile.force_command));
    }
    if profile.verify_required {
        allows.push("a security key has to verify its user".to_owned());
    }
    vec![
        name,
        Cell::text(kind(profile.kind())),
        Cell::lines(principals(profile)),
        Cell::lines(allows),
        Cell::lines(profile.source_addresses.iter().cloned()),
        Cell::text(length(profile.max_ttl_s)),
    ]
}

pub(super) async fn profiles(visitor: Visitor, Path(mount): Path<String>) -> Answer {
    let profiles = readable(&visitor, &mount).await?;
    let rows = profiles.iter().map(|one| row(&visitor, &mount, one));
    let listed = Listed {
        tabs: tabs(&mount, "profiles"),
        text: "What certificates may say, whoever asks. They are made by metacrypt ssh profile.",
        table: Table {
            label: "Profiles".to_owned(),
            heads: vec!["Profile", "For", "Principals", "Allows", "From", "At most"],
            rows: rows.collect(),
            empty: "There is no profile that you may read.".to_owned(),
        },
        next: None,
    };
    visitor
        .page
        .render(&format!("Profiles of {mount}"), &listed)
}
