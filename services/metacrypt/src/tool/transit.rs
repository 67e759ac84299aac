//! `metacrypt transit`: keys, and what is done with them.
//!
//! What is encrypted, decrypted, signed or verified comes from stdin or a file and goes to stdout as it is, so that it can be piped.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::{
    cli::{Exit, Failure, Output, call, prompt, view, write_out},
    human::{duration, parse_duration},
};
use serde_json::json;

use super::{At, Client, Result, at, json, json_list, said};

/// Most bytes of one text: a request takes 1 MiB.
const MAX_INPUT: u64 = 700 << 10;

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
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the keys of a mount that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
    },
    /// Shows a key: its versions, and the public key of one that signs
    Show {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
    },
    /// Makes a key
    Create(Create),
    /// Changes a key; what is not said stays
    Update(Update),
    /// Makes another version of a key, which is used from now on
    Rotate {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
    },
    /// Deletes a key that is deletable: what it encrypted is lost
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Prints the key itself, of one that was made exportable
    Export {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Which version [default: the newest]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
    /// Encrypts stdin
    Encrypt(Text),
    /// Decrypts stdin, which is what `encrypt` printed
    Decrypt(Text),
    /// Encrypts by the newest version what an earlier one encrypted, from stdin; nobody sees the plaintext
    Rewrap(Text),
    /// Signs or authenticates stdin
    Sign(Plain),
    /// Whether a signature is of stdin; exit 1 if not
    Verify {
        #[command(flatten)]
        text: Plain,
        /// As `sign` printed it
        #[arg(long)]
        signature: String,
    },
    /// Makes a random key, in base64, and prints it encrypted as well
    Datakey {
        /// MOUNT/KEY
        #[arg(value_parser = at)]
        key: At,
        /// Bytes, 16 to 64
        #[arg(long, value_name = "N", default_value_t = 32)]
        length: u32,
        /// What it belongs to; who decrypts it has to say the same
        #[arg(long, value_name = "TEXT", default_value = "")]
        about: String,
        /// Prints the encrypted one alone
        #[arg(long)]
        only_ciphertext: bool,
    },
    /// Prints random bytes, in base64
    Random {
        /// The mount
        mount: String,
        /// Bytes, 1 to 4096
        #[arg(long, value_name = "N", default_value_t = 32)]
        length: u32,
    },
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

#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    /// MOUNT/KEY
    #[arg(value_parser = at)]
    key: At,
    /// Reads that file instead of stdin
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Text {
    #[command(flatten)]
    plain: Plain,
    /// What it belongs to, like the row's id; who decrypts has to say the same
    #[arg(long, value_name = "TEXT", default_value = "")]
    about: String,
}

impl Plain {
    fn read(&self) -> Result<Vec<u8>> {
        let name = self.input.as_deref().unwrap_or(Path::new("stdin"));
        let unread = |e: io::Error| Failure::usage(format_args!("{}: {e}", name.display()));
        let mut bytes = Vec::new();
        match &self.input {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(unread)?;
                file.take(MAX_INPUT + 1).read_to_end(&mut bytes)
            }
            None => io::stdin()
                .lock()
                .take(MAX_INPUT + 1)
                .read_to_end(&mut bytes),
        }
        .map_err(unread)?;
        if bytes.len() as u64 > MAX_INPUT {
            let what = format!("{} is longer than {MAX_INPUT} bytes", name.display());
            return Err(Failure::usage(what)
                .hint("encrypt it by a data key (`metacrypt transit datakey`), or sign its hash"));
        }
        Ok(bytes)
    }

    fn text(&self) -> Result<String> {
        let text = String::from_utf8(self.read()?).map(|text| text.trim().to_owned());
        text.map_err(|_| {
            Failure::usage("what is to be decrypted is `metacrypt:v…`, and this is no text")
        })
    }
}

impl Text {
    fn ciphertexts(&self) -> Result<Vec<pb::Ciphertext>> {
        Ok(vec![pb::Ciphertext {
            ciphertext: self.plain.text()?,
            associated_data: self.about.clone().into_bytes(),
        }])
    }
}

