//! `metacrypt restore`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mcdsl::{
    cli::{Output, Progress},
    human,
};
use serde_json::{Value, json};

use super::{DUMPED, secret};
use crate::{memory, restore};

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
    pub(super) fn run(&self, database: &Path, out: Output) -> anyhow::Result<()> {
        match self.verify {
            true => self.verify(database, out),
            false => self.restore(database, out),
        }
    }

    fn restore(&self, database: &Path, out: Output) -> anyhow::Result<()> {
        let progress = Progress::begin("restoring");
        let restored = restore::restore(database, &self.snapshot, self.replace);
        drop(progress);
        let restored = restored?;
        let database = restored.database.display().to_string();
        let before = restored.before.map(|before| before.display().to_string());
        let mut text = format!(
            "database    {database}\naudit log   {}, all as they were written\nseal        by what opened it when the snapshot was made; `metacrypt unseal` once the service runs\n\
             since       keys, certificates, rules and passwords of the seal are as they were then: what was changed or revoked later is to be done again",
            human::count(restored.audit_rows, "row"),
        );
        if let Some(before) = &before {
            text.push_str(&format!("\nbefore      {before}"));
        }
        let value =
            json!({ "database": database, "audit_rows": restored.audit_rows, "before": before });
        Ok(out.done(&text, &value)?)
    }

    fn verify(&self, database: &Path, out: Output) -> anyhow::Result<()> {
        memory::undumped().context(DUMPED)?;
        let (mut progress, mut by) = (None, "");
        let verified = restore::verify(database, &self.snapshot, |status| {
            let secret = secret::of_seal(status, self.recovery_key, self.shares)?;
            by = secret.kind();
            progress = Some(Progress::begin("opening the snapshot"));
            Ok(secret)
        });
        drop(progress);
        let (status, found, drilled) = verified?;
        let head = found
            .head
            .map(|head| format!("{}:{}", head.seq, human::hex(&head.hash)));
        let last = head
            .as_ref()
            .map(|head| format!("; the last one is {head}"));
        let mut text = format!(
            "seal        opens by the {by}; master key number {}\naudit log   {}, all as they were written{}\n",
            status.generation,
            human::count(found.rows, "row"),
            last.unwrap_or_default()
        );
        for (mount, values) in &drilled.values {
            let values = human::count(*values, "value");
            text.push_str(&format!("mount       {mount}: {values}, all can be read\n"));
        }
        text.push_str("policy      can be used\nsnapshot    can be restored; nothing was changed");
        let mounts = drilled.values.iter();
        let value = json!({
            "by": by,
            "generation": status.generation,
            "audit_rows": found.rows,
            "audit_head": head,
            "mounts": mounts.map(|(mount, values)| (mount.clone(), (*values).into())).collect::<serde_json::Map<String, Value>>(),
        });
        Ok(out.done(&text, &value)?)
    }
}
