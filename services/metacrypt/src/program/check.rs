//! `metacrypt check`.

use std::{path::Path, process::ExitCode};

use mcdsl::{
    cli::{chain, write_out},
    db, server, service,
};

use crate::{
    log,
    start::{Config, SERVICE},
};

/// What every service looks at, the newest rows of the audit log, and whether there is a seal.
pub(super) fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let code = service::check(&SERVICE, config, "run `metacrypt init`")?;
    let public = config.service.public_listen;
    let public = public.and_then(|at| server::needs_capability("service.public_listen", at));
    if let Some(warning) = public {
        eprintln!("warning: {warning}");
    }
    let database = &config.database.path;
    check_log(database)?;
    let made = database.exists() && {
        let database = db::open_as_it_is(database)?;
        let found = database.query_row("SELECT count(*) FROM key_slot", [], |row| row.get(0));
        // Of one that was never opened there is no table.
        found.unwrap_or(0) > 0
    };
    write_out(&format!(
        "seal        {}\n",
        if made {
            "is made"
        } else {
            "is not made; run `metacrypt init`"
        }
    ))?;
    Ok(if made { code } else { ExitCode::FAILURE })
}

/// Tells whether the newest rows of the audit log are as they were written; of a database that is not there nothing.
fn check_log(database: &Path) -> anyhow::Result<()> {
    if database.exists() {
        match log::flaw(&db::open_as_it_is(database)?) {
            Ok(None) => write_out(&format!(
                "audit log   the newest {} rows are as they were written\n",
                log::ROWS
            ))?,
            Ok(Some(problem)) => write_out(&format!(
                "warning     the audit log is not as it was written: {problem}; keep the database as it is, and compare it with a snapshot\n"
            ))?,
            Err(error) => write_out(&format!(
                "warning     the audit log cannot be read: {}\n",
                chain(&error)
            ))?,
        }
    }
    Ok(())
}
