//! `metacrypt ssh revocation`.

use std::path::PathBuf;

use clap::{ArgGroup, Subcommand};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call, prompt, view};
use serde_json::json;

use super::{Client, MAX_KEY, Result, json, json_list, mount_name, read_text};

#[derive(Debug, Subcommand)]
pub(crate) enum RevocationCommand {
    /// Shows the accounts and keys that are revoked
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Revokes all certificates of an account, or a key; none is signed for it until that is lifted
    #[command(group = ArgGroup::new("what").required(true).args(["account", "key"]))]
    Create {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// The account's name
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// The public key's file
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Lifts one: certificates that have not expired are valid again
    #[command(visible_alias = "rm")]
    Delete {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Its id
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl RevocationCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        match self {
            Self::List { mount } => {
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListSshRevocationsRequest {
                        mount: mount.clone(),
                        after,
                        limit: 0,
                    };
                    let page = call(ssh.list_revocations(request)).await?;
                    all.extend(page.revocations);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let rows = all.iter().map(|one| cells(one).to_vec()).collect();
                let header = ["ID", "REVOKED", "SINCE"];
                let value = json_list("SshRevocation", &all)?;
                let empty = "no account and no key is revoked that you may read";
                let empty = match all.is_empty() {
                    true => client.nothing(mount, "ssh", empty).await?,
                    false => String::new(),
                };
                out.table(&header, rows, &empty, &value)?;
            }
            Self::Create {
                mount,
                account,
                key,
            } => {
                use pb::create_ssh_revocation_request::What;
                let what = match (account, key) {
                    (Some(account), _) => Some(What::KeyId(account.clone())),
                    (_, Some(path)) => {
                        let text = read_text(path, MAX_KEY)?;
                        Some(What::PublicKey(text.trim().to_owned()))
                    }
                    _ => None,
                };
                let request = pb::CreateSshRevocationRequest {
                    mount: mount.clone(),
                    what,
                };
                let made = call(ssh.create_revocation(request)).await?;
                let [id, what, _] = cells(&made);
                let sentence = format!(
                    "{what} is revoked; `metacrypt ssh revocation delete {mount} {id}` lifts it"
                );
                out.done(&sentence, &json("SshRevocation", &made)?)?;
                for said in told(&made) {
                    eprintln!("{said}");
                }
            }
            Self::Delete { mount, id, yes } => {
                let what = format!(
                    "the revocation {id} will be lifted: certificates that have not expired are valid again"
                );
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteSshRevocationRequest {
                    mount: mount.clone(),
                    id: id.clone(),
                };
                call(ssh.delete_revocation(request)).await?;
                out.done(&format!("{id} is lifted"), &json!({ "deleted": id }))?;
            }
        }
        Ok(())
    }
}

/// What of an account's revocation may be other than it was meant: a mistyped name is revoked like any other.
fn told(made: &pb::SshRevocation) -> Vec<String> {
    let mut said = Vec::new();
    if made.account_exists == Some(false) {
        said.push(
            "warning: MCIAS has no account of this name; `mciasctl account list` shows those that there are".to_owned(),
        );
    }
    said.extend(made.certificates.map(|number| match number {
        0 => "warning: no certificate of this name is known here; `metacrypt ssh certificate list` shows whose there are".to_owned(),
        number => format!("it has {number} certificates here, those among them that expired within 30 days"),
    }));
    said
}

fn cells(revocation: &pb::SshRevocation) -> [String; 3] {
    use pb::ssh_revocation::What;
    let what = match &revocation.what {
        Some(What::KeyId(account)) => format!("account {account}"),
        Some(What::PublicKey(key)) => format!("key {key}"),
        None => "-".to_owned(),
    };
    let since = view::time(revocation.revoked.as_ref());
    [revocation.id.clone(), what, since]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_warned_of() {
        for (description, certificates, account_exists, warnings) in [
            ("all is well", Some(3), Some(true), 0),
            ("no certificates", Some(0), Some(true), 1),
            ("mistyped", Some(0), Some(false), 2),
            ("deleted in MCIAS", Some(3), Some(false), 1),
            ("MCIAS is away", Some(0), None, 1),
            ("a key", None, None, 0),
        ] {
            let made = pb::SshRevocation {
                certificates,
                account_exists,
                ..pb::SshRevocation::default()
            };
            let said = told(&made);
            let warned = said.iter().filter(|said| said.starts_with("warning: "));
            assert_eq!(warned.count(), warnings, "{description}: {said:?}");
        }
    }
}
