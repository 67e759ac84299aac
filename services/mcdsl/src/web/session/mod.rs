//! Sessions of people in browsers: in the service's database, so that a restart logs nobody out.
//!
//! Of the cookie only its hash is stored: who reads the database, or a snapshot of it, cannot log in with what is there. A session
//! ends when it was idle too long, when it is too old, when its account or an operator ends it, and when there are too many.

mod store;

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::HeaderValue;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{ErrorPage, secret::Secret};
use crate::{
    auth::Identity,
    clock::Clock,
    db::{Store, StoreError, is_unwritable},
    human::hex,
};

/// The table, for a [`crate::db::Migration`] of the service.
pub const SESSIONS_SQL: &str = store::SQL;

/// Bytes of what a service keeps with a session, as JSON.
pub const MAX_DATA: usize = 16 * 1024;
/// Characters of a message, a name and a User-Agent; the rest is cut.
const MAX_TEXT: usize = 500;

/// How long sessions last and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Since its last request.
    pub idle: Duration,
    /// Since its login.
    pub absolute: Duration,
    /// Of one account; a login beyond ends the one that was idle longest.
    pub per_account: u32,
    /// Of all accounts, likewise: about a KiB each, with `data` up to 17.
    pub total: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3600),
            absolute: Duration::from_secs(12 * 3600),
            per_account: 20,
            total: 50_000,
        }
    }
}

/// Names a session. It is no secret: no cookie can be made of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) [u8; 32]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a message says of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// It went well.
    Success,
    /// To know.
    Notice,
    /// It did not.
    Error,
}

/// A message on the next page that somebody sees, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    /// How it is shown.
    pub tone: Tone,
    /// Plain text.
    pub text: String,
}

impl Flash {
    /// It went well.
    #[must_use]
    pub fn success(text: impl Into<String>) -> Self {
        Self::new(Tone::Success, text.into())
    }

    /// To know.
    #[must_use]
    pub fn notice(text: impl Into<String>) -> Self {
        Self::new(Tone::Notice, text.into())
    }

    /// It did not go well.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(Tone::Error, text.into())
    }

    fn new(tone: Tone, text: String) -> Self {
        let text = cut(text);
        Self { tone, text }
    }
}

/// Who logs in.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    /// The account's id.
    pub account: String,
    /// Its name, as the page shows it.
    pub name: String,
    /// Its roles at this moment: a service that hears of a change ends the account's sessions.
    pub roles: Vec<String>,
    /// What else the service keeps, at most [`MAX_DATA`].
    pub data: serde_json::Value,
    /// A message on the first page.
    pub flash: Option<Flash>,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The account's id.
    pub account: String,
    /// The account's name.
    pub name: String,
    /// The account's roles at login.
    pub roles: Vec<String>,
    /// The login.
    pub created: SystemTime,
    /// The last request, within a minute.
    pub seen: SystemTime,
    /// Where the login came from.
    pub source: Option<IpAddr>,
    /// What the browser called itself then.
    pub user_agent: String,
    /// What else the service keeps.
    pub data: serde_json::Value,
    /// Who it is by MCIAS's word of this moment, where one logs in by it ([`super::Sso`]): `name` and `roles` are its then.
    pub identity: Option<Identity>,
    /// `Bearer` and its token, then.
    pub(super) bearer: Option<HeaderValue>,
    pub(super) flash: Option<Flash>,
}

impl Session {
    /// Whether the account has it.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r == role)
    }

    /// Goes on only if the account has it.
    ///
    /// # Errors
    /// 403.
    pub fn require_role(&self, role: &str) -> Result<(), ErrorPage> {
        if self.has_role(role) {
            return Ok(());
        }
        Err(ErrorPage::forbidden(format!(
            "The role “{role}” is needed."
        )))
    }
}

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The database failed.
    #[error("cannot {what} sessions")]
    Store {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// Too much to keep.
    #[error("a session keeps at most {MAX_DATA} bytes of data, not {0}")]
    Data(usize),
}

