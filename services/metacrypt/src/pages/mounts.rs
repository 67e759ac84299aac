//! Mounts: what engines there are, each under its name.

use askama::Template;
use axum::{extract::Path, routing::get};
use mc_proto::metacrypt::v1::{
    CreateMountRequest, DeleteMountRequest, Engine, ListEnginesRequest, Mount,
};
use mcdsl::web::{CsrfField, Form, LocalPath, Query};
use serde::Deserialize;
use tonic::Status;

use crate::barrier::SYSTEM;

use super::{
    Answer, Table as Routes, Visitor,
    ask::Ask,
    pki, refusal,
    shown::{Cell, Part, Table, path, when},
    ssh, transit,
};

pub(super) const LIST: &str = "/mounts";
const DELETE: &str = "/mounts/{name}/delete";

pub(super) fn table() -> Routes {
    vec![
        (LIST, get(show).post(make)),
        (DELETE, get(ask).post(delete)),
    ]
}

/// The page of a mount; of some kinds there is none.
fn page_of(mount: &Mount) -> Option<String> {
    let home = match &*mount.engine {
        "pki" => pki::HOME,
        "ssh" => ssh::HOME,
        "transit" => transit::HOME,
        _ => return None,
    };
    Some(format!("{home}{}", path(&[&mount.name])))
}

/// Mounts as a table; `acts`: with the buttons of who may remove one.
pub(super) fn table_of(visitor: &Visitor, mounts: &[Mount], acts: bool) -> Table {
    let acts = acts && visitor.who.is_admin();
    let row = |mount: &Mount| {
        let name = match page_of(mount) {
            Some(page) => Cell::link(&*mount.name, page),
            None => Cell::text(&*mount.name),
        };
        let mut row = vec![
            name,
            Cell::text(&*mount.engine),
            when(mount.created.as_ref()),
        ];
        if acts && mount.engine == SYSTEM {
            row.push(Cell::new().and(Part::Muted(
                "the policy, kept by Metacrypt itself".to_owned(),
            )));
        } else if acts {
            row.push(Cell::new().and(Part::Button {
                text: "Remove",
                to: path(&["mounts", &mount.name, "delete"]),
                label: format!("Remove the mount {}", mount.name),
            }));
        }
        row
    };
    let mut heads = vec!["Mount", "Engine", "Made"];
    if acts {
        heads.push("");
    }
    Table {
        label: "Mounts".to_owned(),
        heads,
        rows: mounts.iter().map(row).collect(),
        empty: "There is no mount that you may see.".to_owned(),
    }
}

#[derive(Template)]
#[template(path = "mounts.html")]
struct List {
    csrf: CsrfField,
    table: Table,
    /// Of who may make one.
    engines: Vec<Engine>,
    new: New,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct New {
    name: String,
    engine: String,
}

const TITLE: &str = "Mounts";

async fn list(visitor: &Visitor, new: New) -> Result<List, mcdsl::web::ErrorPage> {
    let mounts = visitor.mounts("").await?;
    let engines = match visitor.who.is_admin() {
        true => {
            let mut system = visitor.system()?;
            let listed = system.list_engines(ListEnginesRequest {}).await?;
            listed.into_inner().engines
        }
        false => Vec::new(),
    };
    Ok(List {
        csrf: visitor.csrf(),
        table: table_of(visitor, &mounts, true),
        engines,
        new,
    })
}

async fn show(visitor: Visitor) -> Answer {
    let list = list(&visitor, New::default()).await?;
    visitor.page.render(TITLE, &list)
}

async fn make(visitor: Visitor, Form(new): Form<New>) -> Answer {
    let request = CreateMountRequest {
        name: new.name.trim().to_owned(),
        engine: new.engine.clone(),
    };
    match visitor.system()?.create_mount(request).await {
        Ok(made) => {
            let text = format!("The mount {} is there.", made.get_ref().name);
            visitor.done(LIST, text).await
        }
        Err(refused) => {
            let list = list(&visitor, new).await?;
            refusal::again(visitor.page, refused, TITLE, &list)
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Confirmed {
    confirm: String,
}

fn question(visitor: &Visitor, name: &str) -> Ask {
    let text = format!(
        "The mount {name} goes with all that is in it, for ever: its keys are gone, and what they encrypted cannot be decrypted by anybody."
    );
    let to = path(&["mounts", name, "delete"]);
    Ask {
        repeat: Some(name.to_owned()),
        ..Ask::new(visitor, text, to, "Remove the mount", LIST.to_owned())
    }
}

async fn ask(visitor: Visitor, Path(name): Path<String>) -> Answer {
    let title = format!("Remove the mount {name}?");
    question(&visitor, &name).show(&visitor, &title)
}

async fn delete(
    visitor: Visitor,
    Path(name): Path<String>,
    Form(confirmed): Form<Confirmed>,
) -> Answer {
    let confirm = confirmed.confirm.trim().to_owned();
    let deleted = if confirm == name {
        let name = name.clone();
        let request = DeleteMountRequest { name, confirm };
        visitor.system()?.delete_mount(request).await.map(drop)
    } else {
        Err(Status::invalid_argument(format!(
            "what you wrote is not the mount's name, {name:?}"
        )))
    };
    match deleted {
        Ok(()) => {
            visitor
                .done(LIST, format!("The mount {name} is gone."))
                .await
        }
        Err(refused) => {
            let title = format!("Remove the mount {name}?");
            question(&visitor, &name).again(&visitor, &title, refused)
        }
    }
}

/// Which mount somebody means.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    mount: String,
}

#[derive(Template)]
#[template(path = "engine.html")]
struct Choose {
    home: &'static str,
    what: &'static str,
    table: Table,
}

/// The page of a kind of mounts: the mount's own if there is one alone; who may see none may say which.
pub(super) async fn choose(
    visitor: Visitor,
    Query(which): Query<Which>,
    kind: &str,
    home: &'static str,
    what: &'static str,
) -> Answer {
    let mounts = visitor.mounts(kind).await?;
    let to = match (which.mount.trim(), &*mounts) {
        ("", [one]) => Some(&*one.name),
        ("", _) => None,
        (name, _) => Some(name),
    };
    if let Some(name) = to {
        let to = format!("{home}{}", path(&[name]));
        return visitor
            .page
            .redirect(&LocalPath::or_home(Some(&to)), None)
            .await;
    }
    let table = table_of(&visitor, &mounts, false);
    visitor.page.render(what, &Choose { home, what, table })
}
