//! `metacrypt ssh profile`.

use clap::{ArgGroup, Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call, prompt, view, write_out};
use serde_json::json;

use super::{
    At, Client, Result, at, json, json_list, kind, said,
    seconds::{length, seconds},
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KeyType {
    Ed25519,
    /// P-256, P-384 and P-521
    Ecdsa,
    /// Of 3072 bits and more
    Rsa,
    /// In a security key
    SkEd25519,
    /// In a security key
    SkEcdsa,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Extension {
    PermitPty,
    PermitPortForwarding,
    PermitAgentForwarding,
    #[value(name = "permit-x11-forwarding")]
    PermitX11Forwarding,
    PermitUserRc,
    /// A security key need not be touched
    NoTouchRequired,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Shows the profiles that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
    },
    /// Shows a profile
    Show {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
    },
    /// Adds a profile, or replaces it as a whole
    Put(Box<Put>),
    /// Removes a profile; certificates by it stay as they are
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/PROFILE
        #[arg(value_parser = at)]
        profile: At,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("kind").required(true).args(["user", "host"]))]
#[command(group = ArgGroup::new("who").required(true).multiple(true).args(["principal", "account", "below"]))]
pub(crate) struct Put {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// For those who log in
    #[arg(long)]
    user: bool,
    /// For machines
    #[arg(long)]
    host: bool,
    /// This principal may be asked for; repeatable
    #[arg(long, value_name = "NAME")]
    principal: Vec<String>,
    /// One's own account name may be asked for, but for root
    #[arg(long, conflicts_with = "host")]
    account: bool,
    /// Any host below this domain may be asked for; repeatable
    #[arg(long, value_name = "DOMAIN", conflicts_with = "user")]
    below: Vec<String>,
    /// What certificates allow; repeatable [default: permit-pty for users]
    #[arg(long, value_enum, conflicts_with = "host")]
    extension: Vec<Extension>,
    /// Certificates allow no terminal, forwarding or anything else but to run a command
    #[arg(long, conflicts_with_all = ["extension", "host"])]
    no_extensions: bool,
    /// Networks that a user may come from; repeatable [default: any]
    #[arg(long, value_name = "CIDR", conflicts_with = "host")]
    source: Vec<String>,
    /// The command that runs whatever is asked for
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "host"
    )]
    force_command: String,
    /// A security key has to verify its user
    #[arg(long, conflicts_with = "host")]
    verify_required: bool,
    /// How long a certificate is valid if its request does not say, like 8h [default: --max-ttl]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
    /// The longest that it may be
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl: u64,
    /// Types of keys that are signed; repeatable [default: all]
    #[arg(long, value_enum)]
    key_type: Vec<KeyType>,
}

impl Put {
    fn request(&self) -> pb::PutSshProfileRequest {
        use pb::ssh_principal::What;
        let exact = self.principal.iter().map(|name| What::Exact(name.clone()));
        let account = self.account.then_some(What::Account(true));
        let below = self.below.iter().map(|domain| What::Below(domain.clone()));
        let principals = exact.chain(account).chain(below);
        let kind = match self.host {
            true => pb::SshKind::Host,
            false => pb::SshKind::User,
        };
        let extension = |e: &Extension| match e {
            Extension::PermitPty => pb::SshExtension::PermitPty,
            Extension::PermitPortForwarding => pb::SshExtension::PermitPortForwarding,
            Extension::PermitAgentForwarding => pb::SshExtension::PermitAgentForwarding,
            Extension::PermitX11Forwarding => pb::SshExtension::PermitX11Forwarding,
            Extension::PermitUserRc => pb::SshExtension::PermitUserRc,
            Extension::NoTouchRequired => pb::SshExtension::NoTouchRequired,
        };
        let key_type = |t: &KeyType| match t {
            KeyType::Ed25519 => pb::SshKeyType::Ed25519,
            KeyType::Ecdsa => pb::SshKeyType::Ecdsa,
            KeyType::Rsa => pb::SshKeyType::Rsa,
            KeyType::SkEd25519 => pb::SshKeyType::SkEd25519,
            KeyType::SkEcdsa => pb::SshKeyType::SkEcdsa,
        };
        let At { mount, name } = self.profile.clone();
        let profile = pb::SshProfile {
            name: name.clone(),
            kind: kind.into(),
            principals: principals
                .map(|what| pb::SshPrincipal { what: Some(what) })
                .collect(),
            extensions: self.extension.iter().map(|e| extension(e).into()).collect(),
            no_extensions: self.no_extensions,
            source_addresses: self.source.clone(),
            force_command: self.force_command.clone(),
            verify_required: self.verify_required,
            ttl_s: self.ttl,
            max_ttl_s: self.max_ttl,
            key_types: self.key_type.iter().map(|t| key_type(t).into()).collect(),
        };
        pb::PutSshProfileRequest {
            mount,
            name,
            profile: Some(profile),
        }
    }
}

