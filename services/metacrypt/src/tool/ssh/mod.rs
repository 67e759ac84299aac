//! `metacrypt ssh`: authorities, profiles, certificates, and what is revoked.

mod ca;
mod certificate;
mod profile;
mod revocation;

use clap::Subcommand;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::cli::Output;

use super::{
    At, Client, Result, at, files, in_mount, json, json_list, mount_name, profile as profiles,
    read_text, said, seconds, seen,
};

/// Most bytes of a public key's file.
const MAX_KEY: u64 = 16 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The keys of an authority: one signs, all are published
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// What certificates may say
    #[command(subcommand)]
    Profile(profiles::ProfileCommand<profile::Put>),
    /// Signs a public key by a profile; the certificate is written beside it, where ssh looks for it
    Sign(certificate::Sign),
    /// Certificates that were signed
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// All certificates of an account, or a key with all of its certificates
    #[command(subcommand)]
    Revocation(revocation::RevocationCommand),
}

impl Command {
    pub(super) async fn run(&self, client: &Client, out: Output) -> Result {
        match self {
            Self::Ca(command) => command.run(client, out).await,
            Self::Profile(command) => {
                let ssh = client.ssh().await?;
                command.run(client, "ssh", ssh, out).await
            }
            Self::Sign(sign) => sign.run(client, out).await,
            Self::Certificate(command) => command.run(client, out).await,
            Self::Revocation(command) => command.run(client, out).await,
        }
    }
}

fn kind(kind: pb::SshKind) -> &'static str {
    match kind {
        pb::SshKind::User => "users",
        pb::SshKind::Host => "hosts",
        pb::SshKind::Unspecified => "unknown",
    }
}
