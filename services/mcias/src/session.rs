//! Logins: of people, to services.

use std::time::{Duration, SystemTime};

use mcdsl::{auth::Revoked, clock::SKEW};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    account::{json, to_json},
    core::{Change, LIFETIME},
    error::Error,
    time::{at, unix},
};

/// How long an entry outlives the token that it is about: clocks differ.
pub(crate) const MARGIN: Duration = Duration::from_secs(60);

/// A login.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) token: String,
    pub(crate) created: i64,
    pub(crate) used: i64,
    pub(crate) expires: i64,
    pub(crate) ends: i64,
    pub(crate) source: String,
    pub(crate) device: String,
    pub(crate) methods: Vec<String>,
    /// From a device that its owner has not answered for.
    pub(crate) new_device: bool,
}

/// Logins of an account to one service at once; the oldest ends for a new one.
const MAX_SESSIONS: i64 = 50;

const SELECT: &str = "SELECT id, service, token, created_s, used_s, expires_s, ends_s, source, device, methods,
    EXISTS (SELECT 1 FROM known_device known WHERE known.account = session.account AND known.network = session.source
        AND known.device = session.device AND known.new_s IS NOT NULL)
    FROM session";

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        service: row.get(1)?,
        token: row.get(2)?,
        created: row.get(3)?,
        used: row.get(4)?,
        expires: row.get(5)?,
        ends: row.get(6)?,
        source: row.get(7)?,
        device: row.get(8)?,
        methods: json(row, 9)?,
        new_device: row.get(10)?,
    })
}

/// The logins of an account, newest first.
pub(crate) fn sessions(
    db: &Connection,
    account: &str,
    now: SystemTime,
) -> rusqlite::Result<Vec<Session>> {
    let sql = format!(
        "{SELECT} WHERE account = ?1 AND (expires_s > ?2
            OR ends_s > ?2 AND EXISTS (SELECT 1 FROM oidc_grant WHERE oidc_grant.session = session.id))
            ORDER BY created_s DESC, id"
    );
    db.prepare_cached(&sql)?
        .query_map(params![account, unix(now)], session)?
        .collect()
}

/// Logins that go on, whosever they are.
pub(crate) fn count(db: &Connection, now: SystemTime) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM session WHERE expires_s > ?1
        OR ends_s > ?1 AND EXISTS (SELECT 1 FROM oidc_grant WHERE oidc_grant.session = session.id)";
    let count: i64 = db
        .prepare_cached(sql)?
        .query_row([unix(now)], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Forgets logins that are over. One of OpenID Connect goes on without a valid token: its client has another to renew it by.
pub(crate) fn forget(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM session WHERE expires_s <= ?1
            AND (ends_s <= ?1 OR NOT EXISTS (SELECT 1 FROM oidc_grant WHERE oidc_grant.session = session.id))",
        [unix(now)],
    )
}

/// A login of an account.
pub(crate) fn find_session(
    db: &Connection,
    account: &str,
    id: &str,
) -> rusqlite::Result<Option<Session>> {
    let sql = format!("{SELECT} WHERE account = ?1 AND id = ?2");
    db.prepare_cached(&sql)?
        .query_row([account, id], session)
        .optional()
}

/// The login of this id, or whose token now is of this id, whosever it is.
pub(crate) fn of_token(db: &Connection, id: &str) -> rusqlite::Result<Option<Session>> {
    let sql = format!("{SELECT} WHERE id = ?1 OR token = ?1");
    db.prepare_cached(&sql)?.query_row([id], session).optional()
}

/// Logins of an account, or (`None`) of all, that go on by a token from after an instant although they began until then, or were given by
/// one that did, whichever login has them now: so many at most.
pub(crate) fn renewed_since(
    db: &Connection,
    account: Option<&str>,
    until: SystemTime,
    limit: usize,
) -> rusqlite::Result<Vec<Session>> {
    let sql = format!(
        "{SELECT} WHERE (?1 IS NULL OR account = ?1) AND used_s > ?2 AND (created_s <= ?2 OR id IN (
            SELECT session FROM oidc_grant WHERE auth_s <= ?2)) LIMIT ?3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&sql)?
        .query_map(params![account, unix(until), limit], session)?
        .collect()
}

/// Logins of an account, or (`None`) of all, whose token is from after an instant: so many at most.
pub(crate) fn issued_after(
    db: &Connection,
    account: Option<&str>,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Session>> {
    let sql = format!("{SELECT} WHERE (?1 IS NULL OR account = ?1) AND used_s > ?2 LIMIT ?3");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&sql)?
        .query_map(params![account, after, limit], session)?
        .collect()
}

/// The logins of an account from a device, to all services.
pub(crate) fn sessions_from(
    db: &Connection,
    account: &str,
    network: &str,
    device: &str,
) -> rusqlite::Result<Vec<Session>> {
    let sql = format!("{SELECT} WHERE account = ?1 AND source = ?2 AND device = ?3");
    db.prepare_cached(&sql)?
        .query_map([account, network, device], session)?
        .collect()
}

