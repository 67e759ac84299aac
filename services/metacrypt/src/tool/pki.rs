//! `metacrypt pki`: roots, issuers, profiles and certificates.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, PrivateFile, call, prompt, read_private, view, write_out};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{
    At, Client, Result, at, json, json_list, read_text,
    seconds::{length, seconds},
};

/// Most bytes of a chain's or a request's file.
const MAX_PEM: u64 = 256 << 10;
/// Bytes that a key and its chain may need on the disk.
const ROOM: usize = 64 << 10;
/// Bits of a mode that a key's file may not have: others may not read it.
const OTHERS: u32 = 0o077;

/// A certificate's key.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Key {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    /// Of 2048 bits and more, of requests (CSR) alone
    Rsa,
}

impl From<Key> for pb::CertificateKey {
    fn from(key: Key) -> Self {
        match key {
            Key::Ed25519 => Self::Ed25519,
            Key::EcdsaP256 => Self::EcdsaP256,
            Key::EcdsaP384 => Self::EcdsaP384,
            Key::Rsa => Self::Rsa,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

impl From<Reason> for pb::RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::AffiliationChanged => Self::AffiliationChanged,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
            Reason::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Roots, and issuers below them
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// What certificates may be
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Shows or sets where everybody reaches this CA: certificates from then on name their CRL and OCSP responder there
    Url {
        /// The mount
        mount: String,
        /// Like http://pki.example.org
        #[arg(long, value_name = "URL")]
        set: Option<String>,
    },
    /// Makes a key and a certificate for it
    Issue(Issue),
    /// Certifies the key of a request (CSR); its names are taken, and nothing else
    Sign(Sign),
    /// Makes a certificate of the same names and profile, for a new key; the one before stays valid
    Renew(Renew),
    /// Certificates that were issued
    #[command(subcommand)]
    Certificate(CertificateCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Makes a root, which signs issuers alone
    CreateRoot(Create),
    /// Makes an issuer below a root, which signs certificates
    Create {
        #[command(flatten)]
        create: Create,
        /// The root
        #[arg(long, value_name = "NAME")]
        under: String,
        /// Certificates may be for this name and all below it; repeatable
        #[arg(long, value_name = "DOMAIN")]
        permit_dns: Vec<String>,
        /// Certificates may not be for this name and all below it; repeatable
        #[arg(long, value_name = "DOMAIN")]
        exclude_dns: Vec<String>,
        /// Certificates may be for addresses of this network; repeatable
        #[arg(long, value_name = "CIDR")]
        permit_ip: Vec<String>,
        /// Certificates may not be for addresses of this network; repeatable
        #[arg(long, value_name = "CIDR")]
        exclude_ip: Vec<String>,
    },
    /// Takes a CA that was made elsewhere
    Import {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// Its certificate, then those above it, the root last (PEM)
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// Its private key, not encrypted (PKCS #8 in PEM)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Shows the roots and issuers that one may read
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
    },
    /// Shows an issuer, and its chain
    Show {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
    },
    /// Changes an issuer
    #[command(group = ArgGroup::new("change").required(true).args(["make_default", "disable", "enable"]))]
    Update {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// `/ca` and `/crl` of the mount are of it
        #[arg(long)]
        make_default: bool,
        /// It issues nothing more; CRL and OCSP go on
        #[arg(long)]
        disable: bool,
        /// It issues again
        #[arg(long)]
        enable: bool,
    },
    /// Deletes a CA with its key: nothing of it can be revoked any more
    #[command(visible_alias = "rm")]
    Delete {
        /// MOUNT/ISSUER
        #[arg(value_parser = at)]
        issuer: At,
        /// Also one of which certificates are still valid
        #[arg(long)]
        with_all: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// MOUNT/ISSUER
    #[arg(value_parser = at)]
    issuer: At,
    /// The common name of its subject
    #[arg(long, value_name = "NAME")]
    common_name: String,
    /// The organization of its subject
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    organization: String,
    /// Its key
    #[arg(long, value_enum, default_value = "ecdsa-p384")]
    key: Key,
    /// How long it is valid, like 3650d [default: ten years of a root, five of an issuer]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
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
#[command(group = ArgGroup::new("usage").required(true).multiple(true).args(["for_server", "for_client"]))]
pub(crate) struct Put {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// Who signs: an issuer that is no root
    #[arg(long, value_name = "NAME")]
    issuer: String,
    /// This name; repeatable
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Names below this one, at any depth; repeatable
    #[arg(long, value_name = "DOMAIN")]
    below: Vec<String>,
    /// Names may begin with `*.`
    #[arg(long)]
    wildcards: bool,
    /// Addresses of this network; repeatable
    #[arg(long, value_name = "CIDR")]
    ip: Vec<String>,
    /// This SPIFFE ID; repeatable
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// SPIFFE IDs below this one; repeatable
    #[arg(long, value_name = "URI")]
    uri_below: Vec<String>,
    /// For TLS servers
    #[arg(long)]
    for_server: bool,
    /// For TLS clients
    #[arg(long)]
    for_client: bool,
    /// Keys that are certified; repeatable
    #[arg(long, value_enum, default_value = "ecdsa-p256")]
    key: Vec<Key>,
    /// The first name is the subject's common name too
    #[arg(long)]
    common_name: bool,
    /// How long a certificate is valid if its request does not say, like 90d [default: --max-ttl]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
    /// The longest that it may be
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl: u64,
}

/// Where what is issued goes.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// Writes the certificate and the issuers above it there (PEM), as servers show them
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// How long it is valid, like 90d [default: as the profile says]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// For this DNS name, address or SPIFFE ID; repeatable
    #[arg(long, value_name = "NAME", required = true)]
    name: Vec<String>,
    #[command(flatten)]
    to: To,
    /// Writes the new key there, for its owner alone (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the key is [default: as the profile says]
    #[arg(long, value_enum)]
    key_algorithm: Option<Key>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// The request (PEM)
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// For this name, instead of those of the request; repeatable
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("for").required(true).args(["key", "csr"]))]
pub(crate) struct Renew {
    /// The mount
    mount: String,
    /// The serial number of the certificate
    serial: String,
    #[command(flatten)]
    to: To,
    /// Makes a new key and writes it there, in the place of the one that may be there
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For the key of a request (PEM) instead
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Shows certificates that one may read; with --expires-within as they end
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        mount: String,
        /// Those alone that end within this time, like 30d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_within: Option<u64>,
        /// Those for this name alone
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        name: String,
        /// Those of this profile alone
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        profile: String,
        /// Those that are revoked alone
        #[arg(long)]
        revoked: bool,
    },
    /// Shows a certificate
    Show {
        /// The mount
        mount: String,
        /// Its serial number
        serial: String,
    },
    /// Revokes a certificate, for ever; CRL and OCSP say so at once
    Revoke {
        /// The mount
        mount: String,
        /// Its serial number
        serial: String,
        /// Why
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: Reason,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::Issuer(command) => command.run(client, out).await,
            Self::Profile(command) => command.run(client, out).await,
            Self::Url { mount, set } => url(client, out, mount, set.as_deref()).await,
            Self::Issue(issue) => issue.run(client, out).await,
            Self::Sign(sign) => sign.run(client, out).await,
            Self::Renew(renew) => renew.run(client, out).await,
            Self::Certificate(command) => command.run(client, out).await,
        }
    }
}

async fn url(client: &Client, out: Output, mount: &str, set: Option<&str>) -> Result {
    let mut pki = client.pki().await?;
    let mount = mount.to_owned();
    let urls = match set {
        Some(base) => {
            let base = base.to_owned();
            call(pki.set_urls(pb::SetUrlsRequest { mount, base })).await?
        }
        None => call(pki.get_urls(pb::GetUrlsRequest { mount })).await?,
    };
    let sentence = match &*urls.base {
        "" => "certificates name no CRL and no OCSP responder; `--set URL` makes them",
        base => base,
    };
    Ok(out.done(sentence, &json("PkiUrls", &urls)?)?)
}

impl IssuerCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let issuer = match self {
            Self::CreateRoot(create) => {
                let At { mount, name } = create.issuer.clone();
                let request = pb::CreateRootRequest {
                    mount,
                    name,
                    key_algorithm: pb::CertificateKey::from(create.key).into(),
                    common_name: create.common_name.clone(),
                    organization: create.organization.clone(),
                    ttl_s: create.ttl,
                };
                call(pki.create_root(request)).await?
            }
            Self::Create {
                create,
                under,
                permit_dns,
                exclude_dns,
                permit_ip,
                exclude_ip,
            } => {
                let At { mount, name } = create.issuer.clone();
                let constraints = pb::NameConstraints {
                    permitted_dns: permit_dns.clone(),
                    excluded_dns: exclude_dns.clone(),
                    permitted_ips: permit_ip.clone(),
                    excluded_ips: exclude_ip.clone(),
                };
                let none = constraints == pb::NameConstraints::default();
                let request = pb::CreateIssuerRequest {
                    mount,
                    name,
                    under: under.clone(),
                    key_algorithm: pb::CertificateKey::from(create.key).into(),
                    common_name: create.common_name.clone(),
                    organization: create.organization.clone(),
                    ttl_s: create.ttl,
                    constraints: (!none).then_some(constraints),
                };
                call(pki.create_issuer(request)).await?
            }
            Self::Import { issuer, chain, key } => {
                let At { mount, name } = issuer.clone();
                let what =
                    || mcdsl::cli::Failure::usage(format_args!("there is no {}", key.display()));
                let key = read_private(key, MAX_PEM, OTHERS)?.ok_or_else(what)?;
                let request = pb::ImportIssuerRequest {
                    mount,
                    name,
                    chain: read_text(chain, MAX_PEM)?,
                    private_key: key.expose_secret().to_owned(),
                };
                call(pki.import_issuer(request)).await?
            }
            Self::List { mount } => {
                let mount = mount.clone();
                let issuers = call(pki.list_issuers(pb::ListIssuersRequest { mount }));
                let issuers = issuers.await?.issuers;
                let rows = issuers.iter().map(issuer_row).collect();
                let header = ["ISSUER", "SUBJECT", "UNDER", "UNTIL", "STATE"];
                let empty = "there is none that you may read; `metacrypt pki issuer create-root` makes a root";
                return Ok(out.table(&header, rows, empty, &json_list("PkiIssuer", &issuers)?)?);
            }
            Self::Show { issuer } => {
                let At { mount, name } = issuer.clone();
                call(pki.get_issuer(pb::GetIssuerRequest { mount, name })).await?
            }
            Self::Update {
                issuer,
                make_default,
                disable,
                enable,
            } => {
                let At { mount, name } = issuer.clone();
                let request = pb::UpdateIssuerRequest {
                    mount,
                    name,
                    make_default: *make_default,
                    disabled: (*disable || *enable).then_some(*disable),
                };
                call(pki.update_issuer(request)).await?
            }
            Self::Delete {
                issuer,
                with_all,
                yes,
            } => {
                let At { mount, name } = issuer.clone();
                let what = format!(
                    "{mount}/{name} will be deleted with its key: nothing of it can be revoked any more"
                );
                prompt::confirm(&what, *yes)?;
                let sentence = format!("{mount}/{name} is deleted");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                let confirm = with_all.then(|| name.clone()).unwrap_or_default();
                let request = pb::DeleteIssuerRequest {
                    mount,
                    name,
                    confirm,
                };
                call(pki.delete_issuer(request)).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("PkiIssuer", &issuer)?)?);
        }
        let text = view::lines(&issuer_lines(&issuer));
        Ok(write_out(&(text + &issuer.chain))?)
    }
}

