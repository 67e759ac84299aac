//! `metacrypt ssh`: authorities, profiles, certificates, and what is revoked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, view, write_out};
use serde_json::json;

use super::{
    At, Client, Result, at, json, json_list, read_text,
    seconds::{length, seconds},
};

/// Most bytes of a public key's file.
const MAX_KEY: u64 = 16 << 10;

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
pub(crate) enum Command {
    /// The keys of an authority: one signs, all are published
    #[command(subcommand)]
    Ca(CaCommand),
    /// What certificates may say
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Signs a public key by a profile; the certificate is written beside it, where ssh looks for it
    Sign(Sign),
    /// Certificates that were signed
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// All certificates of an account, or a key with all of its certificates
    #[command(subcommand)]
    Revocation(RevocationCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Shows the keys of an authority
    Show {
        /// The mount
        mount: String,
        /// Which one
        ca: Ca,
    },
    /// Makes a key: the first one signs, each other is published until it is used
    Create {
        /// The mount
        mount: String,
        /// Which authority
        ca: Ca,
        /// What it is
        #[arg(long, value_enum, default_value = "ed25519")]
        algorithm: CaAlgorithm,
    },
    /// Lets a key sign from now on
    Use {
        /// The mount
        mount: String,
        /// Which authority
        ca: Ca,
        /// The key's number
        number: u32,
    },
    /// Removes a key that does not sign; certificates by it are trusted no more by who fetches what is published
    #[command(visible_alias = "rm")]
    Delete {
        /// The mount
        mount: String,
        /// Which authority
        ca: Ca,
        /// The key's number
        number: u32,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
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
    pub(super) fn request(&self) -> pb::PutSshProfileRequest {
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

#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// The public key's file, like ~/.ssh/id_ed25519.pub
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whom it is for; repeatable
    #[arg(long, value_name = "NAME", required = true)]
    principal: Vec<String>,
    /// How long it is valid, like 8h [default: as the profile says]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
    /// Writes the certificate there [default: beside the key, `-cert.pub` in the place of `.pub`]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Shows certificates that have not expired, as they do
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
        /// Of this profile alone
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        profile: String,
        /// Of this account alone
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        account: String,
    },
    /// Shows a certificate
    Show {
        /// The mount
        mount: String,
        /// Its serial number
        serial: u64,
    },
    /// Revokes a certificate, for ever
    Revoke {
        /// The mount
        mount: String,
        /// Its serial number
        serial: u64,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RevocationCommand {
    /// Shows the accounts and keys that are revoked
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
    },
    /// Revokes all certificates of an account, or a key; none is signed for it until that is lifted
    #[command(group = ArgGroup::new("what").required(true).args(["account", "key"]))]
    Create {
        /// The mount
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
        mount: String,
        /// Its id
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::Ca(command) => command.run(client, out).await,
            Self::Profile(command) => command.run(client, out).await,
            Self::Sign(sign) => sign.run(client, out).await,
            Self::Certificate(command) => command.run(client, out).await,
            Self::Revocation(command) => command.run(client, out).await,
        }
    }
}

impl CaCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        let shown = match self {
            Self::Show { mount, ca } => {
                let request = pb::GetSshCaRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                };
                call(ssh.get_ssh_ca(request)).await?
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
                call(ssh.create_ssh_ca_key(request)).await?
            }
            Self::Use { mount, ca, number } => {
                let request = pb::UseSshCaKeyRequest {
                    mount: mount.clone(),
                    ca: ca.name(),
                    number: *number,
                };
                call(ssh.use_ssh_ca_key(request)).await?
            }
            Self::Delete {
                mount,
                ca,
                number,
                yes,
            } => {
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
                call(ssh.delete_ssh_ca_key(request)).await?
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

impl ProfileCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
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
                    let page = call(ssh.list_ssh_profiles(request)).await?;
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
                call(ssh.get_ssh_profile(pb::GetSshProfileRequest { mount, name })).await?
            }
            Self::Put(put) => call(ssh.put_ssh_profile(put.request())).await?,
            Self::Delete { profile, yes } => {
                let At { mount, name } = profile.clone();
                let what = format!("the profile {mount}/{name} will be removed");
                prompt::confirm(&what, *yes)?;
                let sentence = format!("{mount}/{name} is removed");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(ssh.delete_ssh_profile(pb::DeleteSshProfileRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("SshProfile", &profile)?)?);
        }
        Ok(write_out(&view::lines(&lines(&profile)))?)
    }
}

