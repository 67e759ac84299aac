//! Keys.

use std::time::Duration;

use clap::{ArgGroup, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    cli::{Output, call, prompt, view, write_out},
    human::{duration, parse_duration},
};
use serde_json::json;

use super::{At, Client, Command, Result, at, json, json_list, said, seen};

fn age(text: &str) -> std::result::Result<u64, String> {
    match text {
        "never" => Ok(0),
        text => parse_duration(text)
            .map(|age| age.as_secs())
            .map_err(|_| "write how long, like 90d, or never".to_owned()),
    }
}

/// What a key is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Algorithm {
    /// Encrypts; rotates itself before 2^32 uses
    Aes256Gcm,
    /// Encrypts, any number of times
    Xchacha20Poly1305,
    /// Signs
    Ed25519,
    /// Signs, with SHA-256
    EcdsaP256,
    /// Signs, with SHA-384
    EcdsaP384,
    /// Authenticates: sign and verify
    HmacSha256,
    /// Encrypts the same to the same, to find it again
    Aes256Siv,
    /// Wraps keys against quantum computers to come
    X25519Mlkem768,
}

impl From<Algorithm> for pb::KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Aes256Gcm => Self::Aes256Gcm,
            Algorithm::Xchacha20Poly1305 => Self::Xchacha20Poly1305,
            Algorithm::Ed25519 => Self::Ed25519,
            Algorithm::EcdsaP256 => Self::EcdsaP256,
            Algorithm::EcdsaP384 => Self::EcdsaP384,
            Algorithm::HmacSha256 => Self::HmacSha256,
            Algorithm::Aes256Siv => Self::Aes256Siv,
            Algorithm::X25519Mlkem768 => Self::X25519Mlkem768,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// MOUNT/KEY
    #[arg(value_parser = at)]
    key: At,
    /// What it does
    #[arg(long, value_enum)]
    algorithm: Algorithm,
    /// It can be exported, which cannot be changed
    #[arg(long)]
    exportable: bool,
    /// It makes another version of itself when it is used after so long, like 90d [default: never]
    #[arg(long, value_name = "AGE", value_parser = age)]
    rotate_after: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["min_decryption_version", "deletable", "rotate_after"]))]
pub(crate) struct Update {
    /// MOUNT/KEY
    #[arg(value_parser = at)]
    key: At,
    /// Versions below it neither decrypt nor verify
    #[arg(long, value_name = "N")]
    min_decryption_version: Option<u32>,
    /// Whether it may be deleted
    #[arg(long, value_name = "true|false")]
    deletable: Option<bool>,
    /// It makes another version of itself when it is used after so long, like 90d, or never
    #[arg(long, value_name = "AGE", value_parser = age)]
    rotate_after: Option<u64>,
}

pub(super) async fn list(client: &Client, out: Output, mount: &str) -> Result {
    let mut transit = client.transit().await?;
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let request = pb::ListKeysRequest {
            mount: mount.to_owned(),
            after,
            limit: 0,
        };
        let page = call(transit.list_keys(request)).await?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    let rows = keys.iter().map(row).collect();
    let header = ["KEY", "ALGORITHM", "VERSION", "CREATED"];
    let empty = format!("there is no key in {mount} that you may read");
    let empty = match keys.is_empty() {
        true => client.nothing(mount, "transit", &empty).await?,
        false => empty,
    };
    Ok(out.table(&header, rows, &empty, &json_list("TransitKeyEntry", &keys)?)?)
}

fn algorithm(algorithm: pb::KeyAlgorithm) -> String {
    // As it is typed.
    said(algorithm.as_str_name(), "").replace("aes-256", "aes256")
}

fn row(key: &pb::TransitKeyEntry) -> Vec<String> {
    vec![
        key.name.clone(),
        algorithm(key.algorithm()),
        key.newest_version.to_string(),
        view::time(key.created.as_ref()),
    ]
}