/// Ends a login with all its tokens, and what clients were given by it.
pub(crate) fn end_session(change: &mut Change<'_>, ended: &Session) -> Result<(), Error> {
    let sql = format!("{SELECT} WHERE id IN (SELECT session FROM oidc_grant WHERE login = ?1)");
    let given: Vec<Session> = change
        .tx
        .prepare_cached(&sql)?
        .query_map([&ended.id], session)?
        .collect::<Result<_, _>>()?;
    for session in given.iter().chain([ended]) {
        let sql = "DELETE FROM session WHERE id = ?1";
        change.tx.execute(sql, [&session.id])?;
        let end = at(session.expires) + MARGIN;
        change.revoke(Revoked::Session(session.id.clone()), end, end)?;
    }
    Ok(())
}

/// Ends a login of an account, if it has not ended yet, as [`end_session`] does; whether it had not.
pub(crate) fn end(change: &mut Change<'_>, account: &str, id: &str) -> Result<bool, Error> {
    match find_session(change.tx, account, id)? {
        Some(session) => end_session(change, &session).map(|()| true),
        None => Ok(false),
    }
}

/// Ends a client's login, and the other clients' that were given by the same login at this service. That stays, if it is not over: what it
/// gave goes on for longer, and whoever is logged in by it may have a change to make yet.
pub(crate) fn end_with_its_login(
    change: &mut Change<'_>,
    account: &str,
    id: &str,
) -> Result<(), Error> {
    let sql = format!(
        "{SELECT} WHERE account = ?1 AND (id = ?2 OR EXISTS (SELECT 1 FROM oidc_grant own JOIN oidc_grant given USING (login)
            WHERE own.session = ?2 AND session.id = given.session))"
    );
    let all: Vec<Session> = change
        .tx
        .prepare_cached(&sql)?
        .query_map([account, id], session)?
        .collect::<Result<_, _>>()?;
    for session in all {
        end_session(change, &session)?;
    }
    Ok(())
}

/// Makes room for one more.
pub(crate) fn end_oldest(
    change: &mut Change<'_>,
    account: &str,
    service: &str,
) -> Result<(), Error> {
    let sql = format!(
        "{SELECT} WHERE account = ?1 AND service = ?2 ORDER BY created_s DESC, id LIMIT -1 OFFSET ?3"
    );
    let old: Vec<Session> = change
        .tx
        .prepare_cached(&sql)?
        .query_map(params![account, service, MAX_SESSIONS - 1], session)?
        .collect::<Result<_, _>>()?;
    for session in old {
        end_session(change, &session)?;
    }
    Ok(())
}

/// A login at this service was used by a page: it goes on, as one goes on whose token is renewed.
pub(crate) fn touch(tx: &Transaction<'_>, id: &str, now: SystemTime) -> rusqlite::Result<usize> {
    let sql = "UPDATE session SET used_s = max(used_s, ?2), expires_s = max(expires_s, min(?3, ends_s)) WHERE id = ?1";
    tx.execute(sql, params![id, unix(now), unix(now + LIFETIME)])
}

impl Session {
    /// Whether it is over at `now`. One that was used in what is the future again, for a clock was ahead then, is: nobody knows how old it
    /// is, and it would last for longer than a login does.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.expires <= unix(now) || self.used > unix(now + SKEW)
    }

    /// Two factors (RFC 8176's `mfa`).
    pub(crate) fn has_shown_both(&self) -> bool {
        self.methods.iter().any(|method| method == "mfa")
    }
}

/// The logins to a service.
pub(crate) fn sessions_of(db: &Connection, service: &str) -> rusqlite::Result<Vec<Session>> {
    let sql = format!("{SELECT} WHERE service = ?1");
    db.prepare_cached(&sql)?
        .query_map([service], session)?
        .collect()
}

/// Notes that a login has shown a second factor, which it enrolled.
pub(crate) fn has_shown(
    change: &Change<'_>,
    account: &str,
    id: &str,
    method: &str,
) -> Result<(), Error> {
    if let Some(mut session) = find_session(change.tx, account, id)? {
        for method in [method, "mfa"] {
            if !session.methods.iter().any(|known| known == method) {
                session.methods.push(method.to_owned());
            }
        }
        let sql = "UPDATE session SET methods = ?2 WHERE id = ?1";
        change.tx.execute(sql, [id, &to_json(&session.methods)])?;
    }
    Ok(())
}

/// Ends all logins of an account but one; those too that are over by a clock that others may be behind of.
pub(crate) fn end_others(change: &mut Change<'_>, account: &str, but: &str) -> Result<(), Error> {
    let sql = format!("{SELECT} WHERE account = ?1 AND id <> ?2");
    let others: Vec<Session> = change
        .tx
        .prepare_cached(&sql)?
        .query_map([account, but], session)?
        .collect::<Result<_, _>>()?;
    for session in others {
        end_session(change, &session)?;
    }
    Ok(())
}
