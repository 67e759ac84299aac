//! `metacrypt pki issue`, `sign`, `renew`.

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, PrivateFile, call, view};
use serde_json::json;

use super::{At, Client, Key, MAX_PEM, Result, at, read_text, seconds::seconds};

/// Bytes that a key and its chain may need on the disk.
const ROOM: usize = 64 << 10;

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
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
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
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
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
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
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
