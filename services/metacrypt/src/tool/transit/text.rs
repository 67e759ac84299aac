//! What is done with keys: texts and signatures, and random bytes.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, write_out};
use serde_json::{Value, json};

use super::{At, Client, Command, Result, at, json, one};

/// Most bytes of one text: a request takes 1 MiB.
const MAX_INPUT: u64 = 700 << 10;

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
                let file = File::open(path).map_err(unread)?;
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

/// Bytes, as JSON has them: in base64.
fn field<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

impl Command {
    pub(super) async fn text(&self, client: &Client, out: Output) -> Result {
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

    pub(super) async fn sign(&self, client: &Client, out: Output) -> Result {
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

    pub(super) async fn bytes(&self, client: &Client, out: Output) -> Result {
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
