//! `metacrypt user`: what accounts write to each other.

use clap::{Subcommand, ValueEnum};
use data_encoding::BASE64;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, view};
use serde_json::json;

use super::{
    At, Client, Result, at,
    input::Input,
    json, json_list, mount_name, seen,
    terminal::{Raw, escaped},
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Curve {
    X25519,
    P256,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes one's own keys, if there are none, so that others may write
    Join {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Makes another version of one's own keys, by which others write from now on
    Rotate {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Drops versions of one's own keys: what was written to those and by those is lost
    Trim {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Those below it
        #[arg(long, value_name = "N")]
        below: u32,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Shows the versions of somebody's keys
    Show {
        /// MOUNT/ACCOUNT
        #[arg(value_parser = at)]
        account: At,
    },
    /// Shows who has keys, of those that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Writes stdin to others, so that they alone read it
    Seal {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// To this account; repeatable, up to 64. Name yourself to read it later. With its id, which `show` tells, it is written to that one alone
        #[arg(long, value_name = "ACCOUNT[=ID]", required = true)]
        to: Vec<String>,
        /// What it belongs to; who reads it has to say the same
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        about: String,
        /// On which two agree on a key
        #[arg(long, value_enum, default_value = "x25519")]
        curve: Curve,
        #[command(flatten)]
        input: Input,
    },
    /// Reads what somebody wrote, which `seal` printed, from stdin
    Open {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// What it belongs to
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        about: String,
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        raw: Raw,
    },
    /// Deletes somebody's keys: what was written to him, and by him, is lost
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/ACCOUNT
        #[arg(value_parser = at)]
        account: At,
        /// Of the account of this id, which has the name or had it before [default: who has it]
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Whom it is written to, and who of them is meant by his id.
fn recipients(to: &[String]) -> (Vec<String>, Vec<pb::UserAccount>) {
    let parts = to.iter().map(|one| match one.split_once('=') {
        Some((name, id)) => (name, Some(id)),
        None => (one.as_str(), None),
    });
    let meant = parts.clone().filter_map(|(name, id)| {
        Some(pb::UserAccount {
            name: name.to_owned(),
            account: id?.to_owned(),
        })
    });
    (
        parts.map(|(name, _)| name.to_owned()).collect(),
        meant.collect(),
    )
}

/// Whether there are keys of the account of this id, or without one of who has the name.
fn has(keys: &pb::UserKeys, id: &str) -> bool {
    match id {
        "" => !keys.account.is_empty(),
        id => keys.account == id || keys.former.iter().any(|former| former == id),
    }
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut user = client.user().await?;
        let keys = match self {
            Self::Join { mount } => {
                let mount = mount.clone();
                call(user.create_keys(pb::CreateUserKeysRequest { mount })).await?
            }
            Self::Rotate { mount } => {
                let mount = mount.clone();
                call(user.rotate_keys(pb::RotateUserKeysRequest { mount })).await?
            }
            Self::Trim { mount, below, yes } => {
                let what = format!(
                    "versions of your keys below {below} will be dropped: what was written to those and by those is lost"
                );
                prompt::confirm(&what, *yes)?;
                let request = pb::TrimUserKeysRequest {
                    mount: mount.clone(),
                    min_version: *below,
                };
                call(user.trim_keys(request)).await?
            }
            Self::Show { account } => {
                let At { mount, name } = account.clone();
                call(user.get_keys(pb::GetUserKeysRequest { mount, name })).await?
            }
            Self::List { mount } => return list(client, out, mount).await,
            Self::Seal {
                mount,
                to,
                about,
                curve,
                input,
            } => {
                let curve = match curve {
                    Curve::X25519 => pb::UserCurve::X25519,
                    Curve::P256 => pb::UserCurve::P256,
                };
                let (recipients, meant) = recipients(to);
                let request = pb::SealToUsersRequest {
                    mount: mount.clone(),
                    recipients,
                    meant,
                    plaintext: input.read()?,
                    associated_data: about.clone().into_bytes(),
                    curve: curve.into(),
                };
                let answer = call(user.seal(request)).await?;
                for one in answer.recipients.iter().filter(|one| one.name_was_anothers) {
                    let pb::UserRecipient { name, account, .. } = one;
                    eprintln!(
                        "{name} is the account {account}; another one had that name before: make sure that this one is meant"
                    );
                }
                let sealed = BASE64.encode(&answer.sealed);
                return Ok(out.done(&sealed, &json("SealToUsersResponse", &answer)?)?);
            }
            Self::Open {
                mount,
                about,
                input,
                raw,
            } => return open(client, out, mount, about, input, raw).await,
            Self::Delete { account, id, yes } => {
                let At { mount, name } = account.clone();
                let of = match &**id {
                    "" => name.clone(),
                    id => format!("{name} (the account {id})"),
                };
                let request = pb::GetUserKeysRequest {
                    mount: mount.clone(),
                    name: name.clone(),
                };
                let found = seen(*yes, user.get_keys(request)).await?;
                if found.is_some_and(|found| !has(&found, id)) {
                    let what = format!("{of} has no keys in {mount}");
                    return Err(Failure::new(Exit::NotFound, what)
                        .hint("`metacrypt user show` tells whose there are"));
                }
                let what = format!(
                    "the keys of {of} in {mount} will be deleted: what was written to him and by him is lost"
                );
                prompt::confirm(&what, *yes)?;
                let sentence = format!("the keys of {of} are deleted");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                let request = pb::DeleteUserKeysRequest {
                    mount,
                    name,
                    account: id.clone(),
                };
                call(user.delete_keys(request)).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        let value = json("UserKeys", &keys)?;
        Ok(out.table(&HEADER, rows(&keys), "there are no keys", &value)?)
    }
}

const HEADER: [&str; 4] = ["ACCOUNT", "ID", "VERSION", "CREATED"];

fn rows(keys: &pb::UserKeys) -> Vec<Vec<String>> {
    let row = |version: &pb::UserKeyVersion| {
        let created = view::time(version.created.as_ref());
        let (name, id) = (keys.name.clone(), keys.account.clone());
        vec![name, id, version.version.to_string(), created]
    };
    let mut rows: Vec<_> = keys.versions.iter().map(row).collect();
    for id in &keys.former {
        let name = format!("{} (before)", keys.name);
        rows.push(vec![name, id.clone(), "-".to_owned(), "-".to_owned()]);
    }
    rows
}

/// A row of each: the version by which others write.
async fn list(client: &Client, out: Output, mount: &str) -> Result {
    let mut user = client.user().await?;
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let request = pb::ListUserKeysRequest {
            mount: mount.to_owned(),
            after,
            limit: 0,
        };
        let page = call(user.list_keys(request)).await?;
        all.extend(page.users);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    let newest = |keys: &pb::UserKeys| {
        let from = keys.versions.len().saturating_sub(1);
        let versions = keys.versions[from..].to_vec();
        rows(&pb::UserKeys {
            versions,
            ..keys.clone()
        })
    };
    let rows = all.iter().flat_map(newest).collect();
    let empty = format!("nobody has keys in {mount} whom you may read");
    let empty = match all.is_empty() {
        true => client.nothing(mount, "user", &empty).await?,
        false => empty,
    };
    Ok(out.table(&HEADER, rows, &empty, &json_list("UserKeys", &all)?)?)
}

async fn open(
    client: &Client,
    out: Output,
    mount: &str,
    about: &str,
    input: &Input,
    raw: &Raw,
) -> Result {
    let text = input.text("what `seal` printed")?;
    let sealed = BASE64.decode(text.as_bytes());
    let sealed = sealed.map_err(|_| Failure::usage("this is not what `seal` printed"))?;
    let request = pb::OpenFromUserRequest {
        mount: mount.to_owned(),
        sealed,
        associated_data: about.as_bytes().to_vec(),
    };
    let answer = call(client.user().await?.open(request)).await?;
    if out.json {
        return Ok(out.json(&json("OpenFromUserResponse", &answer)?)?);
    }
    let written = view::time(answer.sealed.as_ref());
    let renamed = match answer.sender_renamed {
        true => ", who is called so no more: who has the name now did not write this",
        false => "",
    };
    let (sender, id) = (escaped(answer.sender.as_bytes()), &answer.sender_account);
    let from = format!("from {sender} (the account {id}), {written}{renamed}");
    eprintln!("{from}");
    if raw.write(&answer.plaintext)? {
        // What was written may look like the line above; nothing of it comes after this one.
        eprintln!("(this was {from})");
    }
    Ok(())
}
