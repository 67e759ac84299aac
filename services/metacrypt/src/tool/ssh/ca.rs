//! `metacrypt ssh ca`.

use clap::{Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, view};

use super::{Client, Result, json, json_list, mount_name, seen};

/// Which authority.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Ca {
    /// Signs those who log in
    User,
    /// Signs machines
    Host,
}

impl Ca {
    fn name(self) -> String {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
        .to_owned()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CaAlgorithm {
    Ed25519,
    EcdsaP256,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Shows the authorities and which of their keys sign
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Shows the keys of an authority
    Show {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Which one
        #[arg(id = "authority", value_name = "AUTHORITY")]
        ca: Ca,
    },
    /// Makes a key: the first one signs, each other is published until it is used
    Create {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Which authority
        #[arg(id = "authority", value_name = "AUTHORITY")]
        ca: Ca,
        /// What it is
        #[arg(long, value_enum, default_value = "ed25519")]
        algorithm: CaAlgorithm,
    },
    /// Lets a key sign from now on
    Use {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Which authority
        #[arg(id = "authority", value_name = "AUTHORITY")]
        ca: Ca,
        /// The key's number
        number: u32,
    },
    /// Removes a key that does not sign; certificates by it are trusted no more by who fetches what is published
    #[command(visible_alias = "rm")]
    Delete {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Which authority
        #[arg(id = "authority", value_name = "AUTHORITY")]
        ca: Ca,
        /// The key's number
        number: u32,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl CaCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        let shown = match self {
            Self::List { mount } => {
                let request = pb::ListSshCasRequest {
                    mount: mount.clone(),
                };
                let all = call(ssh.list_cas(request)).await?;
                let row = |ca: &pb::SshCa| {
                    let signs = ca.keys.iter().find(|key| key.number == ca.signing);
                    let signs = signs.map(|key| key.fingerprint.clone());
                    vec![
                        ca.ca.clone(),
                        ca.keys.len().to_string(),
                        view::text(&signs.unwrap_or_default()),
                    ]
                };
                let rows = all.cas.iter().map(row).collect();
                let header = ["AUTHORITY", "KEYS", "SIGNS"];
                let empty = "there is no authority that you may read";
                let empty = match all.cas.is_empty() {
                    true => client.nothing(mount, "ssh", empty).await?,
                    false => String::new(),
                };
                let value = json_list("SshCa", &all.cas)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { mount, ca } => {
                let request = pb::GetSshCaRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                };
                call(ssh.get_ca(request)).await?
            }
            Self::Create {
                mount,
                ca,
                algorithm,
            } => {
                let algorithm = match algorithm {
                    CaAlgorithm::Ed25519 => pb::SshCaAlgorithm::Ed25519,
                    CaAlgorithm::EcdsaP256 => pb::SshCaAlgorithm::EcdsaP256,
                };
                let request = pb::CreateSshCaKeyRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                    algorithm: algorithm.into(),
                };
                call(ssh.create_ca_key(request)).await?
            }
            Self::Use { mount, ca, number } => {
                let request = pb::UseSshCaKeyRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                    number: *number,
                };
                call(ssh.use_ca_key(request)).await?
            }
            Self::Delete {
                mount,
                ca,
                number,
                yes,
            } => {
                let request = pb::GetSshCaRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                };
                let found = seen(*yes, ssh.get_ca(request)).await?;
                if found.is_some_and(|ca| ca.keys.iter().all(|key| key.number != *number)) {
                    let what = format!("the authority {} has no key {number}", ca.name());
                    return Err(Failure::new(Exit::NotFound, what));
                }
                let what = format!(
                    "key {number} of {mount}'s authority {} will be removed: certificates by it are trusted no more",
                    ca.name()
                );
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteSshCaKeyRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                    number: *number,
                };
                call(ssh.delete_ca_key(request)).await?
            }
        };
        let row = |key: &pb::SshCaKey| {
            let signs = match key.number == shown.signing {
                true => "signs",
                false => "published",
            };
            vec![
                key.number.to_string(),
                signs.to_owned(),
                view::time(key.created.as_ref()),
                key.fingerprint.clone(),
                key.public_key.clone(),
            ]
        };
        let rows = shown.keys.iter().map(row).collect();
        let header = ["KEY", "STATE", "CREATED", "FINGERPRINT", "PUBLIC KEY"];
        let empty = "it has no key; `metacrypt ssh ca create` makes one";
        Ok(out.table(&header, rows, empty, &json("SshCa", &shown)?)?)
    }
}
