//! Snapshots, what is made of them, the audit log, units, and what a certificate is kept by, as who operates it meets them.

mod certificates;
mod log;
mod snapshots;
mod units;

use std::{path::Path, process::Output};

pub(crate) use certificates::Ca;
use rusqlite::{Connection, config::DbConfig};

/// A database as somebody has it who writes its file: for him the log's triggers are none.
fn unguarded(file: &Path) -> Connection {
    let db = Connection::open(file).unwrap();
    let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
    assert!(!db.set_db_config(triggers, false).unwrap());
    db
}

fn error(out: &Output) -> String {
    assert!(!out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}
