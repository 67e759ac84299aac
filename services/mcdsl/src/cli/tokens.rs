//! Tokens of people who are logged in, kept between commands.
//!
//! One file for each service, a token for each server: `$XDG_STATE_HOME/metacircular/tokens/<service>.json`. The directory and the file are for
//! their owner alone, and refused if others may read them. A change is a new file in the old one's place, under a lock, so that of two
//! commands at once neither undoes the other's.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Exit, Failure, FileLock, ServerUrl,
    private::{PrivateFile, private_directory, read_private},
};
use crate::files::directory_of;

/// Bytes of the file: some hundred tokens.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of a token's file: one token is below 2 KiB.
const MAX_TOKEN: u64 = 16 << 10;
/// Whoever has the lock waits for one answer of a server, for 30 s at most.
const LIMIT: Duration = Duration::from_secs(40);

/// A token that is kept.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// Whose it is.
    pub account: String,
    /// The token.
    pub token: SecretString,
    /// When it ends.
    pub expires: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    account: String,
    token: String,
    expires_unix_s: u64,
}

type Entries = BTreeMap<ServerUrl, Entry>;

/// The tokens of one service.
#[derive(Clone, Debug)]
pub struct TokenStore {
    path: PathBuf,
}

/// Room for one more token: taken before the token is asked for, which may make the one before void.
#[derive(Debug)]
pub struct Room(PrivateFile);

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a TokenStore,
    _lock: FileLock,
}

impl TokenStore {
    /// In the person's state directory.
    ///
    /// # Errors
    /// [`Exit::Usage`] if there is none, or `service` is no service's name.
    pub fn of(service: &str) -> Result<Self, Failure> {
        let state = match env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
            // A relative one is to be ignored (XDG Base Directory Specification).
            Some(state) if state.is_absolute() => state,
            _ => env::home_dir()
                .filter(|home| home.is_absolute())
                .ok_or_else(|| {
                    Failure::usage("there is no place for tokens")
                        .hint("set HOME or XDG_STATE_HOME, or name a token's file (MC_TOKEN_FILE)")
                })?
                .join(".local/state"),
        };
        Self::within(&state.join("metacircular/tokens"), service)
    }

    /// In a directory, which is made when a token is kept.
    ///
    /// # Errors
    /// [`Exit::Usage`] if `service` is no service's name.
    pub fn within(directory: &Path, service: &str) -> Result<Self, Failure> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if service.is_empty() || service.starts_with('.') || !service.bytes().all(inner) {
            return Err(Failure::usage(format_args!(
                "{service:?} is no service's name"
            )));
        }
        Ok(Self {
            path: directory.join(format!("{service}.json")),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token for a server, unless it has expired.
    ///
    /// # Errors
    /// [`Exit::Refused`] if others may read the file, [`Exit::Failure`] if it cannot be read or is none.
    pub fn get(&self, server: &ServerUrl, now: SystemTime) -> Result<Option<StoredToken>, Failure> {
        Ok(self.read(now)?.remove(server).map(|entry| StoredToken {
            expires: end(&entry),
            account: entry.account,
            token: entry.token.into(),
        }))
    }

    /// Services beside this one to which there are logins here by the same server. What cannot be read has none.
    #[must_use]
    pub fn others(&self, server: &ServerUrl, now: SystemTime) -> Vec<String> {
        let directory = directory_of(&self.path);
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut others: Vec<_> = files
            .filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .filter(|service| {
                let store = Self::within(directory, service);
                store.is_ok_and(|store| {
                    store.path != self.path && matches!(store.get(server, now), Ok(Some(_)))
                })
            })
            .collect();
        others.sort();
        others
    }

    /// Makes sure that a token can be kept.
    ///
    /// # Errors
    /// As [`Self::get`], and [`Exit::Failure`] if the file cannot be written.
    pub fn room(&self, now: SystemTime) -> Result<Room, Failure> {
        self.directory()?;
        let now = text(&self.read(now)?)?.expose_secret().len();
        let more = usize::try_from(MAX_TOKEN).unwrap_or(usize::MAX);
        PrivateFile::create(&self.path)?
            .reserve(now.saturating_add(more))
            .map(Room)
    }

    fn directory(&self) -> Result<(), Failure> {
        self.path.parent().map_or(Ok(()), private_directory)
    }

    /// Waits until no other command changes the tokens.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] if nobody lets go of it; otherwise as [`FileLock::wait`].
    pub fn lock(&self) -> Result<Locked<'_>, Failure> {
        self.directory()?;
        let lock = FileLock::wait(
            &self.path.with_extension("lock"),
            LIMIT,
            "changes the tokens",
        )?;
        Ok(Locked {
            store: self,
            _lock: lock,
        })
    }

    /// All that have not expired.
    fn read(&self, now: SystemTime) -> Result<Entries, Failure> {
        let Some(text) = read_private(&self.path, MAX_FILE, 0o077, "log out and in again")? else {
            return Ok(Entries::new());
        };
        let mut entries: Entries = serde_json::from_str(text.expose_secret()).map_err(|e| {
            // serde's message may quote what is in the file.
            let (line, column) = (e.line(), e.column());
            let what = format!(
                "{} is no file of tokens (line {line}, column {column})",
                self.path.display()
            );
            Failure::new(Exit::Failure, what).hint("remove it and log in again")
        })?;
        entries.retain(|_, entry| end(entry) > now);
        Ok(entries)
    }
}

