//! SSH: certificates for those who log in and for machines, and what vouches for them.

mod authority;
mod certificate;
mod certificates;
mod revocations;
mod sign;

use axum::routing::{get, post};
use mc_proto::metacrypt::v1::{ListSshProfilesRequest, SshKind, SshProfile, ssh_principal::What};
use mcdsl::web::{ErrorPage, Query};

use super::{
    Answer, Table as Routes, Visitor,
    mounts::{Which, choose},
    shown::{Tabs, path},
};
use crate::engine::Act;

pub(super) const HOME: &str = "/ssh";
const LIST: &str = "/ssh/{mount}";
const SIGN: &str = "/ssh/{mount}/sign";
const KEYS: &str = "/ssh/{mount}/keys";
const PROFILES: &str = "/ssh/{mount}/profiles";
const REVOCATIONS: &str = "/ssh/{mount}/revocations";
const LIFT: &str = "/ssh/{mount}/revocations/lift";
const ONE: &str = "/ssh/{mount}/certificate/{serial}";
const REVOKE: &str = "/ssh/{mount}/certificate/{serial}/revoke";
/// Most pages of an API's list that one page here has.
const MOST: usize = 10;

pub(super) fn table() -> Routes {
    vec![
        (HOME, get(home)),
        (LIST, get(certificates::list)),
        (SIGN, get(sign::show).post(sign::sign)),
        (KEYS, get(authority::keys)),
        (PROFILES, get(authority::profiles)),
        (
            REVOCATIONS,
            get(revocations::list).post(revocations::revoke),
        ),
        (LIFT, post(revocations::lift)),
        (ONE, get(certificate::show)),
        (REVOKE, get(certificate::ask).post(certificate::revoke)),
    ]
}

async fn home(visitor: Visitor, which: Query<Which>) -> Answer {
    choose(visitor, which, "ssh", HOME, "SSH").await
}

fn tabs(mount: &str, here: &str) -> Tabs {
    let links = [
        ("", "Certificates"),
        ("sign", "Sign"),
        ("keys", "CA keys"),
        ("profiles", "Profiles"),
        ("revocations", "Revocations"),
    ];
    let at = |part: &str| match part {
        "" => path(&["ssh", mount]),
        part => path(&["ssh", mount, part]),
    };
    Tabs {
        label: format!("Mount {mount}"),
        links: links.map(|(part, label)| (at(part), label)).into(),
        here: at(here),
    }
}

/// Whether he may do that by certificates of a profile.
fn may(visitor: &Visitor, mount: &str, profile: &str, action: Act) -> bool {
    visitor.may(action, &[mount, "profiles", profile])
}

/// The profiles that he may read.
async fn readable(visitor: &Visitor, mount: &str) -> Result<Vec<SshProfile>, ErrorPage> {
    let (mut profiles, mut after) = (Vec::new(), String::new());
    for _ in 0..MOST {
        let request = ListSshProfilesRequest {
            mount: mount.to_owned(),
            after,
            limit: 0,
        };
        let page = visitor.ssh()?.list_profiles(request).await?;
        let page = page.into_inner();
        profiles.extend(page.profiles);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    Ok(profiles)
}

fn kind(kind: SshKind) -> &'static str {
    match kind {
        SshKind::Host => "hosts",
        _ => "users",
    }
}

/// The principals of a profile, each in words.
fn principals(profile: &SshProfile) -> Vec<String> {
    let each = profile.principals.iter().filter_map(|p| p.what.as_ref());
    let each = each.map(|what| match what {
        What::Exact(name) => name.clone(),
        What::Account(_) => "one's own account".to_owned(),
        What::Below(domain) => format!("hosts below {domain}"),
    });
    each.collect()
}