fn shown(key: &pb::TransitKey) -> String {
    // Of one that was changed by who may not read it only that is told.
    let whole = key.algorithm() != pb::KeyAlgorithm::Unspecified;
    let rotates = match key.rotate_after_s {
        0 => "never by age".to_owned(),
        seconds => format!("after {}", duration(Duration::from_secs(seconds))),
    };
    let rotates = match key.cannot_rotate {
        true => format!(
            "{rotates}; not now: all of its versions are in use, raise --min-decryption-version"
        ),
        false => rotates,
    };
    let from = format!("version {}", key.min_decryption_version);
    let all = [
        (true, "key", key.name.clone()),
        (whole, "algorithm", algorithm(key.algorithm())),
        (whole, "exportable", view::yes(key.exportable)),
        (
            whole || key.deletable,
            "deletable",
            view::yes(key.deletable),
        ),
        (whole || key.rotate_after_s > 0, "rotates", rotates),
        (
            whole || key.min_decryption_version > 0,
            "decrypts from",
            from,
        ),
    ];
    let told = all.into_iter().filter(|(told, ..)| *told);
    let mut rows: Vec<_> = told.map(|(_, what, value)| (what, value)).collect();
    if !key.removed_versions.is_empty() {
        let gone: Vec<_> = key.removed_versions.iter().map(u32::to_string).collect();
        rows.push(("removed", format!("versions {}", gone.join(", "))));
    }
    for version in &key.versions {
        let made = view::time(version.created.as_ref());
        rows.push(("version", format!("{} of {made}", version.version)));
    }
    let mut text = view::lines(&rows);
    if let Some(newest) = key.versions.last() {
        text.push_str(&newest.public_key);
    }
    text
}

fn asked(key: &At) -> pb::GetKeyRequest {
    let At { mount, name } = key.clone();
    pb::GetKeyRequest { mount, name }
}

impl Command {
    pub(super) async fn key(&self, client: &Client, out: Output) -> Result {
        let mut transit = client.transit().await?;
        let key = match self {
            Self::Show { key } => call(transit.get_key(asked(key))).await?,
            Self::Create(create) => {
                let At { mount, name } = create.key.clone();
                let request = pb::CreateKeyRequest {
                    mount,
                    name,
                    algorithm: pb::KeyAlgorithm::from(create.algorithm).into(),
                    exportable: create.exportable,
                    rotate_after_s: create.rotate_after.unwrap_or_default(),
                };
                call(transit.create_key(request)).await?
            }
            Self::Update(update) => {
                let At { mount, name } = update.key.clone();
                let request = pb::UpdateKeyRequest {
                    mount,
                    name,
                    min_decryption_version: update.min_decryption_version,
                    deletable: update.deletable,
                    rotate_after_s: update.rotate_after,
                };
                call(transit.update_key(request)).await?
            }
            Self::Rotate { key } => {
                let At { mount, name } = key.clone();
                call(transit.rotate_key(pb::RotateKeyRequest { mount, name })).await?
            }
            Self::Trim { key, below, yes } => {
                let At { mount, name } = key.clone();
                seen(*yes, transit.get_key(asked(key))).await?;
                let what = format!(
                    "versions of {mount}/{name} below {below} will be removed: what they encrypted is lost"
                );
                prompt::confirm(&what, *yes)?;
                let below = *below;
                call(transit.trim_key(pb::TrimKeyRequest { mount, name, below })).await?
            }
            Self::Delete { key, yes } => {
                let At { mount, name } = key.clone();
                seen(*yes, transit.get_key(asked(key))).await?;
                let what =
                    format!("the key {mount}/{name} will be deleted: what it encrypted is lost");
                prompt::confirm(&what, *yes)?;
                let sentence = format!("{mount}/{name} is deleted");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(transit.delete_key(pb::DeleteKeyRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
            _ => return Ok(()),
        };
        if out.json {
            return Ok(out.json(&json("TransitKey", &key)?)?);
        }
        Ok(write_out(&shown(&key))?)
    }
}
