//! `metacrypt pki certificate`.

use std::time::{Duration, SystemTime};

use clap::{Subcommand, ValueEnum};
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::{Output, call, prompt, view, write_out};
use prost_types::Timestamp;

use super::{Client, Result, in_mount, json, json_list, mount_name, said, seconds::seconds, seen};

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
pub(crate) enum CertificateCommand {
    /// Shows certificates that one may read; with --expires-within as they end
    #[command(visible_alias = "ls")]
    List {
        /// The mount
        #[arg(value_parser = mount_name)]
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
        /// Those that this CA issued alone
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        issuer: String,
        /// Those that are revoked alone, themselves or with their CA
        #[arg(long)]
        revoked: bool,
    },
    /// Shows a certificate
    Show {
        /// The mount
        #[arg(value_parser = mount_name)]
        mount: String,
        /// Its serial number
        serial: String,
    },
    /// Revokes a certificate, for ever; CRL and OCSP say so at once
    Revoke {
        /// The mount
        #[arg(value_parser = mount_name)]
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

impl CertificateCommand {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
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
                let request = pb::GetCertificateRequest {
                    mount: mount.clone(),
                    serial: serial.clone(),
                };
                let found = seen(*yes, pki.get_certificate(request)).await?;
                prompt::confirm(&revoking(serial, found.as_ref()), *yes)?;
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
            ("of", of(&certificate)),
            ("issuer", certificate.issuer.clone()),
            ("account", account(&certificate)),
            ("from", view::time(certificate.not_before.as_ref())),
            ("until", view::time(certificate.not_after.as_ref())),
            ("revoked", revoked(&certificate)),
            ("renews", view::text(&certificate.renews)),
        ];
        let text = view::lines(&rows);
        Ok(write_out(&format!("{text}{}", certificate.certificate))?)
    }

    async fn list(&self, client: &Client, out: Output) -> Result {
        let Self::List {
            mount,
            expires_within,
            name,
            profile,
            issuer,
            revoked: only_revoked,
        } = self
        else {
            return Ok(());
        };
        let (profile, issuer) = (
            in_mount("--profile", mount, profile)?,
            in_mount("--issuer", mount, issuer)?,
        );
        let mut pki = client.pki().await?;
        let before = expires_within.map(|within| {
            let now = SystemTime::now();
            Timestamp::from(now + Duration::from_secs(within))
        });
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let request = pb::ListCertificatesRequest {
                mount: mount.clone(),
                expires_before: before,
                name: name.clone(),
                revoked: *only_revoked,
                profile: profile.to_owned(),
                issuer: issuer.to_owned(),
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
                of(certificate),
                holder(certificate),
                view::time(certificate.not_after.as_ref()),
                revoked(certificate),
            ]
        };
        let rows = all.iter().map(row).collect();
        let header = ["SERIAL", "NAMES", "OF", "ACCOUNT", "UNTIL", "REVOKED"];
        let empty = format!("there is no such certificate in {mount} that you may read");
        let empty = match all.is_empty() {
            true => client.nothing(mount, "pki", &empty).await?,
            false => empty,
        };
        Ok(out.table(&header, rows, &empty, &json_list("PkiCertificate", &all)?)?)
    }
}

/// Whose it is, by name if that was noted.
fn holder(certificate: &pb::PkiCertificate) -> String {
    match &*certificate.account_name {
        "" => view::text(&certificate.account),
        name => name.to_owned(),
    }
}

/// The same, with the id, which is never another's.
fn account(certificate: &pb::PkiCertificate) -> String {
    match &*certificate.account_name {
        "" => view::text(&certificate.account),
        name => format!("{name} ({})", certificate.account),
    }
}

/// What it is of.
fn of(certificate: &pb::PkiCertificate) -> String {
    match &*certificate.ca {
        "" => format!("profile {}", certificate.profile),
        ca => format!("CA {ca}"),
    }
}

/// What somebody is asked who revokes one.
fn revoking(serial: &str, found: Option<&pb::PkiCertificate>) -> String {
    match found {
        None => format!("the certificate {serial} will be revoked, for ever"),
        Some(found) if !found.ca.is_empty() => format!(
            "the certificate {serial} is the CA {}'s: it will be revoked, for ever; the CA issues nothing more, and nobody trusts what it has issued",
            found.ca
        ),
        Some(found) => format!(
            "the certificate {serial} for {}, of the account {}, will be revoked, for ever",
            found.names.join(" "),
            holder(found)
        ),
    }
}

fn revoked(certificate: &pb::PkiCertificate) -> String {
    match &certificate.revoked {
        None if certificate.issuer_revoked() => format!("the CA {} is", certificate.issuer),
        None => "-".to_owned(),
        Some(_) => {
            let reason = said(certificate.reason().as_str_name(), "REVOCATION_REASON_");
            format!("{}, {reason}", view::time(certificate.revoked.as_ref()))
        }
    }
}
