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