/// A name of an enum, as it is said on the command line.
fn said(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

fn key_name(key: pb::CertificateKey) -> String {
    said(key.as_str_name(), "CERTIFICATE_KEY_")
}

fn state(issuer: &pb::PkiIssuer) -> String {
    let parts = [
        (issuer.root, "root"),
        (issuer.default, "default"),
        (issuer.disabled, "disabled"),
    ];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    view::text(&parts.collect::<Vec<_>>().join(", "))
}

fn issuer_row(issuer: &pb::PkiIssuer) -> Vec<String> {
    vec![
        issuer.name.clone(),
        issuer.subject.clone(),
        view::text(&issuer.under),
        view::time(issuer.not_after.as_ref()),
        state(issuer),
    ]
}

fn issuer_lines(issuer: &pb::PkiIssuer) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("issuer", issuer.name.clone()),
        ("subject", issuer.subject.clone()),
        ("key", key_name(issuer.key_algorithm())),
        ("under", view::text(&issuer.under)),
        ("from", view::time(issuer.not_before.as_ref())),
        ("until", view::time(issuer.not_after.as_ref())),
        ("state", state(issuer)),
        ("fingerprint", issuer.fingerprint.clone()),
    ];
    if let Some(constraints) = &issuer.constraints {
        rows.extend([
            ("permits DNS", view::names(&constraints.permitted_dns)),
            ("excludes DNS", view::names(&constraints.excluded_dns)),
            ("permits IP", view::names(&constraints.permitted_ips)),
            ("excludes IP", view::names(&constraints.excluded_ips)),
        ]);
    }
    rows
}

