//! `metacrypt restore`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mc_proto::metacrypt::v1::{SealStatus, UnsealRequest};
use mcdsl::{cli::Progress, human};
use zeroize::Zeroizing;

use super::{DUMPED, secret};
use crate::{
    barrier::{Secret, Status},
    memory, restore,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// What `snapshot` has written
    snapshot: PathBuf,
    /// Replaces a database that is there; it is kept beside, as metacrypt.db.before-restore-…
    #[arg(long, conflicts_with = "verify")]
    replace: bool,
    /// Puts nothing in its place: opens the snapshot by the password of the seal, which is asked for or read from stdin, and reads all that it has. The service may run
    #[arg(long)]
    verify: bool,
    /// With --verify: by the recovery key instead
    #[arg(long, requires = "verify", conflicts_with = "shares")]
    recovery_key: bool,
    /// With --verify: by shares instead, asked for one by one, or read from stdin, one a line
    #[arg(long, requires = "verify")]
    shares: bool,
}

impl Restore {
    pub(super) fn run(&self, database: &Path) -> anyhow::Result<()> {
        match self.verify {
            true => self.verify(database),
            false => self.restore(database),
        }
    }

    fn restore(&self, database: &Path) -> anyhow::Result<()> {
        let progress = Progress::begin("restoring");
        let restored = restore::restore(database, &self.snapshot, self.replace);
        drop(progress);
        let restored = restored?;
        println!(
            "database    {}\naudit log   {}, all as they were written\nseal        by what opened it when the snapshot was made; `metacrypt unseal` once the service runs\n\
             since       keys, certificates, rules and passwords of the seal are as they were then: what was changed or revoked later is to be done again",
            restored.database.display(),
            human::count(restored.audit_rows, "row"),
        );
        if let Some(before) = &restored.before {
            println!("before      {}", before.display());
        }
        Ok(())
    }

    fn verify(&self, database: &Path) -> anyhow::Result<()> {
        memory::undumped().context(DUMPED)?;
        let mut progress = None;
        let verified = restore::verify(database, &self.snapshot, |status| {
            let secret = self.secret(status)?;
            println!("opens       by the {}", secret.kind());
            progress = Some(Progress::begin("opening the snapshot"));
            Ok(secret)
        });
        drop(progress);
        let (status, found, drilled) = verified?;
        println!("seal        master key number {}", status.generation);
        let head = found.head.map_or_else(String::new, |head| {
            format!("; the last one is {}:{}", head.seq, human::hex(&head.hash))
        });
        println!(
            "audit log   {}, all as they were written{head}",
            human::count(found.rows, "row")
        );
        for (mount, values) in &drilled.values {
            println!(
                "mount       {mount}: {}, all can be read",
                human::count(*values, "value")
            );
        }
        println!("policy      can be used\nsnapshot    can be restored; nothing was changed");
        Ok(())
    }

    /// What opens the snapshot, typed or from stdin.
    fn secret(&self, status: &Status) -> anyhow::Result<Secret> {
        let (needed, of) = status.shares.unwrap_or_default();
        let status = SealStatus {
            recovery_key: status.recovery,
            shares_needed: needed.into(),
            shares: of.into(),
            ..SealStatus::default()
        };
        let UnsealRequest {
            password,
            recovery_key,
            shares,
        } = secret(self.recovery_key, self.shares, &status)?;
        Ok(match (self.recovery_key, self.shares) {
            (true, _) => Secret::Recovery(Zeroizing::new(recovery_key)),
            (_, true) => Secret::Shares(shares.into_iter().map(Zeroizing::new).collect()),
            _ => Secret::Password(Zeroizing::new(password)),
        })
    }
}