impl Locked<'_> {
    /// Keeps a token, instead of the one before, in the room that was taken for it.
    ///
    /// # Errors
    /// As [`TokenStore::get`], and [`Exit::Failure`] if the file cannot be written; then it is as it was.
    pub fn put(
        &self,
        room: Room,
        server: &ServerUrl,
        token: &StoredToken,
        now: SystemTime,
    ) -> Result<(), Failure> {
        let mut entries = self.store.read(now)?;
        let ends = token.expires.duration_since(UNIX_EPOCH);
        let entry = Entry {
            account: token.account.clone(),
            token: token.token.expose_secret().to_owned(),
            expires_unix_s: ends.unwrap_or_default().as_secs(),
        };
        entries.insert(server.clone(), entry);
        room.0.write(text(&entries)?.expose_secret().as_bytes())
    }

    /// Forgets the token for a server, if there is one.
    ///
    /// # Errors
    /// As [`TokenStore::get`], and [`Exit::Failure`] if the file cannot be written; then it is as it was.
    pub fn remove(&self, server: &ServerUrl, now: SystemTime) -> Result<(), Failure> {
        let mut entries = self.store.read(now)?;
        entries.remove(server);
        let text = text(&entries)?;
        PrivateFile::create(&self.store.path)?.write(text.expose_secret().as_bytes())
    }
}

fn text(entries: &Entries) -> Result<SecretString, Failure> {
    let text = serde_json::to_string_pretty(entries).map_err(std::io::Error::other)?;
    Ok(text.into())
}

fn end(entry: &Entry) -> SystemTime {
    // Beyond what the clock can say it has expired: nobody issues such.
    UNIX_EPOCH
        .checked_add(Duration::from_secs(entry.expires_unix_s))
        .unwrap_or(UNIX_EPOCH)
}

/// Of a system account, whose token is in a file; a person's own is there for an hour.
const TOKEN_ANEW: &str = "`mciasctl token rotate` of its account makes another, and that one void";

/// The token in a file that was named (`--token-file`, `MC_TOKEN_FILE`). Its group may read it, as that of a service may.
///
/// # Errors
/// [`Exit::Usage`] if there is none, or it holds no token; [`Exit::Refused`] if everybody may read it.
pub fn token_file(path: &Path) -> Result<SecretString, Failure> {
    let at = path.display();
    let text = read_private(path, MAX_TOKEN, 0o007, TOKEN_ANEW)?
        .ok_or_else(|| Failure::usage(format_args!("there is no file {at}")))?;
    let token = text.expose_secret().trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Failure::usage(format_args!("{at} holds no token")));
    }
    Ok(token.into())
}

#[cfg(test)]
mod tests;
