//! What an engine stores: values at paths of its mount, each sealed as what and where it is.

use mcdsl::db::StoreError;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Serialize, de::DeserializeOwned};
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
        let found = statement.query_row(params![self.mount.id, path], |row| row.get(0));
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
        let sql = "INSERT OR REPLACE INTO item VALUES (?1, ?2, ?3)";
        self.db
            .prepare_cached(sql)?
            .execute(params![self.mount.id, path, sealed])?;
        Ok(())
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
            .execute(params![self.mount.id, path])?
            > 0)
    }

    /// Paths below `prefix`, which ends with a `/`, in their order, and what is there: at most `limit` behind the path `after`.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, T)>, ItemError> {
        // `0` comes behind `/`.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let sql = "SELECT path, value FROM item WHERE mount = ?1 AND path > ?2 AND path > ?3 AND path < ?4 ORDER BY path LIMIT ?5";
        let mut statement = self.db.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![self.mount.id, prefix, after, end, limit], |row| {
                <(String, Vec<u8>)>::try_from(row)
            })?;
        rows.map(|row| {
            let (path, sealed) = row?;
            let value = self.read(&path, &sealed)?;
            Ok((path, value))
        })
        .collect()
    }

    /// Paths below `prefix`, which ends with a `/`, in their order: at most `limit` behind the path `after`. Nothing of what is there is opened.
    ///
    /// # Errors
    /// [`ItemError`].
    pub fn paths(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ItemError> {
        // `0` comes behind `/`.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let sql = "SELECT path FROM item WHERE mount = ?1 AND path > ?2 AND path > ?3 AND path < ?4 ORDER BY path LIMIT ?5";
        let mut statement = self.db.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![self.mount.id, prefix, after, end, limit], |row| {
                row.get(0)
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