fn kind(kind: pb::SshKind) -> &'static str {
    match kind {
        pb::SshKind::User => "users",
        pb::SshKind::Host => "hosts",
        pb::SshKind::Unspecified => "unknown",
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

/// A name of an enum, as it is said on the command line.
fn said(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
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

/// Where ssh looks for the certificate of this key.
pub(super) fn beside(key: &Path) -> Option<PathBuf> {
    let name = key.file_name()?.to_str()?.strip_suffix(".pub")?;
    Some(key.with_file_name(format!("{name}-cert.pub")))
}

impl Sign {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let to = self.to.clone().or_else(|| beside(&self.key));
        let to = to.ok_or_else(|| {
            let what = format!("{} does not end in .pub", self.key.display());
            Failure::usage(what)
                .hint("name the public key, or where the certificate is to be: --to FILE")
        })?;
        let At { mount, name } = self.profile.clone();
        let request = pb::SignSshKeyRequest {
            mount,
            profile: name,
            public_key: read_text(&self.key, MAX_KEY)?.trim().to_owned(),
            principals: self.principal.clone(),
            ttl_s: self.ttl,
        };
        let signed = call(client.ssh().await?.sign_ssh_key(request)).await?;
        fs::write(&to, format!("{}\n", signed.certificate))
            .map_err(|e| Failure::new(Exit::Failure, format_args!("{}: {e}", to.display())))?;
        let sentence = format!(
            "{}: serial {}, for {}, until {}",
            to.display(),
            signed.serial,
            signed.principals.join(" "),
            view::time(signed.valid_before.as_ref())
        );
        Ok(out.done(&sentence, &json("SshCertificate", &signed)?)?)
    }
}

impl CertificateCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        let certificate = match self {
            Self::List {
                mount,
                profile,
                account,
            } => {
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListSshCertificatesRequest {
                        mount: mount.clone(),
                        profile: profile.clone(),
                        key_id: account.clone(),
                        after,
                        ..pb::ListSshCertificatesRequest::default()
                    };
                    let page = call(ssh.list_ssh_certificates(request)).await?;
                    all.extend(page.certificates);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let row = |certificate: &pb::SshCertificate| {
                    vec![
                        certificate.serial.to_string(),
                        certificate.key_id.clone(),
                        certificate.profile.clone(),
                        view::names(&certificate.principals),
                        view::time(certificate.valid_before.as_ref()),
                        view::yes(certificate.revoked),
                    ]
                };
                let rows = all.iter().map(row).collect();
                let header = [
                    "SERIAL",
                    "ACCOUNT",
                    "PROFILE",
                    "PRINCIPALS",
                    "UNTIL",
                    "REVOKED",
                ];
                let empty = format!("there is no certificate of {mount} that you may read");
                let value = json_list("SshCertificate", &all)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { mount, serial } => {
                let request = pb::GetSshCertificateRequest {
                    mount: mount.clone(),
                    serial: *serial,
                };
                call(ssh.get_ssh_certificate(request)).await?
            }
            Self::Revoke { mount, serial, yes } => {
                let what = format!("the certificate {serial} will be revoked, for ever");
                prompt::confirm(&what, *yes)?;
                let request = pb::RevokeSshCertificateRequest {
                    mount: mount.clone(),
                    serial: *serial,
                };
                call(ssh.revoke_ssh_certificate(request)).await?
            }
        };
        if out.json {
            return Ok(out.json(&json("SshCertificate", &certificate)?)?);
        }
        let rows = [
            ("serial", certificate.serial.to_string()),
            ("account", certificate.key_id.clone()),
            ("profile", certificate.profile.clone()),
            ("for", kind(certificate.kind()).to_owned()),
            ("principals", view::names(&certificate.principals)),
            ("from", view::time(certificate.valid_after.as_ref())),
            ("until", view::time(certificate.valid_before.as_ref())),
            ("revoked", view::yes(certificate.revoked)),
            ("key", certificate.fingerprint.clone()),
            ("signed by", certificate.ca_fingerprint.clone()),
        ];
        let text = view::lines(&rows);
        Ok(write_out(&format!("{text}{}\n", certificate.certificate))?)
    }
}

impl RevocationCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
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
                    let page = call(ssh.list_ssh_revocations(request)).await?;
                    all.extend(page.revocations);
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                let rows = all.iter().map(revocation).collect();
                let header = ["ID", "REVOKED", "SINCE"];
                let value = json_list("SshRevocation", &all)?;
                out.table(&header, rows, "no account and no key is revoked", &value)?;
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
                let made = call(ssh.create_ssh_revocation(request)).await?;
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
                call(ssh.delete_ssh_revocation(request)).await?;
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

fn revocation(revocation: &pb::SshRevocation) -> Vec<String> {
    cells(revocation).to_vec()
}
