//! `metacrypt pki issue`, `sign`, `renew`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgGroup;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Failure, FileLock, Output, PrivateFile, call, view};
use serde_json::json;

use super::{
    At, Client, IssuedKey, MAX_PEM, Result, at,
    files::{Over, What, apart, room},
    mount_name,
    pair::{Pair, copy, copy_of, lock_in},
    read_text,
    seconds::seconds,
    subject,
};

/// For how long a command waits for the one that has the files: that one waits for some answers of a server, each for 30 s at most.
const LIMIT: Duration = Duration::from_mins(3);

/// Where what is issued goes.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// Writes the certificate and the issuers above it there (PEM), as servers show them
    #[arg(long, value_name = "FILE")]
    pub(super) cert: PathBuf,
    /// How long it is valid, like 90d [default: as the profile says]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    pub(super) ttl: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// For this DNS name, address or SPIFFE ID; repeatable
    #[arg(long, value_name = "NAME", required = true, value_parser = subject)]
    name: Vec<String>,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    replace: Replace,
    /// Writes the new key there, for its owner alone (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the key is [default: as the profile says]
    #[arg(long, value_enum)]
    key_algorithm: Option<IssuedKey>,
}

/// Whether files may be there.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Replace {
    /// Replaces files that are there; without it they are refused, and nothing is issued
    #[arg(long)]
    replace: bool,
}

impl Replace {
    fn over(&self) -> Over {
        match self.replace {
            true => Over::Anything,
            false => Over::Nothing,
        }
    }
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
    #[arg(long, value_name = "NAME", value_parser = subject)]
    name: Vec<String>,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    replace: Replace,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("for").required(true).args(["key", "csr"]))]
pub(crate) struct Renew {
    /// The mount
    #[arg(value_parser = mount_name)]
    mount: String,
    /// The serial number of the certificate
    serial: String,
    #[command(flatten)]
    to: To,
    /// Makes a new key and writes it there, in the place of the one before
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For the key of a request (PEM) instead
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// Replaces another certificate than that of this serial number, and a key that does not fit it, too: both are lost
    #[arg(long)]
    replace: bool,
}

/// The files that a command names, while no other one replaces them: of two at once one's key might stay with the other's certificate.
pub(super) struct Locked<'a> {
    cert: &'a Path,
    key: Option<&'a Path>,
    lock: FileLock,
}

/// Room for a key and a chain, taken before what goes there is made.
pub(super) struct Files<'a> {
    _lock: FileLock,
    cert: (&'a Path, PrivateFile),
    key: Option<(&'a Path, PrivateFile)>,
    /// The certificate once more, by which the key is known as ours.
    copy: Option<PrivateFile>,
}

impl To {
    /// Waits until no other command replaces them. Whoever connects does so after that: a connection that waits as long is closed by the service.
    pub(super) fn lock<'a>(
        &'a self,
        key: Option<&'a Path>,
        csr: Option<&'a Path>,
    ) -> Result<Locked<'a>> {
        let named = [
            ("--cert", Some(&*self.cert)),
            ("--key", key),
            ("--csr", csr),
        ];
        let named = named
            .iter()
            .filter_map(|(option, path)| Some((*option, (*path)?)));
        apart(&named.collect::<Vec<_>>())?;
        let directory = PrivateFile::directory(&self.cert)?;
        let does = format!("replaces {}", self.cert.display());
        Ok(Locked {
            cert: &self.cert,
            key,
            lock: FileLock::wait(&lock_in(&directory, &self.cert), LIMIT, &does)?,
        })
    }
}

impl<'a> Locked<'a> {
    /// Takes room.
    pub(super) fn files(self, over: Over) -> Result<Files<'a>> {
        let is_copied = self.key.is_some() && over != Over::Nothing;
        let key = self.key.map(|path| {
            let file = room(path, What::Key, over)?;
            Ok::<_, Failure>((path, file))
        });
        let copy = is_copied.then(|| room(&copy_of(self.cert), What::Certificate, over));
        Ok(Files {
            _lock: self.lock,
            cert: (self.cert, room(self.cert, What::Certificate, over)?),
            key: key.transpose()?,
            copy: copy.transpose()?,
        })
    }
}

