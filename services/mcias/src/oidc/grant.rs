//! What a client has of a login, and the refresh tokens that carry it on.
//!
//! A refresh token is two secrets: one that all tokens of a grant have in common, and one of its own. So a single row knows every token
//! that it ever gave: the last one is good, any other was used before (RFC 9700 §4.14.2).

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{error::Error, random, time::unix, token::NewSession};

/// Characters of a secret: 256 bits.
const SECRET: usize = 43;

/// A grant.
#[derive(Debug)]
pub(super) struct Grant {
    /// The client's login.
    pub(super) session: String,
    pub(super) account: String,
    pub(super) scopes: String,
    /// When the person logged in.
    pub(super) auth: i64,
    latest: [u8; 32],
}

const SELECT: &str = "SELECT session, account, scopes, auth_s, latest FROM oidc_grant";

fn grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    Ok(Grant {
        session: row.get(0)?,
        account: row.get(1)?,
        scopes: row.get(2)?,
        auth: row.get(3)?,
        latest: row.get(4)?,
    })
}

/// A refresh token, in its two parts.
#[derive(Clone)]
pub(super) struct RefreshToken {
    family: String,
    own: String,
}

impl RefreshToken {
    /// `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (family, own) = text.split_once('.')?;
        let whole = |part: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            part.len() == SECRET && part.bytes().all(plain)
        };
        (whole(family) && whole(own)).then(|| Self {
            family: family.to_owned(),
            own: own.to_owned(),
        })
    }

    fn family_hash(&self) -> [u8; 32] {
        random::hash(&["refresh family", &self.family])
    }

    fn hash(&self) -> [u8; 32] {
        random::hash(&["refresh", &self.family, &self.own])
    }

    /// As clients have it.
    pub(super) fn text(&self) -> String {
        format!("{}.{}", self.family, self.own)
    }
}

/// What is granted anew.
pub(super) struct New<'n> {
    pub(super) session: &'n str,
    pub(super) login: &'n str,
    pub(super) account: &'n str,
    pub(super) scopes: &'n str,
    pub(super) auth: i64,
}

/// Grants.
pub(super) fn open(tx: &Transaction<'_>, new: &New<'_>) -> Result<RefreshToken, Error> {
    let token = RefreshToken {
        family: random::secret()?,
        own: random::secret()?,
    };
    tx.execute(
        "INSERT INTO oidc_grant (session, login, account, scopes, auth_s, family, latest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            new.session,
            new.login,
            new.account,
            new.scopes,
            new.auth,
            token.family_hash(),
            token.hash()
        ],
    )?;
    Ok(token)
}

/// The grant of a refresh token, and whether that is its last one.
pub(super) fn find(
    db: &Connection,
    token: &RefreshToken,
) -> rusqlite::Result<Option<(Grant, bool)>> {
    let sql = format!("{SELECT} WHERE family = ?1");
    let found = db
        .prepare_cached(&sql)?
        .query_row([token.family_hash()], grant)
        .optional()?;
    Ok(found.map(|grant| {
        // Both are hashes: what comparing tells of them tells nothing of the secrets.
        let latest = grant.latest == token.hash();
        (grant, latest)
    }))
}

/// The grant of a client's login.
pub(super) fn of_session(db: &Connection, session: &str) -> rusqlite::Result<Option<Grant>> {
    let sql = format!("{SELECT} WHERE session = ?1");
    db.prepare_cached(&sql)?
        .query_row([session], grant)
        .optional()
}

/// Whether a login was given to a client.
pub(crate) fn is_clients(db: &Connection, session: &str) -> rusqlite::Result<bool> {
    Ok(of_session(db, session)?.is_some())
}

/// The next token in the place of this one; `None` if that is not the last one any more.
pub(super) fn rotate(
    tx: &Transaction<'_>,
    token: &RefreshToken,
) -> Result<Option<RefreshToken>, Error> {
    let next = RefreshToken {
        family: token.family.clone(),
        own: random::secret()?,
    };
    let sql = "UPDATE oidc_grant SET latest = ?3 WHERE family = ?1 AND latest = ?2";
    let values = params![token.family_hash(), token.hash(), next.hash()];
    Ok((tx.execute(sql, values)? == 1).then_some(next))
}

/// What was given by a login is its successor's: the same person logged in again.
pub(crate) fn hand_over(tx: &Transaction<'_>, login: &str, new: &str) -> rusqlite::Result<usize> {
    let sql = "UPDATE oidc_grant SET login = ?2 WHERE login = ?1";
    tx.execute(sql, [login, new])
}

/// What logins from a device gave that are over is the next login's from there: whoever ends that one, or logs out by what it gave, ends
/// all that the device has. Another machine that looks alike takes over no more than that: it is the same account's, nothing of it is renewed or
/// lasts longer, and a login that goes on keeps its own.
pub(crate) fn follow(
    tx: &Transaction<'_>,
    new: &NewSession<'_>,
    login: &str,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    let sql = "UPDATE oidc_grant SET login = ?1 WHERE account = ?2
        AND session IN (SELECT id FROM session WHERE account = ?2 AND source = ?3 AND device = ?4)
        AND login NOT IN (SELECT id FROM session WHERE account = ?2 AND expires_s > ?5)";
    let values = params![login, new.account.id, new.network, new.device, unix(now)];
    tx.execute(sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_of_their_form_are_looked_for() {
        let token = RefreshToken {
            family: random::secret().unwrap(),
            own: random::secret().unwrap(),
        };
        let text = token.text();
        assert_eq!(RefreshToken::parse(&text).unwrap().hash(), token.hash());
        let half = &text[..SECRET];
        for (description, text) in [
            ("nothing", String::new()),
            ("half", half.to_owned()),
            ("half and a dot", format!("{half}.")),
            ("three parts", format!("{text}.{half}")),
            ("a character less", text[..text.len() - 1].to_owned()),
            ("a character more", format!("{text}A")),
            ("another character", text.replace('.', ":")),
            ("other letters", format!("{half}.{}é", &half[..SECRET - 2])),
        ] {
            assert!(RefreshToken::parse(&text).is_none(), "{description}");
        }
    }
}
