//! `metacrypt mount`: mounts, and what they can be.

use clap::Subcommand;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, render, view, write_out};
use serde_json::json;

use crate::barrier::{SYSTEM, SYSTEM_STAYS};

use super::{Client, Result, json, json_list, mount_name, removed, seen};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the mounts that one may see
    #[command(visible_alias = "ls")]
    List,
    /// Shows the kinds of engines, and the actions that rules may name, each with the resources that it is asked for on
    Engines,
    /// Makes a mount
    Create {
        /// Its name, the first part of all paths in it: small letters, digits and `-`
        #[arg(value_parser = mount_name)]
        name: String,
        /// What it is, of `metacrypt mount engines`
        #[arg(long, value_name = "KIND")]
        engine: String,
    },
    /// Removes a mount with all that is in it, for ever
    #[command(visible_alias = "rm")]
    Delete {
        /// The mount
        #[arg(value_parser = mount_name)]
        name: String,
        /// Also one that has what is not to be lost, like keys that are not deletable
        #[arg(long)]
        with_all: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut system = client.system().await?;
        match self {
            Self::List => {
                let mounts = call(system.list_mounts(pb::ListMountsRequest {}))
                    .await?
                    .mounts;
                let rows = mounts.iter().map(row).collect();
                let value = json_list("Mount", &mounts)?;
                let empty =
                    "there is no mount that you may see; `metacrypt mount create` makes one";
                out.table(&["MOUNT", "ENGINE", "CREATED"], rows, empty, &value)?;
            }
            Self::Engines => {
                let answer = call(system.list_engines(pb::ListEnginesRequest {})).await?;
                if out.json {
                    return Ok(out.json(&json("ListEnginesResponse", &answer)?)?);
                }
                let engines = &answer.engines;
                let engines = engines
                    .iter()
                    .map(|engine| vec![engine.name.clone(), engine.description.clone()]);
                let places = answer
                    .places
                    .iter()
                    .map(|place| vec![place.action.clone(), view::names(&place.resources)]);
                let engines = render(&["ENGINE", "FOR"], engines.collect());
                let places = render(&["ACTION", "ON"], places.collect());
                write_out(&format!("{engines}\n\n{places}\n"))?;
            }
            Self::Create { name, engine } => {
                let request = pb::CreateMountRequest {
                    name: name.clone(),
                    engine: engine.clone(),
                };
                let made = call(system.create_mount(request)).await?;
                let sentence = format!("{name} is a mount of {engine}");
                out.done(&sentence, &json("Mount", &made)?)?;
            }
            Self::Delete {
                name,
                with_all,
                yes,
            } => {
                let list = seen(*yes, system.list_mounts(pb::ListMountsRequest {})).await?;
                let list = list.map(|list| list.mounts).unwrap_or_default();
                let found = list.iter().find(|found| found.name == *name);
                if name == SYSTEM {
                    return Err(Failure::new(Exit::Refused, SYSTEM_STAYS));
                }
                if !yes && found.is_none() {
                    let what = format!("there is no mount {name:?} that you may see");
                    return Err(Failure::new(Exit::NotFound, what).hint("`metacrypt mount list`"));
                }
                let engine = found.map_or_else(String::new, |found| {
                    format!(", a mount of {},", found.engine)
                });
                let all = match with_all {
                    true => "for ever: what its keys encrypted is lost",
                    false => {
                        "for ever, unless it has what is not to be lost, like keys that are not deletable (--with-all)"
                    }
                };
                let what = format!("{name}{engine} will be removed with all that is in it, {all}");
                prompt::confirm(&what, *yes)?;
                let confirm = with_all.then(|| name.clone()).unwrap_or_default();
                let request = pb::DeleteMountRequest {
                    name: name.clone(),
                    confirm,
                };
                removed(system.delete_mount(request)).await?;
                out.done(&format!("{name} is removed"), &json!({ "deleted": name }))?;
            }
        }
        Ok(())
    }
}

fn row(mount: &pb::Mount) -> Vec<String> {
    vec![
        mount.name.clone(),
        mount.engine.clone(),
        view::time(mount.created.as_ref()),
    ]
}
