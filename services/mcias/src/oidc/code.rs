//! Authorization codes: for a minute, once.

use std::time::{Duration, SystemTime};

use mcdsl::clock::SKEW;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{error::Error, random, time::unix};

/// For the client to exchange one.
const LIFETIME: Duration = Duration::from_secs(60);
/// Seconds for which one is remembered that was exchanged, to know it again.
const REMEMBERED: i64 = 3600;
/// Codes of an account that are remembered: a browser that goes in a circle fills no table.
const MAX: i64 = 100;

/// A code, as the database has it.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) scopes: String,
    pub(super) account: String,
    pub(super) login: String,
}

/// One that was shown.
pub(super) struct Shown {
    pub(super) code: Code,
    pub(super) expires: i64,
    /// It was tried before: in vain, or for this login.
    pub(super) used: Option<String>,
}

impl Shown {
    /// Whether it is of the last minute; one of the future was given while the clock was ahead.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        unix(now) < self.expires && self.expires <= unix(now + LIFETIME + SKEW)
    }
}

fn hash(code: &str) -> [u8; 32] {
    random::hash(&["code", code])
}

/// Makes one.
pub(super) fn issue(tx: &Transaction<'_>, code: &Code, now: SystemTime) -> Result<String, Error> {
    let new = random::secret()?;
    tx.execute(
        "DELETE FROM oidc_code WHERE hash IN
            (SELECT hash FROM oidc_code WHERE account = ?1 ORDER BY expires_s DESC LIMIT -1 OFFSET ?2)",
        params![code.account, MAX - 1],
    )?;
    tx.execute(
        "INSERT INTO oidc_code (hash, client, redirect_uri, challenge, nonce, scopes, account, login, expires_s)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            hash(&new),
            code.client,
            code.redirect_uri,
            code.challenge,
            code.nonce,
            code.scopes,
            code.account,
            code.login,
            unix(now + LIFETIME)
        ],
    )?;
    Ok(new)
}

/// The one that was shown.
pub(super) fn find(db: &Connection, code: &str) -> rusqlite::Result<Option<Shown>> {
    let sql = "SELECT client, redirect_uri, challenge, nonce, scopes, account, login, expires_s, session FROM oidc_code WHERE hash = ?1";
    let shown = db.prepare_cached(sql)?.query_row([hash(code)], |row| {
        let code = Code {
            client: row.get(0)?,
            redirect_uri: row.get(1)?,
            challenge: row.get(2)?,
            nonce: row.get(3)?,
            scopes: row.get(4)?,
            account: row.get(5)?,
            login: row.get(6)?,
        };
        Ok(Shown {
            code,
            expires: row.get(7)?,
            used: row.get(8)?,
        })
    });
    shown.optional()
}

/// It is used from now on: in vain (empty), or for a login.
pub(super) fn use_up(tx: &Transaction<'_>, code: &str, session: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE oidc_code SET session = ?2 WHERE hash = ?1";
    tx.execute(sql, params![hash(code), session]).map(drop)
}

/// Forgets those of long ago.
pub(super) fn forget(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM oidc_code WHERE expires_s < ?1";
    tx.execute(sql, [unix(now) - REMEMBERED])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_fresh_for_a_minute() {
        let given = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let shown = Shown {
            code: Code {
                client: String::new(),
                redirect_uri: String::new(),
                challenge: String::new(),
                nonce: None,
                scopes: String::new(),
                account: String::new(),
                login: String::new(),
            },
            expires: unix(given + LIFETIME),
            used: None,
        };
        let second = Duration::from_secs(1);
        for (description, now, fresh) in [
            ("at once", given, true),
            ("just", given + LIFETIME - second, true),
            ("after a minute", given + LIFETIME, false),
            (
                "by a clock that was put right by a little",
                given - SKEW,
                true,
            ),
            ("by one that was set back", given - SKEW - second, false),
        ] {
            assert_eq!(shown.is_fresh(now), fresh, "{description}");
        }
    }
}
