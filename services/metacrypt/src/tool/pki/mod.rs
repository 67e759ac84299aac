//! `metacrypt pki`: roots, issuers, profiles and certificates.

mod acme;
mod certificate;
mod issue;
mod issuer;
mod keep;
mod pair;
mod profile;
mod reach;

use clap::{Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call};

use super::{
    At, Client, Result, at, files, in_mount, json, json_list, mount_name, profile as profiles,
    read_text, removed, said, seconds, seen,
};

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

/// The key of one that is made here.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IssuedKey {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
}

impl From<IssuedKey> for pb::CertificateKey {
    fn from(key: IssuedKey) -> Self {
        match key {
            IssuedKey::Ed25519 => Self::Ed25519,
            IssuedKey::EcdsaP256 => Self::EcdsaP256,
            IssuedKey::EcdsaP384 => Self::EcdsaP384,
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
    Profile(profiles::ProfileCommand<profile::Put>),
    /// Shows or sets where everybody reaches this CA: certificates from then on name their CRL and OCSP responder there
    Url {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Like http://pki.example.org
        #[arg(long, value_name = "URL")]
        set: Option<String>,
    },
    /// Makes a key and a certificate for it
    Issue(issue::Issue),
    /// Certifies a new key where the certificate in a file is missing, ends soon, or is of another name or key; else does nothing. For a timer
    Keep(keep::Keep),
    /// Certifies the key of a request (CSR); its names are taken, and nothing else
    Sign(issue::Sign),
    /// Makes a certificate of the same names and profile, for a new key, in the place of the files of before; the certificate of before stays valid
    Renew(issue::Renew),
    /// Certificates that were issued
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Certificates for programs that ask by ACME (RFC 8555)
    #[command(subcommand)]
    Acme(acme::AcmeCommand),
}

impl Command {
    /// The command that shows the profile that this one goes by.
    pub(super) fn profile_shown(&self) -> String {
        let profile = match self {
            Self::Issue(issue) => issue.profile().to_string(),
            Self::Sign(sign) => sign.profile().to_string(),
            Self::Keep(keep) => keep.profile().to_string(),
            // Of a certificate that is named by its serial number.
            _ => "MOUNT/PROFILE".to_owned(),
        };
        format!("pki profile show {profile}")
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::Issuer(command) => command.run(client, out).await,
            Self::Profile(command) => {
                let pki = client.pki().await?;
                command.run(client, "pki", pki, out).await
            }
            Self::Url { mount, set } => url(client, out, mount, set.as_deref()).await,
            Self::Issue(issue) => issue.run(client, out).await,
            Self::Keep(keep) => keep.run(client, out).await,
            Self::Sign(sign) => sign.run(client, out).await,
            Self::Renew(renew) => renew.run(client, out).await,
            Self::Certificate(command) => command.run(client, out).await,
            Self::Acme(command) => command.run(client, out).await,
        }
    }
}

async fn url(client: &Client, out: Output, mount: &str, set: Option<&str>) -> Result {
    let mut pki = client.pki().await?;
    let (mount, told) = (mount.to_owned(), mount.to_owned());
    let urls = match set {
        Some(base) => {
            let base = base.to_owned();
            call(pki.set_urls(pb::SetUrlsRequest { mount, base })).await?
        }
        None => call(pki.get_urls(pb::GetUrlsRequest { mount })).await?,
    };
    let warning = match (&*urls.warning, &*urls.base) {
        ("", "") => None,
        ("", base) => reach::fault(base, &told).await,
        (warning, _) => Some(warning.to_owned()),
    };
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
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

/// What a certificate may be for, before it is asked for.
fn subject(text: &str) -> std::result::Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme != "spiffe"
    {
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        return Err(format!(
            "it is an address of pages; write the name alone, like {host}"
        ));
    }
    let port = text
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok());
    match port {
        Some((name, _)) if !name.contains(':') => {
            Err(format!("certificates are for no port; write {name}"))
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_certificate_is_for_a_name_and_no_page() {
        for (text, fine) in [
            ("a.example", true),
            ("*.a.example", true),
            ("10.0.0.1", true),
            ("2001:db8::443", true),
            ("spiffe://example/a", true),
            ("https://a.example/", false),
            ("a.example:443", false),
            ("10.0.0.1:443", false),
        ] {
            assert_eq!(super::subject(text).is_ok(), fine, "{text}");
        }
    }
}
