//! `metacrypt ssh sign`, and `metacrypt ssh certificate`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Subcommand;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Exit, Failure, Output, call, prompt, view, write_out};
use prost_types::Timestamp;

use super::{
    At, Client, MAX_KEY, Result, at,
    files::{Over, What, apart, room},
    in_mount, json, json_list, kind, mount_name, read_text,
    seconds::seconds,
    seen,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// MOUNT/PROFILE
    #[arg(value_parser = at)]
    profile: At,
    /// The public key's file, like ~/.ssh/id_ed25519.pub
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whom it is for, like the name of one's own account; repeatable
    #[arg(long, value_name = "NAME", required = true)]
    principal: Vec<String>,
    /// How long it is valid, like 8h [default: as the profile says]
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    ttl: u64,
    /// Writes the certificate there, in the place of the one before [default: beside the key, `-cert.pub` in the place of `.pub`]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replaces a file that is no certificate or that of another key, too; never one with a private key
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Shows certificates that have not expired, as they do
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
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
        /// Those alone that end within this time, like 30d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_within: Option<u64>,
    },
    /// Shows a certificate
    Show {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Its serial number
        serial: u64,
    },
    /// Revokes a certificate, for ever
    Revoke {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Its serial number
        serial: u64,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Where ssh looks for the certificate of this key.
pub(super) fn beside(key: &Path) -> Option<PathBuf> {
    let name = key.file_name()?.to_str()?.strip_suffix(".pub")?;
    Some(key.with_file_name(format!("{name}-cert.pub")))
}

/// The certificate that is there; what is none is refused by what it is.
fn found(certificate: &Path) -> Result<Option<ssh_key::Certificate>> {
    let there = match certificate.exists() {
        true => read_text(certificate, MAX_KEY)?,
        false => return Ok(None),
    };
    Ok(ssh_key::Certificate::from_openssh(there.trim()).ok())
}

/// Writes it beside a file that it does not replace; where.
fn elsewhere(certificate: &Path, serial: u64, bytes: &[u8]) -> Result<PathBuf> {
    let name = certificate.file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let name = format!("{}-{serial}-cert.pub", name.trim_end_matches("-cert.pub"));
    let other = certificate.with_file_name(name);
    room(&other, What::SshCertificate, Over::Nothing)?.write(bytes)?;
    Ok(other)
}

/// Refuses to put a user's certificate in the place of a host's, or the other way round.
fn is_alike(certificate: &Path, signed: &str) -> Result {
    let signed = ssh_key::Certificate::from_openssh(signed.trim()).ok();
    match (found(certificate)?, signed) {
        (Some(there), Some(signed)) if there.cert_type() != signed.cert_type() => {
            let (at, of) = (
                certificate.display(),
                match there.cert_type().is_host() {
                    true => "a host's certificate, which a user's",
                    false => "a user's certificate, which a host's",
                },
            );
            let what = format!(
                "{at} is {of} does not replace without --replace (--to names another file)"
            );
            Err(Failure::new(Exit::Refused, what))
        }
        _ => Ok(()),
    }
}

/// Refuses a certificate that is there and is of another key.
fn certifies(certificate: &Path, key: &str) -> Result {
    let Some(there) = found(certificate)? else {
        return Ok(());
    };
    let key = ssh_key::PublicKey::from_openssh(key);
    match key.is_ok_and(|key| key.key_data() == there.public_key()) {
        true => Ok(()),
        false => {
            let at = certificate.display();
            let what = format!("{at} is the certificate of another key, and is not overwritten");
            Err(Failure::new(Exit::Refused, what)
                .hint("name another file (--to), or say --replace"))
        }
    }
}

impl Sign {
    /// By which it is certified.
    pub(in super::super) fn profile(&self) -> &At {
        &self.profile
    }

    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
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
        let mut ssh = client.ssh().await?;
        apart(&[("--key", &self.key), ("--to", &to)])?;
        let over = match self.replace {
            true => Over::Anything,
            false => {
                certifies(&to, &request.public_key)?;
                Over::Alike
            }
        };
        let file = room(&to, What::SshCertificate, over)?;
        let signed = call(ssh.sign(request)).await?;
        let bytes = format!("{}\n", signed.certificate);
        let alike = match over {
            Over::Alike => is_alike(&to, &signed.certificate),
            Over::Nothing | Over::Anything => Ok(()),
        };
        let written = match alike {
            Ok(()) => file.write(bytes.as_bytes()),
            // Nor is it lost.
            Err(failure) => Err(match elsewhere(&to, signed.serial, bytes.as_bytes()) {
                Ok(other) => {
                    let what = format!("{failure}; the new one is in {}", other.display());
                    Failure::new(failure.exit, what)
                }
                Err(error) => Failure::new(failure.exit, format!("{failure}; {error}")),
            }),
        };
        written.map_err(|failure| {
            let (mount, serial) = (&self.profile.mount, signed.serial);
            let hint = format!(
                "`metacrypt ssh certificate show {mount} {serial}` shows it, `certificate revoke` revokes it"
            );
            let what = format!("certificate {serial} was signed: {failure}");
            Failure::new(failure.exit, what).hint(hint)
        })?;
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
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        let mut ssh = client.ssh().await?;
        let certificate = match self {
            Self::List {
                mount,
                profile,
                account,
                expires_within,
            } => {
                let profile = in_mount("--profile", mount, profile)?;
                let before = expires_within.map(|within| {
                    let now = SystemTime::now();
                    Timestamp::from(now + Duration::from_secs(within))
                });
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let request = pb::ListSshCertificatesRequest {
                        mount: mount.clone(),
                        profile: profile.to_owned(),
                        key_id: account.clone(),
                        expires_before: before,
                        after,
                        ..pb::ListSshCertificatesRequest::default()
                    };
                    let page = call(ssh.list_certificates(request)).await?;
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
                let empty = "there is no certificate that you may read";
                let empty = match all.is_empty() {
                    true => client.nothing(mount, "ssh", empty).await?,
                    false => String::new(),
                };
                let value = json_list("SshCertificate", &all)?;
                return Ok(out.table(&header, rows, &empty, &value)?);
            }
            Self::Show { mount, serial } => {
                let request = pb::GetSshCertificateRequest {
                    mount: mount.clone(),
                    serial: *serial,
                };
                call(ssh.get_certificate(request)).await?
            }
            Self::Revoke { mount, serial, yes } => {
                let request = pb::GetSshCertificateRequest {
                    mount: mount.clone(),
                    serial: *serial,
                };
                let found = seen(*yes, ssh.get_certificate(request)).await?;
                let of = found.map(|found| {
                    format!(" of {} for {}", found.key_id, found.principals.join(" "))
                });
                let of = of.unwrap_or_default();
                let what = format!("the certificate {serial}{of} will be revoked, for ever");
                prompt::confirm(&what, *yes)?;
                let request = pb::RevokeSshCertificateRequest {
                    mount: mount.clone(),
                    serial: *serial,
                };
                call(ssh.revoke(request)).await?
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