impl ProfileCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        let profile = match self {
            Self::List { mount } => {
                let (mut profiles, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListSshProfilesRequest {
                        mount: mount.clone(),
                        after,
                        limit: 0,
                    };
                    let page = call(ssh.list_profiles(request)).await?;
                    profiles.extend(page.profiles);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let row = |profile: &pb::SshProfile| {
                    vec![
                        profile.name.clone(),
                        kind(profile.kind()).to_owned(),
                        principals(profile),
                        length(profile.max_ttl_s),
                    ]
                };
                let rows = profiles.iter().map(row).collect();
                let header = ["PROFILE", "FOR", "PRINCIPALS", "AT MOST"];
                let empty = format!("there is no profile in {mount} that you may read");
                let value = json_list("SshProfile", &profiles)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { profile } => {
                let At { mount, name } = profile.clone();
                call(ssh.get_profile(pb::GetSshProfileRequest { mount, name })).await?
            }
            Self::Put(put) => call(ssh.put_profile(put.request())).await?,
            Self::Delete { profile, yes } => {
                let At { mount, name } = profile.clone();
                let what = format!("the profile {mount}/{name} will be removed");
                prompt::confirm(&what, *yes)?;
                let sentence = format!("{mount}/{name} is removed");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(ssh.delete_profile(pb::DeleteSshProfileRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("SshProfile", &profile)?)?);
        }
        Ok(write_out(&view::lines(&lines(&profile)))?)
    }
}

fn principals(profile: &pb::SshProfile) -> String {
    use pb::ssh_principal::What;
    let each = profile.principals.iter().filter_map(|p| p.what.as_ref());
    let each = each.map(|what| match what {
        What::Exact(name) => name.clone(),
        What::Account(_) => "(one's own account)".to_owned(),
        What::Below(domain) => format!("(hosts below {domain})"),
    });
    view::text(&each.collect::<Vec<_>>().join(" "))
}

fn lines(profile: &pb::SshProfile) -> Vec<(&'static str, String)> {
    let extensions = profile.extensions();
    let extensions: Vec<_> = extensions
        .map(|e| said(e.as_str_name(), "SSH_EXTENSION_"))
        .collect();
    let types = profile.key_types();
    let types: Vec<_> = types
        .map(|t| said(t.as_str_name(), "SSH_KEY_TYPE_"))
        .collect();
    vec![
        ("profile", profile.name.clone()),
        ("for", kind(profile.kind()).to_owned()),
        ("principals", principals(profile)),
        ("allows", view::names(&extensions)),
        ("from", view::names(&profile.source_addresses)),
        ("runs", view::text(&profile.force_command)),
        ("verify required", view::yes(profile.verify_required)),
        ("valid for", length(profile.ttl_s)),
        ("at most", length(profile.max_ttl_s)),
        ("keys", view::names(&types)),
    ]
}
