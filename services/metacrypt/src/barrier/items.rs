//! What an engine stores: values at paths of its mount, each sealed as what and where it is.

use mcdsl::db::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use zeroize::Zeroizing;

use super::{Mount, key::KeyError};

/// Longest path.
pub(super) const MAX_PATH: usize = 1024;
/// Longest value.
pub(super) const MAX_VALUE: usize = 1 << 20;

/// Why a value is not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// SQLite refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what was stored there.
    #[error("the database was changed by somebody else: {0}")]
    Key(#[from] KeyError),
    /// It is sealed as it should be, and cannot be read.
    #[error("what is stored at {path} cannot be read by this version")]
    Form {
        /// Where.
        path: String,
    },
    /// Over [`MAX_PATH`] or [`MAX_VALUE`].
    #[error("a value of {bytes} bytes at {path:.64} is too long")]
    TooLong {
        /// Where.
        path: String,
        /// Of the value.
        bytes: usize,
    },
}

impl From<rusqlite::Error> for ItemError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A mount's values, in a transaction or as they are.
pub struct Items<'a> {
    db: &'a Connection,
    mount: &'a Mount,
}

impl Mount {
    /// Its values in `db`, which a [`rusqlite::Transaction`] is too.
    #[must_use]
    pub fn items<'a>(&'a self, db: &'a Connection) -> Items<'a> {
        Items { db, mount: self }
    }
}

impl Items<'_> {
    fn place(&self, path: &str) -> String {
        format!("item/{}/{path}", self.mount.id)
    }

    fn opened(&self, path: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ItemError> {
        Ok(self.mount.key.open(&self.place(path), sealed)?)
    }

    /// What is at `path`.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ItemError> {
        let sql = "SELECT value FROM item WHERE mount = ?1 AND path = ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let found = statement.query_row(params![self.mount.number, path], |row| row.get(0));
        let sealed: Option<Vec<u8>> = found.optional()?;
        sealed.map(|sealed| self.read(path, &sealed)).transpose()
    }

    fn read<T: DeserializeOwned>(&self, path: &str, sealed: &[u8]) -> Result<T, ItemError> {
        let value = self.opened(path, sealed)?;
        let form = |_| ItemError::Form {
            path: path.to_owned(),
        };
        serde_json::from_slice(&value).map_err(form)
    }

    /// Puts `value` at `path`, in the place of what is there.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn put<T: Serialize>(&self, path: &str, value: &T) -> Result<(), ItemError> {
        let form = |_| ItemError::Form {
            path: path.to_owned(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(form)?);
        if path.len() > MAX_PATH || plain.len() > MAX_VALUE {
            return Err(ItemError::TooLong {
                path: path.to_owned(),
                bytes: plain.len(),
            });
        }
        let sealed = self.mount.key.seal(&self.place(path), &plain)?;
        let sql = "INSERT INTO item (mount, path, value) VALUES (?1, ?2, ?3) ON CONFLICT (mount, path) DO UPDATE SET value = excluded.value";
        let changed =
            self.db
                .prepare_cached(sql)?
                .execute(params![self.mount.number, path, sealed])?;
        match changed {
            1 => Ok(()),
            other => Err(rusqlite::Error::StatementChangedRows(other).into()),
        }
    }

    /// Deletes what is at `path`; whether there was something.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn delete(&self, path: &str) -> Result<bool, ItemError> {
        let sql = "DELETE FROM item WHERE mount = ?1 AND path = ?2";
        Ok(self
            .db
            .prepare_cached(sql)?
            .execute(params![self.mount.number, path])?
            > 0)
    }

    /// Paths below `prefix`, which ends with a `/`, in their order: at most `limit` behind the path `after`. No value is read.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn names(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ItemError> {
        self.below("path", prefix, after, limit, |row| row.get(0))
    }

    /// As [`Self::names`], and what is there.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, T)>, ItemError> {
        let found: Vec<(String, Vec<u8>)> =
            self.below("path, value", prefix, after, limit, |row| row.try_into())?;
        let read = |(path, sealed): (String, Vec<u8>)| {
            let value = self.read(&path, &sealed)?;
            Ok((path, value))
        };
        found.into_iter().map(read).collect()
    }

    /// Opens each value and looks whether it can be read, and gives their number.
    ///
    /// # Errors
    /// [`ItemError`], of the first that cannot.
    pub fn open_all(&self) -> Result<u64, ItemError> {
        let sql = "SELECT path, value FROM item WHERE mount = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([self.mount.number])?;
        let mut number = 0;
        while let Some(row) = rows.next()? {
            let (path, sealed): (String, Vec<u8>) = row.try_into()?;
            self.read::<IgnoredAny>(&path, &sealed)?;
            number += 1;
        }
        Ok(number)
    }

    fn below<T>(
        &self,
        columns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ItemError> {
        // `0` comes behind `/`.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let sql = format!(
            "SELECT {columns} FROM item WHERE mount = ?1 AND path > ?2 AND path < ?3 ORDER BY path LIMIT ?4"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let from = prefix.max(after);
        let rows = statement.query_map(params![self.mount.number, from, end, limit], row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
