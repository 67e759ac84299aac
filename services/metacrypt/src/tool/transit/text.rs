//! What is done with keys: texts and signatures, and random bytes.

use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, write_out};
use serde_json::{Value, json};

use super::{At, Client, Command, Result, at, input::Input, json, one};

#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    /// MOUNT/KEY
    #[arg(value_parser = at)]
    key: At,
    #[command(flatten)]
    input: Input,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Text {
    #[command(flatten)]
    plain: Plain,
    /// What it belongs to, like the row's id; who decrypts has to say the same
    #[arg(long, value_name = "TEXT", default_value = "")]
    about: String,
}

impl Text {
    fn ciphertexts(&self) -> Result<Vec<pb::Ciphertext>> {
        Ok(vec![pb::Ciphertext {
            ciphertext: self.plain.input.text("`metacrypt:v…`")?,
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
                    plaintext: text.plain.input.read()?,
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
            Self::Decrypt { text, raw } => {
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
                raw.write(&plain.plaintext)?;
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
                    messages: vec![plain.input.read()?],
                };
                let signature = one(call(transit.sign(request)).await?.signatures)?;
                out.done(&signature, &json!({ "signature": signature }))?;
            }
            Self::Verify { text, signature } => {
                let At { mount, name } = text.key.clone();
                let signed = vec![pb::Signed {
                    message: text.input.read()?,
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
