//! The keys that tokens are signed with.
//!
//! One signs. One that is retired loses its private half at once, and verifies until the last token that it signed has expired; one that
//! may be known to others is dropped with all its tokens.

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use mcdsl::auth::token::{Keys, Signer};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{
    error::Error,
    random,
    seal::Key,
    time::{at, unix},
};

/// Keys at once; services keep as many.
const MAX_KEYS: i64 = 16;

/// The keys in force.
pub(crate) struct KeyRing {
    pub(crate) kid: String,
    pub(crate) created: SystemTime,
    pub(crate) signer: Signer,
    pub(crate) verify: Keys,
    /// All that verify: id and public half.
    pub(crate) public: Vec<(String, Vec<u8>)>,
}

fn name(kid: &str) -> String {
    format!("signing-key/{kid}")
}

/// Makes a key, which signs from now on.
///
/// # Errors
/// If there are too many.
pub(crate) fn create(tx: &Transaction<'_>, seal: &Key, now: SystemTime) -> Result<String, Error> {
    let count: i64 = tx.query_row("SELECT count(*) FROM signing_key", [], |row| row.get(0))?;
    if count >= MAX_KEYS {
        return Err(Error::precondition(format!(
            "{MAX_KEYS} keys are in force, since tokens of system accounts that they signed are valid; rotate those tokens, and the \
             oldest keys go with them"
        )));
    }
    let pair = Ed25519KeyPair::generate().map_err(|_| Error::Internal("no key can be made"))?;
    let private = pair
        .to_pkcs8v1()
        .map_err(|_| Error::Internal("a key cannot be written"))?;
    let kid = random::id()?;
    tx.execute(
        "UPDATE signing_key SET retired_s = ?1, private = NULL WHERE retired_s IS NULL",
        [unix(now)],
    )?;
    tx.execute(
        "INSERT INTO signing_key (kid, public, private, created_s) VALUES (?1, ?2, ?3, ?4)",
        params![
            kid,
            pair.public_key().as_ref(),
            seal.seal(&name(&kid), private.as_ref())?,
            unix(now)
        ],
    )?;
    Ok(kid)
}

/// Forgets retired keys of which no token is valid: those of logins live for `lifetime`, those of system accounts are in the table.
pub(crate) fn forget(
    tx: &Transaction<'_>,
    lifetime: Duration,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM signing_key WHERE retired_s + ?1 < ?2
            AND NOT EXISTS (SELECT 1 FROM token WHERE token.kid = signing_key.kid AND expires_s > ?2 AND NOT revoked)",
        params![
            i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
            unix(now)
        ],
    )
}

/// Reads them.
///
/// # Errors
/// If none signs, or it cannot be opened.
pub(crate) fn load(db: &Connection, seal: &Key) -> Result<KeyRing, Error> {
    let current: Option<(String, Vec<u8>, i64)> = db
        .query_row(
            "SELECT kid, private, created_s FROM signing_key WHERE retired_s IS NULL",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let (kid, private, created) = current.ok_or(Error::Internal("there is no signing key"))?;
    let private = seal.open(&name(&kid), &private)?;
    let mut all = db.prepare("SELECT kid, public FROM signing_key ORDER BY created_s DESC, kid")?;
    let public = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let public: Vec<(String, Vec<u8>)> = public.collect::<Result<_, _>>()?;
    Ok(KeyRing {
        signer: Signer::new(kid.clone(), &private),
        kid,
        created: at(created),
        verify: Keys::new(public.iter().map(|(kid, key)| (kid.as_str(), &**key))),
        public,
    })
}