impl Put {
    pub(super) fn request(&self) -> pb::PutPkiProfileRequest {
        let At { mount, name } = self.profile.clone();
        let keys = self
            .key
            .iter()
            .map(|key| pb::CertificateKey::from(*key).into());
        let profile = pb::PkiProfile {
            name: name.clone(),
            issuer: self.issuer.clone(),
            dns_names: self.dns.clone(),
            dns_suffixes: self.below.clone(),
            wildcards: self.wildcards,
            ip_networks: self.ip.clone(),
            uris: self.uri.clone(),
            uri_prefixes: self.uri_below.clone(),
            server: self.for_server,
            client: self.for_client,
            key_algorithms: keys.collect(),
            common_name: self.common_name,
            ttl_s: self.ttl,
            max_ttl_s: self.max_ttl,
        };
        pb::PutPkiProfileRequest {
            mount,
            name,
            profile: Some(profile),
        }
    }
}

impl ProfileCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let profile = match self {
            Self::List { mount } => {
                let request = pb::ListPkiProfilesRequest {
                    mount: mount.clone(),
                };
                let profiles = call(pki.list_profiles(request)).await?.profiles;
                let row = |profile: &pb::PkiProfile| {
                    let names = names(profile);
                    let most = length(profile.max_ttl_s);
                    vec![
                        profile.name.clone(),
                        profile.issuer.clone(),
                        names,
                        usage(profile),
                        most,
                    ]
                };
                let rows = profiles.iter().map(row).collect();
                let header = ["PROFILE", "ISSUER", "NAMES", "FOR", "AT MOST"];
                let empty = format!("there is no profile in {mount} that you may read");
                let value = json_list("PkiProfile", &profiles)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { profile } => {
                let At { mount, name } = profile.clone();
                call(pki.get_profile(pb::GetPkiProfileRequest { mount, name })).await?
            }
            Self::Put(put) => call(pki.put_profile(put.request())).await?,
            Self::Delete { profile, yes } => {
                let At { mount, name } = profile.clone();
                prompt::confirm(&format!("the profile {mount}/{name} will be removed"), *yes)?;
                let sentence = format!("{mount}/{name} is removed");
                let value = json!({ "deleted": format!("{mount}/{name}") });
                call(pki.delete_profile(pb::DeletePkiProfileRequest { mount, name })).await?;
                return Ok(out.done(&sentence, &value)?);
            }
        };
        if out.json {
            return Ok(out.json(&json("PkiProfile", &profile)?)?);
        }
        let keys: Vec<_> = profile.key_algorithms().map(key_name).collect();
        let rows = [
            ("profile", profile.name.clone()),
            ("issuer", profile.issuer.clone()),
            ("names", names(&profile)),
            ("wildcards", view::yes(profile.wildcards)),
            ("for", usage(&profile)),
            ("keys", view::names(&keys)),
            ("common name", view::yes(profile.common_name)),
            ("valid for", length(profile.ttl_s)),
            ("at most", length(profile.max_ttl_s)),
        ];
        Ok(write_out(&view::lines(&rows))?)
    }
}

