//! Transit: keys, their versions, and small texts that go through them.

mod key;
mod new;

use axum::{
    extract::Path,
    routing::{get, post},
};
use mc_proto::metacrypt::v1::{KeyAlgorithm, ListKeysRequest, TransitKeyEntry};
use mcdsl::web::Query;
use serde::Deserialize;

use super::{
    Answer, Table as Routes, Visitor,
    mounts::{Which, choose},
    shown::{Cell, Listed, Table, Tabs, link, path, said, when},
};
use crate::engine::transit::action;

pub(super) const HOME: &str = "/transit";
const LIST: &str = "/transit/{mount}";
const NEW: &str = "/transit/{mount}/new";
const KEY: &str = "/transit/{mount}/key/{name}";
const ROTATE: &str = "/transit/{mount}/key/{name}/rotate";
const ENCRYPT: &str = "/transit/{mount}/key/{name}/encrypt";
const DECRYPT: &str = "/transit/{mount}/key/{name}/decrypt";

pub(super) fn table() -> Routes {
    vec![
        (HOME, get(home)),
        (LIST, get(list)),
        (NEW, get(new::show).post(new::make)),
        (KEY, get(key::show)),
        (ROTATE, get(key::ask).post(key::rotate)),
        (ENCRYPT, post(key::encrypt)),
        (DECRYPT, post(key::decrypt)),
    ]
}

async fn home(visitor: Visitor, which: Query<Which>) -> Answer {
    choose(visitor, which, "transit", HOME, "Transit").await
}

/// A name that stands for any, where it is asked whether a key may be made.
const ANY: &str = "new";

fn tabs(visitor: &Visitor, mount: &str, here: &str) -> Tabs {
    let all = path(&["transit", mount]);
    let new = path(&["transit", mount, "new"]);
    let mut links = vec![(all.clone(), "Keys")];
    if here == "new" || visitor.may(action::CREATE, &[mount, "keys", ANY]) {
        links.push((new.clone(), "New key"));
    }
    Tabs {
        label: format!("Mount {mount}"),
        links,
        here: match here {
            "new" => new,
            _ => all,
        },
    }
}

/// As the tool has it, too.
fn algorithm(algorithm: KeyAlgorithm) -> String {
    said(algorithm.as_str_name(), "KEY_ALGORITHM_").replace("aes-256", "aes256")
}

fn page_of(mount: &str, name: &str) -> String {
    path(&["transit", mount, "key", name])
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct From {
    after: String,
}

fn row(mount: &str, key: &TransitKeyEntry) -> Vec<Cell> {
    vec![
        Cell::link(&*key.name, page_of(mount, &key.name)),
        Cell::text(algorithm(key.algorithm())).whole(),
        Cell::text(key.newest_version.to_string()),
        when(key.created.as_ref()),
    ]
}

async fn list(visitor: Visitor, Path(mount): Path<String>, Query(from): Query<From>) -> Answer {
    let request = ListKeysRequest {
        mount: mount.clone(),
        after: from.after,
        limit: 0,
    };
    let listed = visitor.transit()?.list_keys(request).await?.into_inner();
    let next = link(&path(&["transit", &mount]), &[("after", &listed.next)]);
    let listed = Listed {
        tabs: tabs(&visitor, &mount, ""),
        text: "Keys that encrypt, sign and authenticate for others, and stay here.",
        next: (!listed.next.is_empty()).then_some(next),
        table: Table {
            label: "Keys".to_owned(),
            heads: vec!["Key", "Algorithm", "Newest version", "Made"],
            rows: listed.keys.iter().map(|key| row(&mount, key)).collect(),
            empty: "There is no key that you may read.".to_owned(),
        },
    };
    visitor.page.render(&format!("Keys of {mount}"), &listed)
}