impl Files<'_> {
    /// Both are written before either is in its place, the key first: the chain is kept by the service too. Gives the files' names.
    pub(super) fn place(self, mount: &str, issued: &pb::IssuedCertificate) -> Result<Vec<String>> {
        let unwritten = |failure: Failure| {
            let hint = failure.hint.clone().map(|hint| hint + "; ");
            let message = format!("certificate {} was issued: {failure}", issued.serial);
            Failure::new(failure.exit, message).hint(format_args!(
                "{}`metacrypt pki certificate show {mount} {}` shows it, `certificate revoke` revokes it",
                hint.unwrap_or_default(),
                issued.serial
            ))
        };
        let mut told = Vec::new();
        let at = self.key.as_ref().map(|(path, _)| *path);
        let key = match self.key {
            Some((path, file)) => {
                told.push(path.display().to_string());
                Some(
                    file.fill(issued.private_key.as_bytes())
                        .map_err(unwritten)?,
                )
            }
            None => None,
        };
        let (path, file) = self.cert;
        told.push(path.display().to_string());
        let cert = file.fill(issued.chain.as_bytes()).map_err(unwritten)?;
        let copy = match (self.copy, at) {
            (Some(file), Some(at)) => copy(path, at, &issued.chain)
                .and_then(|text| file.fill(text.as_bytes()))
                .map(Some)
                .map_err(unwritten)?,
            _ => None,
        };
        for file in copy.into_iter().chain(key).chain([cert]) {
            file.place().map_err(unwritten)?;
        }
        Ok(told)
    }

    fn write(self, mount: &str, issued: &pb::IssuedCertificate, out: Output) -> Result {
        let files = self.place(mount, issued)?;
        let sentence = format!(
            "{}: serial {}, until {}",
            files.join(", "),
            issued.serial,
            view::time(issued.not_after.as_ref())
        );
        let value = json!({
            "serial": issued.serial,
            "files": files,
            "chain": issued.chain,
            "root": issued.root,
        });
        Ok(out.done(&sentence, &value)?)
    }
}

impl Issue {
    /// By which it is certified.
    pub(in super::super) fn profile(&self) -> &At {
        &self.profile
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let files = self.to.lock(Some(&self.key), None)?;
        let mut pki = client.pki().await?;
        let files = files.files(self.replace.over())?;
        let At { mount, name } = self.profile.clone();
        let key = self.key_algorithm.map(pb::CertificateKey::from);
        let request = pb::IssueCertificateRequest {
            mount,
            profile: name,
            names: self.name.clone(),
            ttl_s: self.to.ttl,
            key_algorithm: key.unwrap_or_default().into(),
        };
        files.write(&self.profile.mount, &call(pki.issue(request)).await?, out)
    }
}

impl Sign {
    /// By which it is certified.
    pub(in super::super) fn profile(&self) -> &At {
        &self.profile
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let files = self.to.lock(None, Some(&self.csr))?;
        let mut pki = client.pki().await?;
        let files = files.files(self.replace.over())?;
        let At { mount, name } = self.profile.clone();
        let request = pb::SignCsrRequest {
            mount,
            profile: name,
            csr: read_text(&self.csr, MAX_PEM)?,
            names: self.name.clone(),
            ttl_s: self.to.ttl,
        };
        files.write(&self.profile.mount, &call(pki.sign(request)).await?, out)
    }
}

impl Renew {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let (key, csr) = (self.key.as_deref(), self.csr.as_deref());
        let files = self.to.lock(key, csr)?;
        let mut pki = client.pki().await?;
        let over = match self.replace {
            true => Over::Anything,
            false => {
                let there = Pair::read(&self.to.cert, key)?;
                there.holds(&self.mount, &self.serial)?;
                there.key_may_go()?;
                Over::Alike
            }
        };
        let files = files.files(over)?;
        let csr = self.csr.as_ref().map(|path| read_text(path, MAX_PEM));
        let request = pb::RenewCertificateRequest {
            mount: self.mount.clone(),
            serial: self.serial.clone(),
            csr: csr.transpose()?.unwrap_or_default(),
            ttl_s: self.to.ttl,
            key_algorithm: pb::CertificateKey::Unspecified.into(),
        };
        files.write(&self.mount, &call(pki.renew(request)).await?, out)
    }
}