/// The sessions of a service. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<Store>,
    limits: Limits,
    clock: Clock,
}

/// Who asks, as far as a session remembers it.
pub(super) struct Client {
    pub(super) source: Option<IpAddr>,
    pub(super) user_agent: String,
}

impl Sessions {
    /// In the service's database, which has [`SESSIONS_SQL`].
    #[must_use]
    pub fn new(store: Arc<Store>, limits: Limits) -> Self {
        Self::by(Clock::default(), store, limits)
    }

    /// The same, by this clock.
    #[must_use]
    pub fn by(clock: Clock, store: Arc<Store>, limits: Limits) -> Self {
        Self {
            store,
            limits,
            clock,
        }
    }

    /// The site's time.
    pub(in crate::web) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Seconds since the epoch.
    fn now(&self) -> i64 {
        let since = self.clock.now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |s| s.as_secs().cast_signed())
    }

    /// Ends one of an account's; `false` if it has no such one.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn end(&self, account: &str, id: SessionId) -> Result<bool, SessionError> {
        let account = account.to_owned();
        self.write("end", move |db| store::end(db, &account, &id.0))
            .await
    }

    /// Keeps other data with a session.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn set_data(
        &self,
        id: SessionId,
        data: &serde_json::Value,
    ) -> Result<(), SessionError> {
        let data = text_of(data)?;
        self.write("change", move |db| store::set_data(db, &id.0, &data))
            .await
    }

    /// Shows a message on the session's next page.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn flash(&self, id: SessionId, flash: Flash) -> Result<(), SessionError> {
        self.write("change", move |db| store::set_flash(db, &id.0, &flash))
            .await
    }

    pub(super) async fn flash_was_shown(
        &self,
        id: SessionId,
        flash: Flash,
    ) -> Result<(), SessionError> {
        self.write("change", move |db| store::clear_flash(db, &id.0, &flash))
            .await
    }

    /// Whose cookie it is; that it was seen is written down once a minute.
    pub(super) async fn find(&self, secret: &Secret) -> Result<Option<Session>, SessionError> {
        let (hash, limits, now) = (secret.hash(), self.limits, self.now());
        let find = move |db: &Connection| store::find(db, limits, now, &hash);
        let found = self.read("look up", find).await?;
        if found.as_ref().is_some_and(|s| store::is_to_touch(s, now)) {
            let touch = move |db: &Connection| store::touch(db, now, &hash);
            match self.write("touch", touch).await {
                // Who only reads is not kept from it: it is noted once there is room.
                Err(error) if is_unwritable(&error) => {}
                touched => touched?,
            }
        }
        Ok(found)
    }

    /// A new one under a secret that is new, in the place of `old`.
    pub(super) async fn start(
        &self,
        secret: &Secret,
        new: NewSession,
        client: Client,
        old: Option<SessionId>,
    ) -> Result<(), SessionError> {
        let row = store::NewRow {
            id: secret.hash(),
            account: new.account,
            name: cut(new.name),
            roles: serde_json::json!(new.roles).to_string(),
            source: client.source.map(|s| s.to_string()),
            user_agent: cut(client.user_agent),
            data: text_of(&new.data)?,
            flash: new.flash,
        };
        let (limits, now) = (self.limits, self.now());
        self.write("start", move |db| {
            store::start(db, limits, now, &row, old.map(|id| id.0).as_ref())
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SessionError> {
        let done = self.store.read(move |db| Ok(read(db)?)).await;
        done.map_err(|source: StoreError| SessionError::Store {
            what,
            source: source.into(),
        })
    }

    /// In one transaction.
    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SessionError> {
        let done = self.store.write(move |tx| Ok(write(tx)?)).await;
        done.map_err(|source: StoreError| SessionError::Store {
            what,
            source: source.into(),
        })
    }
}

fn text_of(data: &serde_json::Value) -> Result<String, SessionError> {
    let text = data.to_string();
    if text.len() > MAX_DATA {
        return Err(SessionError::Data(text.len()));
    }
    Ok(text)
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}
