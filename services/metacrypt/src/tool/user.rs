//! `metacrypt user`: what accounts write to each other.

use clap::{Subcommand, ValueEnum};
use data_encoding::BASE64;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Failure, Output, call, prompt, view};
use serde_json::json;

use super::{
    At, Client, Result, at,
    input::Input,
    json, mount_name, seen,
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
        /// The oldest version that stays
        #[arg(long, value_name = "N")]
        from: u32,
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
    /// Writes stdin to others, so that they alone read it
    Seal {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// To this account; repeatable, up to 64. Name yourself to read it later
        #[arg(long, value_name = "ACCOUNT", required = true)]
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
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut user = client.user().await?;
        let keys = match self {
            Self::Join { mount } => {
                let mount = mount.clone();
                call(user.create_user_keys(pb::CreateUserKeysRequest { mount })).await?
            }
            Self::Rotate { mount } => {
                let mount = mount.clone();
                call(user.rotate_user_keys(pb::RotateUserKeysRequest { mount })).await?
            }
            Self::Trim { mount, from, yes } => {
                let what = format!(
                    "versions of your keys below {from} will be dropped: what was written to those and by those is lost"
                );
                prompt::confirm(&what, *yes)?;
                let request = pb::TrimUserKeysRequest {
                    mount: mount.clone(),
                    min_version: *from,
                };
                call(user.trim_user_keys(request)).await?
            }
            Self::Show { account } => {
                let At { mount, name } = account.clone();
                call(user.get_user_keys(pb::GetUserKeysRequest { mount, name })).await?
            }
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
                let request = pb::SealToUsersRequest {
                    mount: mount.clone(),
                    recipients: to.clone(),
                    plaintext: input.read()?,
                    associated_data: about.clone().into_bytes(),
                    curve: curve.into(),
                };
                let answer = call(user.seal_to_users(request)).await?;
                let sealed = BASE64.encode(&answer.sealed);
                return Ok(out.done(&sealed, &json("SealToUsersResponse", &answer)?)?);
            }
            Self::Open {
                mount,
                about,
                input,
                raw,
            } => return open(client, out, mount, about, input, raw).await,
            Self::Delete { account, yes } => {
                let At { mount, name } = account.clone();
                let request = pb::GetUserKeysRequest {
                    mount: mount.clone(),
                    name: name.clone(),
                };
                seen(*yes, user.get_user_keys(request)).await?;
                let what = format!(
                    "the keys of {name} in {mount} will be deleted: what was written to him and by him is lost"
                );
                prompt::confirm(&what, *yes)?;
                let sentence = format!("the keys of {name} are deleted");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(user.delete_user_keys(pb::DeleteUserKeysRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        let row = |version: &pb::UserKeyVersion| {
            let created = view::time(version.created.as_ref());
            vec![keys.name.clone(), version.version.to_string(), created]
        };
        let rows = keys.versions.iter().map(row).collect();
        let header = ["ACCOUNT", "VERSION", "CREATED"];
        Ok(out.table(
            &header,
            rows,
            "there are no keys",
            &json("UserKeys", &keys)?,
        )?)
    }
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
    let answer = call(client.user().await?.open_from_user(request)).await?;
    if out.json {
        return Ok(out.json(&json("OpenFromUserResponse", &answer)?)?);
    }
    let written = view::time(answer.sealed.as_ref());
    let from = format!("from {}, {written}", escaped(answer.sender.as_bytes()));
    eprintln!("{from}");
    if raw.write(&answer.plaintext)? {
        // What was written may look like the line above; nothing of it comes after this one.
        eprintln!("(this was {from})");
    }
    Ok(())
}
