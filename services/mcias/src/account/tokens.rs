//! Tokens of system accounts: who has no password is given one of these.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcdsl::auth::Revoked;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Account, Status, change::about, json};
use crate::{
    SERVICE,
    by::By,
    core::{Change, LIFETIME, Mcias},
    error::Error,
    service::{self, MAX_COMMENT},
    session::{self, end_session},
    time::{at, unix},
    token::Issued,
};

/// Days that a token lives, if nothing is said.
pub(crate) const DAYS: u32 = 365;
/// Days at most.
pub(crate) const MAX_DAYS: u32 = 3650;
/// Tokens of an account that are valid at once.
const MAX_TOKENS: i64 = 100;
/// Services that one token is for.
const MAX_SERVICES: usize = 32;

/// A token that was issued; itself it is not kept.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) issued: SystemTime,
    pub(crate) expires: SystemTime,
    pub(crate) services: Vec<String>,
    pub(crate) comment: String,
    pub(crate) revoked: bool,
}

/// A token that is asked for.
#[derive(Default)]
pub(crate) struct NewToken {
    /// The account's.
    pub(crate) name: String,
    /// Whom it is for; nobody said: this service.
    pub(crate) services: Vec<String>,
    /// 0: [`DAYS`].
    pub(crate) days: u32,
    pub(crate) comment: String,
}

const SELECT: &str = "SELECT id, issued_s, expires_s, services, comment, revoked FROM token";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get(0)?,
        issued: at(row.get(1)?),
        expires: at(row.get(2)?),
        services: json(row, 3)?,
        comment: row.get(4)?,
        revoked: row.get(5)?,
    })
}

/// Of an account, the newest first.
pub(crate) fn list(db: &Connection, account: &str) -> rusqlite::Result<Vec<Token>> {
    let sql = format!("{SELECT} WHERE account = ?1 ORDER BY issued_s DESC, id");
    db.prepare_cached(&sql)?
        .query_map([account], token)?
        .collect()
}

impl Mcias {
    /// Issues a token.
    ///
    /// # Errors
    /// If it is no active system account, or has too many.
    pub(crate) async fn issue_token(
        self: &Arc<Self>,
        by: &By,
        asked: NewToken,
    ) -> Result<Issued, Error> {
        by.about(&asked.name);
        let days = if asked.days == 0 { DAYS } else { asked.days };
        if days > MAX_DAYS {
            return Err(Error::invalid(format!("days: more than {MAX_DAYS}")));
        }
        if asked.comment.len() > MAX_COMMENT {
            return Err(Error::invalid(format!(
                "comment: longer than {MAX_COMMENT} bytes"
            )));
        }
        if asked.services.len() > MAX_SERVICES {
            return Err(Error::invalid(format!(
                "services: more than {MAX_SERVICES}"
            )));
        }
        let lifetime = Duration::from_secs(u64::from(days) * 24 * 3600);
        let this = Arc::clone(self);
        let write = move |change: &mut Change<'_>| {
            let account = system(about(change, &asked.name)?)?;
            let mut services = asked.services;
            if services.is_empty() {
                services.push(SERVICE.to_owned());
            }
            for name in &services {
                service::named(change.tx, name)?;
            }
            let sql =
                "SELECT count(*) FROM token WHERE account = ?1 AND NOT revoked AND expires_s > ?2";
            let values = params![account.id, unix(change.now)];
            let count: i64 = change.tx.query_row(sql, values, |row| row.get(0))?;
            if count >= MAX_TOKENS {
                return Err(Error::precondition(format!(
                    "{} has {MAX_TOKENS} tokens; revoke those that are not used",
                    account.name
                )));
            }
            change.note(|detail| {
                let detail = detail.list("services", services.iter().map(String::as_str));
                detail.number("days", i64::from(days))
            });
            this.issue_system(change, &account, &services, lifetime, &asked.comment)
        };
        self.write(by, write).await
    }

    /// A new token in the place of one, which is revoked.
    ///
    /// # Errors
    /// If it is none of the account, or not valid any more.
    pub(crate) async fn rotate_token(
        self: &Arc<Self>,
        by: &By,
        name: String,
        id: String,
    ) -> Result<Issued, Error> {
        let this = Arc::clone(self);
        let write = move |change: &mut Change<'_>| {
            let account = system(about(change, &name)?)?;
            let sql = format!("{SELECT} WHERE account = ?1 AND id = ?2 AND expires_s > ?3");
            let values = params![account.id, id, unix(change.now)];
            let old = change.tx.query_row(&sql, values, token).optional()?;
            let old = old.ok_or_else(|| Error::not_found("valid token", &id))?;
            if old.revoked {
                return Err(Error::precondition("the token is revoked; issue a new one"));
            }
            let lifetime = old.expires.duration_since(old.issued).unwrap_or_default();
            for name in &old.services {
                service::named(change.tx, name)?;
            }
            revoke(change, &account.id, &old.id)?;
            this.issue_system(change, &account, &old.services, lifetime, &old.comment)
        };
        self.write(by, write).await
    }

    /// Revokes a token of a system account, or ends the login of a person that a token or a login's id is of.
    ///
    /// # Errors
    /// If it is neither, or has expired.
    pub(crate) async fn revoke_token(self: &Arc<Self>, by: &By, id: String) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource.clone_from(&id);
            let sql = "SELECT account FROM token WHERE id = ?1 AND expires_s > ?2";
            let values = params![id, unix(change.now)];
            let account: Option<String> = change
                .tx
                .query_row(sql, values, |row| row.get(0))
                .optional()?;
            if let Some(account) = account {
                return revoke(change, &account, &id);
            }
            let login = session::of_token(change.tx, &id)?;
            let login = login.ok_or_else(|| Error::not_found("valid token or login", &id))?;
            change.note(|detail| detail.text("login", &login.id));
            end_session(change, &login)
        };
        self.write(by, write).await
    }
}

/// Revokes the tokens of an account, or (`None`) of all system accounts, that were issued after an instant.
pub(crate) fn revoke_issued_after(
    change: &mut Change<'_>,
    account: Option<&str>,
    after: i64,
) -> Result<(), Error> {
    let sql = "SELECT account, id FROM token WHERE NOT revoked AND issued_s > ?2 AND (?1 IS NULL OR account = ?1)";
    let all: Vec<(String, String)> = change
        .tx
        .prepare_cached(sql)?
        .query_map(params![account, after], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    for (account, id) in all {
        revoke(change, &account, &id)?;
    }
    Ok(())
}

fn revoke(change: &mut Change<'_>, account: &str, id: &str) -> Result<(), Error> {
    let sql = "UPDATE token SET revoked = 1 WHERE id = ?1 AND account = ?2 RETURNING expires_s";
    let expires = change.tx.query_row(sql, [id, account], |row| row.get(0));
    let end = at(expires?) + LIFETIME;
    change.revoke(Revoked::Token(id.to_owned()), end, end)
}

/// A system account that may have tokens.
fn system(account: Account) -> Result<Account, Error> {
    let name = &account.name;
    if account.is_human() {
        return Err(Error::precondition(format!(
            "{name} is a person's account: people get their tokens by logging in"
        )));
    }
    if account.status != Status::Active {
        return Err(Error::precondition(format!(
            "{name} is {}; make it active first",
            account.status.as_str()
        )));
    }
    Ok(account)
}
