//! `metacrypt pki`: roots, issuers, profiles and certificates.

mod acme;
mod certificate;
mod issue;
mod issuer;
mod profile;

use clap::{Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call};

use super::{At, Client, Result, at, json, json_list, read_text, removed, said, seconds};

/// Most bytes of a chain's or a request's file.
const MAX_PEM: u64 = 256 << 10;

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Roots, and issuers below them
    #[command(subcommand)]
    Issuer(issuer::IssuerCommand),
    /// What certificates may be
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Shows or sets where everybody reaches this CA: certificates from then on name their CRL and OCSP responder there
    Url {
        /// The mount
        mount: String,
        /// Like http://pki.example.org
        #[arg(long, value_name = "URL")]
        set: Option<String>,
    },
    /// Makes a key and a certificate for it
    Issue(issue::Issue),
    /// Certifies the key of a request (CSR); its names are taken, and nothing else
    Sign(issue::Sign),
    /// Makes a certificate of the same names and profile, for a new key; the one before stays valid
    Renew(issue::Renew),
    /// Certificates that were issued
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Certificates for programs that ask by ACME (RFC 8555)
    #[command(subcommand)]
    Acme(acme::AcmeCommand),
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
            Self::Acme(command) => command.run(client, out).await,
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
    if !urls.warning.is_empty() {
        eprintln!("warning: {}", urls.warning);
    }
    let sentence = match &*urls.base {
        "" => "certificates name no CRL and no OCSP responder; `--set URL` makes them",
        base => base,
    };
    Ok(out.done(sentence, &json("PkiUrls", &urls)?)?)
}

fn key_name(key: pb::CertificateKey) -> String {
    said(key.as_str_name(), "CERTIFICATE_KEY_")
}
