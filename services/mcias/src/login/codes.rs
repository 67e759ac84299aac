//! The second factors that are typed: codes of authenticator apps and recovery codes, each good once.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Transaction};

use crate::{
    account::Account,
    core::{Change, Mcias},
    error::Error,
    random,
    totp::Shared,
};

/// How a login stands with second factors.
pub(super) enum Factor {
    /// There is none, or one was shown: by which methods (RFC 8176).
    Done(Vec<&'static str>),
    /// There is one and none came.
    Needed,
    /// What came is wrong.
    Wrong,
}

impl Mcias {
    /// What a code that came with a password is worth; one that is right is then used.
    pub(super) fn second_factor(
        &self,
        change: &Change<'_>,
        account: &Account,
        code: &str,
    ) -> Result<Factor, Error> {
        if !account.has_second_factor() {
            return Ok(Factor::Done(vec!["pwd"]));
        }
        if code.trim().is_empty() {
            return Ok(Factor::Needed);
        }
        let shown = self.burn_totp(change.tx, account, code, change.now)?
            || burn_recovery_code(change.tx, &account.id, code)?;
        Ok(if shown {
            Factor::Done(vec!["pwd", "otp", "mfa"])
        } else {
            Factor::Wrong
        })
    }

    /// Takes a code of an authenticator app, which is then used.
    fn burn_totp(
        &self,
        tx: &Transaction<'_>,
        account: &Account,
        code: &str,
        now: SystemTime,
    ) -> Result<bool, Error> {
        let sql = "SELECT secret, last_step FROM totp WHERE account = ?1 AND confirmed";
        let found: Option<(Vec<u8>, i64)> = tx
            .query_row(sql, [&account.id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((sealed, last)) = found else {
            return Ok(false);
        };
        let secret = self.seal.open(&totp_name(&account.id), &sealed)?;
        let last_step = u64::try_from(last).unwrap_or(0);
        let Some(step) = Shared::from_bytes(secret).check(code, last_step, now)? else {
            return Ok(false);
        };
        let step = i64::try_from(step).map_err(|_| Error::Internal("a step beyond all"))?;
        let sql = "UPDATE totp SET last_step = ?2 WHERE account = ?1 AND last_step < ?2";
        Ok(tx.execute(sql, rusqlite::params![account.id, step])? == 1)
    }
}

/// What a TOTP secret is sealed as.
pub(crate) fn totp_name(account: &str) -> String {
    format!("totp/{account}")
}

/// Takes a recovery code, which is then used.
fn burn_recovery_code(tx: &Transaction<'_>, account: &str, code: &str) -> rusqlite::Result<bool> {
    let hash = recovery_hash(account, code);
    let sql = "DELETE FROM recovery_code WHERE account = ?1 AND hash = ?2";
    Ok(tx.execute(sql, rusqlite::params![account, hash])? == 1)
}

/// What of a recovery code is kept.
pub(crate) fn recovery_hash(account: &str, code: &str) -> [u8; 32] {
    random::hash(&["recovery", account, &random::normalised(code)])
}