fn names(profile: &pb::PkiProfile) -> String {
    let exact = [&profile.dns_names, &profile.ip_networks, &profile.uris];
    let exact = exact.into_iter().flatten().cloned();
    let below = profile.dns_suffixes.iter().chain(&profile.uri_prefixes);
    let below = below.map(|name| format!("(below {name})"));
    view::text(&exact.chain(below).collect::<Vec<_>>().join(" "))
}

fn usage(profile: &pb::PkiProfile) -> String {
    let parts = [(profile.server, "servers"), (profile.client, "clients")];
    let parts = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    parts.collect::<Vec<_>>().join(" and ")
}

/// Room for a key and a chain, taken before what goes there is made.
struct Files<'a> {
    cert: (&'a Path, PrivateFile),
    key: Option<(&'a Path, PrivateFile)>,
}

impl To {
    fn files<'a>(&'a self, key: Option<&'a Path>) -> Result<Files<'a>> {
        let room =
            |path: &'a Path| -> Result<_> { Ok((path, PrivateFile::create(path)?.reserve(ROOM)?)) };
        Ok(Files {
            cert: room(&self.cert)?,
            key: key.map(room).transpose()?,
        })
    }
}

impl Files<'_> {
    /// The key first: a chain without its key is of no use.
    fn write(self, issued: &pb::IssuedCertificate, out: Output) -> Result {
        let mut told = Vec::new();
        if let Some((path, file)) = self.key {
            file.write(issued.private_key.as_bytes())?;
            told.push(path.display().to_string());
        }
        let (path, file) = self.cert;
        file.write(issued.chain.as_bytes())?;
        told.push(path.display().to_string());
        let sentence = format!(
            "{}: serial {}, until {}",
            told.join(", "),
            issued.serial,
            view::time(issued.not_after.as_ref())
        );
        let value = json!({
            "serial": issued.serial,
            "files": told,
            "chain": issued.chain,
            "root": issued.root,
        });
        Ok(out.done(&sentence, &value)?)
    }
}

