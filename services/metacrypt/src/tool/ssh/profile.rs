//! `metacrypt ssh profile`.

use clap::{ArgGroup, ValueEnum};
use mc_proto::metacrypt::v1::{self as pb, ssh_client::SshClient};
use mcdsl::cli::{CommandLine, call, view};

use super::{
    At, Result, at, kind, profiles, said,
    seconds::{length, seconds},
};
use crate::tool::Authorized;

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
    /// Does not ask before a profile is replaced
    #[arg(long)]
    yes: bool,
}

/// In a profile that names none.
const EXTENSION: pb::SshExtension = pb::SshExtension::PermitPty;
const KEY_TYPES: [pb::SshKeyType; 5] = [
    pb::SshKeyType::Ed25519,
    pb::SshKeyType::Ecdsa,
    pb::SshKeyType::Rsa,
    pb::SshKeyType::SkEd25519,
    pb::SshKeyType::SkEcdsa,
];

impl profiles::Put for Put {
    type Profile = pb::SshProfile;

    fn at(&self) -> &At {
        &self.profile
    }

    fn yes(&self) -> bool {
        self.yes
    }

    fn profile(&self) -> pb::SshProfile {
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
        let mut extensions: Vec<i32> = self.extension.iter().map(|e| extension(e).into()).collect();
        if self.user && extensions.is_empty() && !self.no_extensions {
            extensions.push(EXTENSION.into());
        }
        let mut key_types: Vec<i32> = self.key_type.iter().map(|t| key_type(t).into()).collect();
        if key_types.is_empty() {
            key_types.extend(KEY_TYPES.map(i32::from));
        }
        pb::SshProfile {
            name: self.profile.name.clone(),
            kind: kind.into(),
            principals: principals
                .map(|what| pb::SshPrincipal { what: Some(what) })
                .collect(),
            extensions,
            no_extensions: self.no_extensions,
            source_addresses: self.source.clone(),
            force_command: self.force_command.clone(),
            verify_required: self.verify_required,
            ttl_s: if self.ttl == 0 {
                self.max_ttl
            } else {
                self.ttl
            },
            max_ttl_s: self.max_ttl,
            key_types,
        }
    }
}

profiles::profile_calls!(
    SshClient,
    SshProfile,
    ListSshProfilesRequest,
    GetSshProfileRequest,
    PutSshProfileRequest,
    DeleteSshProfileRequest
);

impl profiles::Profile for pb::SshProfile {
    const MESSAGE: &'static str = "SshProfile";
    const HEADER: &'static [&'static str] = &["PROFILE", "FOR", "PRINCIPALS", "AT MOST"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            kind(self.kind()).to_owned(),
            principals(self),
            length(self.max_ttl_s),
        ]
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("profile", self.name.clone()),
            ("for", kind(self.kind()).to_owned()),
            ("principals", principals(self)),
            ("allows", view::names(&extensions(self))),
            ("from", view::names(&self.source_addresses)),
            ("runs", view::text(&self.force_command)),
            ("verify required", view::yes(self.verify_required)),
            ("valid for", length(self.ttl_s)),
            ("at most", length(self.max_ttl_s)),
            ("keys", view::names(&key_types(self))),
        ]
    }

    fn command(&self, at: &str) -> CommandLine {
        use pb::ssh_principal::What;
        let whats = || self.principals.iter().filter_map(|p| p.what.as_ref());
        let exact = whats().filter_map(|what| match what {
            What::Exact(name) => Some(name),
            _ => None,
        });
        let below = whats().filter_map(|what| match what {
            What::Below(domain) => Some(domain),
            _ => None,
        });
        let types = key_types(self);
        let types = (types.len() < KEY_TYPES.len()).then_some(types);
        CommandLine::new(&["metacrypt", "ssh", "profile", "put", at])
            .flag("user", self.kind() == pb::SshKind::User)
            .flag("host", self.kind() == pb::SshKind::Host)
            .options("principal", exact)
            .flag(
                "account",
                whats().any(|what| matches!(what, What::Account(_))),
            )
            .options("below", below)
            .options("extension", extensions(self))
            .flag("no-extensions", self.no_extensions)
            .options("source", &self.source_addresses)
            .option("force-command", &self.force_command)
            .flag("verify-required", self.verify_required)
            .option("ttl", &length(self.ttl_s))
            .option("max-ttl", &length(self.max_ttl_s))
            .options("key-type", types.unwrap_or_default())
    }
}

fn extensions(profile: &pb::SshProfile) -> Vec<String> {
    let said = |e: pb::SshExtension| said(e.as_str_name(), "SSH_EXTENSION_");
    let mut all: Vec<_> = profile.extensions().map(said).collect();
    all.sort();
    all
}

fn key_types(profile: &pb::SshProfile) -> Vec<String> {
    let said = |t: pb::SshKeyType| said(t.as_str_name(), "SSH_KEY_TYPE_");
    let mut all: Vec<_> = profile.key_types().map(said).collect();
    all.sort();
    all
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