/// The one answer to the one thing that was asked.
fn one<T>(answers: Vec<T>) -> Result<T> {
    let none = || Failure::new(Exit::Failure, "the service answered nothing");
    answers.into_iter().next().ok_or_else(none)
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::List { mount } => list(client, out, mount).await,
            Self::Encrypt(_) | Self::Decrypt(_) | Self::Rewrap(_) => self.text(client, out).await,
            Self::Sign(_) | Self::Verify { .. } => self.sign(client, out).await,
            Self::Export { .. } | Self::Datakey { .. } | Self::Random { .. } => {
                self.bytes(client, out).await
            }
            _ => self.key(client, out).await,
        }
    }

    async fn key(&self, client: &Client, out: Output) -> Result {
        let mut transit = client.transit().await?;
        let key = match self {
            Self::Show { key } => {
                let At { mount, name } = key.clone();
                call(transit.get_key(pb::GetKeyRequest { mount, name })).await?
            }
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
            Self::Delete { key, yes } => {
                let At { mount, name } = key.clone();
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

    async fn text(&self, client: &Client, out: Output) -> Result {
        let mut transit = client.transit().await?;
        match self {
            Self::Encrypt(text) => {
                let At { mount, name } = text.plain.key.clone();
                let plaintexts = vec![pb::Plaintext {
                    plaintext: text.plain.read()?,
                    associated_data: text.about.clone().into_bytes(),
                }];
                let request = pb::EncryptRequest {
                    mount,
                    name,
                    plaintexts,
                };
                let ciphertext = one(call(transit.encrypt(request)).await?.ciphertexts)?;
                out.done(&ciphertext, &json!({ "ciphertext": ciphertext }))?;
            }
            Self::Rewrap(text) => {
                let At { mount, name } = text.plain.key.clone();
                let request = pb::RewrapRequest {
                    mount,
                    name,
                    ciphertexts: text.ciphertexts()?,
                };
                let ciphertext = one(call(transit.rewrap(request)).await?.ciphertexts)?;
                out.done(&ciphertext, &json!({ "ciphertext": ciphertext }))?;
            }
            Self::Decrypt(text) => {
                let At { mount, name } = text.plain.key.clone();
                let request = pb::DecryptRequest {
                    mount,
                    name,
                    ciphertexts: text.ciphertexts()?,
                };
                let plain = one(call(transit.decrypt(request)).await?.plaintexts)?;
                if out.json {
                    return Ok(out.json(&json("Plain", &plain)?)?);
                }
                io::stdout().lock().write_all(&plain.plaintext)?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn sign(&self, client: &Client, out: Output) -> Result {
        let mut transit = client.transit().await?;
        match self {
            Self::Sign(plain) => {
                let At { mount, name } = plain.key.clone();
                let request = pb::SignRequest {
                    mount,
                    name,
                    messages: vec![plain.read()?],
                };
                let signature = one(call(transit.sign(request)).await?.signatures)?;
                out.done(&signature, &json!({ "signature": signature }))?;
            }
            Self::Verify { text, signature } => {
                let At { mount, name } = text.key.clone();
                let signed = vec![pb::Signed {
                    message: text.read()?,
                    signature: signature.clone(),
                }];
                let request = pb::VerifyRequest {
                    mount,
                    name,
                    signed,
                };
                if !one(call(transit.verify(request)).await?.valid)? {
                    let what = "the signature is not of this text by this key";
                    return Err(Failure::new(Exit::Failure, what));
                }
                out.done("the signature is good", &json!({ "valid": true }))?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn bytes(&self, client: &Client, out: Output) -> Result {
        let mut transit = client.transit().await?;
        let (value, text) = match self {
            Self::Export { key, version } => {
                let At { mount, name } = key.clone();
                let request = pb::ExportKeyRequest {
                    mount,
                    name,
                    version: *version,
                };
                let answer = call(transit.export_key(request)).await?;
                let value = json("ExportKeyResponse", &answer)?;
                let text = format!("{}\n", field(&value, "key"));
                (value, text)
            }
            Self::Datakey {
                key,
                length,
                about,
                only_ciphertext,
            } => {
                let At { mount, name } = key.clone();
                let request = pb::CreateDataKeyRequest {
                    mount,
                    name,
                    length: *length,
                    associated_data: about.clone().into_bytes(),
                    only_ciphertext: *only_ciphertext,
                };
                let answer = call(transit.create_data_key(request)).await?;
                let value = json("CreateDataKeyResponse", &answer)?;
                let plain = match only_ciphertext {
                    true => String::new(),
                    false => format!("plaintext   {}\n", field(&value, "plaintext")),
                };
                let text = format!("{plain}ciphertext  {}\n", answer.ciphertext);
                (value, text)
            }
            Self::Random { mount, length } => {
                let request = pb::RandomRequest {
                    mount: mount.clone(),
                    length: *length,
                };
                let answer = call(transit.random(request)).await?;
                let value = json("RandomResponse", &answer)?;
                let text = format!("{}\n", field(&value, "bytes"));
                (value, text)
            }
            _ => return Ok(()),
        };
        if out.json {
            return Ok(out.json(&value)?);
        }
        Ok(write_out(&text)?)
    }
}

/// Bytes, as JSON has them: in base64.
fn field<'v>(value: &'v serde_json::Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

async fn list(client: &Client, out: Output, mount: &str) -> Result {
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
    Ok(out.table(&header, rows, &empty, &json_list("TransitKey", &keys)?)?)
}

fn algorithm(key: &pb::TransitKey) -> String {
    said(key.algorithm().as_str_name(), "")
}

fn row(key: &pb::TransitKey) -> Vec<String> {
    let newest = key.versions.last();
    vec![
        key.name.clone(),
        algorithm(key),
        newest.map_or_else(|| "-".to_owned(), |version| version.version.to_string()),
        view::time(newest.and_then(|version| version.created.as_ref())),
    ]
}

fn shown(key: &pb::TransitKey) -> String {
    let rotates = match key.rotate_after_s {
        0 => "never by age".to_owned(),
        seconds => format!(
            "after {}",
            duration(std::time::Duration::from_secs(seconds))
        ),
    };
    let mut rows = vec![
        ("key", key.name.clone()),
        ("algorithm", algorithm(key)),
        ("exportable", view::yes(key.exportable)),
        ("deletable", view::yes(key.deletable)),
        ("rotates", rotates),
        (
            "decrypts from",
            format!("version {}", key.min_decryption_version),
        ),
    ];
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