impl Issue {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let files = self.to.files(Some(&self.key))?;
        let At { mount, name } = self.profile.clone();
        let key = self.key_algorithm.map(pb::CertificateKey::from);
        let request = pb::IssueCertificateRequest {
            mount,
            profile: name,
            names: self.name.clone(),
            ttl_s: self.to.ttl,
            key_algorithm: key.unwrap_or_default().into(),
        };
        files.write(&call(pki.issue(request)).await?, out)
    }
}

impl Sign {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let files = self.to.files(None)?;
        let At { mount, name } = self.profile.clone();
        let request = pb::SignCsrRequest {
            mount,
            profile: name,
            csr: read_text(&self.csr, MAX_PEM)?,
            names: self.name.clone(),
            ttl_s: self.to.ttl,
        };
        files.write(&call(pki.sign(request)).await?, out)
    }
}

impl Renew {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let files = self.to.files(self.key.as_deref())?;
        let csr = self.csr.as_ref().map(|path| read_text(path, MAX_PEM));
        let request = pb::RenewCertificateRequest {
            mount: self.mount.clone(),
            serial: self.serial.clone(),
            csr: csr.transpose()?.unwrap_or_default(),
            ttl_s: self.to.ttl,
            key_algorithm: pb::CertificateKey::Unspecified.into(),
        };
        files.write(&call(pki.renew(request)).await?, out)
    }
}

