//! What is left of a database that is not there: whoever has lost it is not to be told to begin anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mcdsl::archive;

use crate::config::Config;

/// The signs that there was one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database {database} is not there, or empty, while {} there: it was lost or moved. Put it back, or restore a snapshot with {}. `mcias init \
     --begin-anew` makes an empty one, without the accounts, rules and audit log of before",
    self.signs(),
    self.command()
)]
pub struct Left {
    database: PathBuf,
    master_key: Option<PathBuf>,
    /// The newest.
    snapshot: Option<PathBuf>,
}

impl Left {
    /// Of a database that is not there, or that nothing was made in.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let database = &config.database.path;
        let master_key = &config.database.master_key;
        let left = Self {
            database: database.clone(),
            // Beside an empty database it is of an `init` that was killed.
            master_key: (master_key.exists() && !database.exists()).then(|| master_key.clone()),
            snapshot: newest_snapshot(config),
        };
        (left.master_key.is_some() || left.snapshot.is_some()).then_some(left)
    }

    fn signs(&self) -> String {
        let key = self.master_key.as_ref();
        let key = key.map(|key| format!("its master key {}", key.display()));
        let snapshot = self.snapshot.as_ref();
        let snapshot = snapshot.map(|last| format!("a snapshot of it, {}", last.display()));
        match (key, snapshot) {
            (Some(key), Some(snapshot)) => format!("{key} and {snapshot}, are"),
            (one, other) => format!("{} is", one.or(other).unwrap_or_default()),
        }
    }

    fn command(&self) -> String {
        let last = self.snapshot.as_ref();
        last.map_or_else(
            || "`mcias restore <snapshot>`".to_owned(),
            |last| format!("`mcias restore {}`", last.display()),
        )
    }
}

/// Whether nothing is there, or a file in which SQLite has written nothing.
pub(crate) fn is_empty(database: &Path) -> bool {
    fs::metadata(database).map_or(true, |found| found.len() == 0)
}

/// The last one where `mcias snapshot` puts them.
fn newest_snapshot(config: &Config) -> Option<PathBuf> {
    let directory = archive::backups(&config.database.path);
    archive::snapshots(crate::SERVICE, &directory).pop()
}
