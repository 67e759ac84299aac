//! `metacrypt pki acme`.

use clap::Subcommand;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call, prompt, view, write_out};
use serde_json::json;

use super::{Client, Result, json, json_list, mount_name, seconds::seconds};

#[derive(Debug, Subcommand)]
pub(crate) enum AcmeCommand {
    /// Shows where clients find it
    Show {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Sets where clients reach this service, or ends ACME in the mount
    Set {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Like https://pki.example.org; "" for no ACME
        #[arg(long, value_name = "URL")]
        base: String,
        /// Asked for names, like 192.0.2.1:53; repeatable [default: those of this host]
        #[arg(long, value_name = "ADDRESS")]
        resolver: Vec<String>,
        /// Does not ask before what is there is replaced
        #[arg(long)]
        yes: bool,
    },
    /// Keys by which clients make their accounts (external account binding)
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes a key for one client, which may do what one's own account may; it is printed once
    Create {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// For this profile alone; repeatable [default: all that the policy allows]
        #[arg(long, value_name = "NAME")]
        profile: Vec<String>,
        /// The client makes its account within this time, like 1h [default: a day]
        #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
        ttl: u64,
    },
    /// Shows one's own keys, and those that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
    },
    /// Deletes a key, and ends the client's account that was made by it
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

impl AcmeCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut acme = client.acme().await?;
        let settings = match self {
            Self::Key(command) => return command.run(client, out).await,
            Self::Show { mount } => {
                let mount = mount.clone();
                call(acme.get_acme(pb::GetAcmeRequest { mount })).await?
            }
            Self::Set {
                mount,
                base,
                resolver,
                yes,
            } => {
                let request = pb::SetAcmeRequest {
                    mount: mount.clone(),
                    base: base.clone(),
                    resolvers: resolver.clone(),
                };
                let mount = mount.clone();
                // Who may not read it is not asked.
                let before = call(acme.get_acme(pb::GetAcmeRequest { mount })).await;
                if let Some(what) = before.ok().and_then(|before| replaced(&before, &request)) {
                    prompt::confirm(&what, *yes)?;
                }
                call(acme.set_acme(request)).await?
            }
        };
        if out.json {
            return Ok(out.json(&json("AcmeSettings", &settings)?)?);
        }
        let resolvers = resolvers(&settings.resolvers);
        let directory = match &*settings.directory {
            "" => "none: there is no ACME in this mount",
            directory => directory,
        };
        let rows = [
            ("directory", directory.to_owned()),
            ("resolvers", resolvers),
        ];
        Ok(write_out(&view::lines(&rows))?)
    }
}

fn resolvers(said: &[String]) -> String {
    match said.is_empty() {
        true => "those of its host".to_owned(),
        false => view::names(said),
    }
}

/// What goes, if something does.
fn replaced(before: &pb::AcmeSettings, next: &pb::SetAcmeRequest) -> Option<String> {
    let mut lost = Vec::new();
    if before.base.trim_end_matches('/') != next.base.trim_end_matches('/') {
        let to = match &*next.base {
            "" => "there will be no ACME in this mount",
            to => to,
        };
        lost.push(format!(
            "{} -> {to}: clients that have accounts there have to make others, with other keys (`metacrypt pki acme key create`), until that base is set again",
            before.base
        ));
    }
    if before.resolvers != next.resolvers {
        let (was, is) = (resolvers(&before.resolvers), resolvers(&next.resolvers));
        lost.push(format!("resolvers {was} -> {is}"));
    }
    (!before.base.is_empty() && !lost.is_empty()).then(|| lost.join("; "))
}

impl KeyCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut acme = client.acme().await?;
        match self {
            Self::Create {
                mount,
                profile,
                ttl,
            } => {
                let request = pb::CreateAcmeKeyRequest {
                    mount: mount.clone(),
                    profiles: profile.clone(),
                    ttl_s: *ttl,
                    account: None,
                };
                let made = call(acme.create_acme_key(request)).await?;
                if out.json {
                    return Ok(out.json(&json("CreateAcmeKeyResponse", &made)?)?);
                }
                let key = made.key.unwrap_or_default();
                let rows = [
                    ("directory", made.directory.clone()),
                    ("kid", key.id.clone()),
                    ("hmac key", format!("{} (shown this once)", made.hmac_key)),
                    ("account", key.account_name.clone()),
                    ("profiles", view::names(&made.usable)),
                    ("use until", view::time(key.expires.as_ref())),
                ];
                write_out(&view::lines(&rows))?;
                if made.usable.is_empty() {
                    eprintln!(
                        "warning: {mount} has no profile with ACME (`metacrypt pki profile put … --acme`) that the policy allows {}, so that this key gets nothing; that administrators may do everything does not count here: `metacrypt policy put NAME --allow --account {} --action pki:issue --resource {mount}/profiles/PROFILE`",
                        key.account_name, key.account_name
                    );
                }
            }
            Self::List { mount } => {
                let (mut keys, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListAcmeKeysRequest {
                        mount: mount.clone(),
                        after,
                    };
                    let page = call(acme.list_acme_keys(request)).await?;
                    keys.extend(page.keys);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let row = |key: &pb::AcmeKey| {
                    // Until when it can be used once; what was made by it goes on.
                    let client = match (key.acme_account.is_empty(), key.acme_account_valid) {
                        (true, _) => format!("none; until {}", view::time(key.expires.as_ref())),
                        (false, true) => "valid".to_owned(),
                        (false, false) => "ended".to_owned(),
                    };
                    let profiles = match key.profiles.is_empty() {
                        true => "all allowed".to_owned(),
                        false => view::names(&key.profiles),
                    };
                    vec![key.id.clone(), key.account_name.clone(), profiles, client]
                };
                let rows = keys.iter().map(row).collect();
                let header = ["KID", "ACCOUNT", "PROFILES", "CLIENT"];
                let empty = format!("there is no key in {mount} that you may read");
                let empty = match keys.is_empty() {
                    true => client.nothing(mount, "pki", &empty).await?,
                    false => empty,
                };
                out.table(&header, rows, &empty, &json_list("AcmeKey", &keys)?)?;
            }
            Self::Delete { mount, id, yes } => {
                let what = format!(
                    "the key {id} will be deleted: the client that has it gets no certificate any more"
                );
                prompt::confirm(&what, *yes)?;
                let request = pb::DeleteAcmeKeyRequest {
                    mount: mount.clone(),
                    id: id.clone(),
                };
                call(acme.delete_acme_key(request)).await?;
                out.done(&format!("{id} is deleted"), &json!({ "deleted": id }))?;
            }
        }
        Ok(())
    }
}