impl CertificateCommand {
    async fn run(&self, client: &Client, out: Output) -> Result {
        let mut pki = client.pki().await?;
        let certificate = match self {
            Self::List { .. } => return self.list(client, out).await,
            Self::Show { mount, serial } => {
                let request = pb::GetCertificateRequest {
                    mount: mount.clone(),
                    serial: serial.clone(),
                };
                call(pki.get_certificate(request)).await?
            }
            Self::Revoke {
                mount,
                serial,
                reason,
                yes,
            } => {
                prompt::confirm(
                    &format!("the certificate {serial} will be revoked, for ever"),
                    *yes,
                )?;
                let request = pb::RevokeCertificateRequest {
                    mount: mount.clone(),
                    serial: serial.clone(),
                    reason: pb::RevocationReason::from(*reason).into(),
                };
                call(pki.revoke(request)).await?
            }
        };
        if out.json {
            return Ok(out.json(&json("PkiCertificate", &certificate)?)?);
        }
        let rows = [
            ("serial", certificate.serial.clone()),
            ("names", view::names(&certificate.names)),
            ("profile", view::text(&certificate.profile)),
            ("issuer", certificate.issuer.clone()),
            ("account", view::text(&certificate.account)),
            ("from", view::time(certificate.not_before.as_ref())),
            ("until", view::time(certificate.not_after.as_ref())),
            ("revoked", revoked(&certificate)),
            ("renews", view::text(&certificate.renews)),
        ];
        Ok(write_out(&(view::lines(&rows) + &certificate.certificate))?)
    }

    async fn list(&self, client: &Client, out: Output) -> Result {
        let Self::List {
            mount,
            expires_within,
            name,
            profile,
            revoked: only_revoked,
        } = self
        else {
            return Ok(());
        };
        let mut pki = client.pki().await?;
        let before = expires_within.map(|within| {
            let now = std::time::SystemTime::now();
            prost_types::Timestamp::from(now + std::time::Duration::from_secs(within))
        });
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let request = pb::ListCertificatesRequest {
                mount: mount.clone(),
                expires_before: before,
                name: name.clone(),
                revoked: *only_revoked,
                profile: profile.clone(),
                after,
                ..pb::ListCertificatesRequest::default()
            };
            let page = call(pki.list_certificates(request)).await?;
            all.extend(page.certificates);
            after = page.next;
            if after.is_empty() {
                break;
            }
        }
        let row = |certificate: &pb::PkiCertificate| {
            vec![
                certificate.serial.clone(),
                view::names(&certificate.names),
                view::text(&certificate.profile),
                view::time(certificate.not_after.as_ref()),
                revoked(certificate),
            ]
        };
        let rows = all.iter().map(row).collect();
        let header = ["SERIAL", "NAMES", "PROFILE", "UNTIL", "REVOKED"];
        let empty = format!("there is no such certificate of {mount} that you may read");
        Ok(out.table(&header, rows, &empty, &json_list("PkiCertificate", &all)?)?)
    }
}

fn revoked(certificate: &pb::PkiCertificate) -> String {
    match &certificate.revoked {
        None => "-".to_owned(),
        Some(_) => {
            let reason = said(certificate.reason().as_str_name(), "REVOCATION_REASON_");
            format!("{}, {reason}", view::time(certificate.revoked.as_ref()))
        }
    }
}
