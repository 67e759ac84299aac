//! Tokens: of logins, which are renewed for as long as the login lasts, and of system accounts.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mc_proto::mcias::v1::LoginResponse;
use mcdsl::{
    auth::{Identity, Revoked, token::Claims},
    server::Caller,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    SERVICE,
    account::{self, Account, Status, json, to_json},
    core::{Change, LIFETIME, Mcias},
    error::Error,
    keys::KeyRing,
    random, revocation, service,
    time::{at, unix},
};

/// A login is not renewed for longer.
const SESSION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Logins of an account at once; the oldest ends for a new one.
const MAX_SESSIONS: i64 = 100;
/// Seconds by which a token may be issued in the future: verifiers allow that clocks differ by more.
const AHEAD: i64 = 3;
/// How long an entry outlives the token that it is about: clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// A token that was made.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) id: String,
    pub(crate) expires: SystemTime,
}

/// A login that begins.
pub(crate) struct NewSession<'s> {
    pub(crate) account: &'s Account,
    pub(crate) service: &'s str,
    pub(crate) network: &'s str,
    pub(crate) device: &'s str,
    pub(crate) methods: &'s [&'s str],
    /// Something has to be set right first: the token has no roles.
    pub(crate) restricted: bool,
}

/// A login.
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
}

const SELECT: &str = "SELECT id, service, token, created_s, used_s, expires_s, ends_s, source, device, methods FROM session";

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
    })
}

/// The logins of an account, newest first.
pub(crate) fn sessions(
    db: &Connection,
    account: &str,
    now: SystemTime,
) -> rusqlite::Result<Vec<Session>> {
    let sql = format!("{SELECT} WHERE account = ?1 AND expires_s > ?2 ORDER BY created_s DESC, id");
    db.prepare_cached(&sql)?
        .query_map(params![account, unix(now)], session)?
        .collect()
}

/// The logins to a service.
pub(crate) fn sessions_of(db: &Connection, service: &str) -> rusqlite::Result<Vec<Session>> {
    let sql = format!("{SELECT} WHERE service = ?1");
    db.prepare_cached(&sql)?
        .query_map([service], session)?
        .collect()
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

/// Whose and for what a token is to be.
struct For<'f> {
    account: &'f Account,
    services: Vec<String>,
    session: &'f str,
    methods: Vec<String>,
    restricted: bool,
}

fn sign(
    ring: &KeyRing,
    issuer: &str,
    id: &str,
    whose: For<'_>,
    issued: i64,
    expires: i64,
) -> Result<String, Error> {
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let For {
        account,
        services,
        session,
        methods,
        restricted,
    } = whose;
    let unless_restricted = |names: &[String]| {
        if restricted {
            Vec::new()
        } else {
            names.to_vec()
        }
    };
    let claims = Claims {
        iss: issuer.to_owned(),
        sub: account.id.clone(),
        aud: services,
        iat: seconds(issued),
        nbf: seconds(issued),
        exp: seconds(expires),
        jti: id.to_owned(),
        sid: session.to_owned(),
        name: account.name.clone(),
        account_type: account.account_type,
        roles: unless_restricted(&account.roles),
        tags: unless_restricted(&account.tags),
        amr: methods,
    };
    Ok(ring.signer.sign(&claims)?)
}

/// When a token of an account is issued that is asked for now: tokens count seconds, and those of the second of a revocation are revoked.
fn issue_at(change: &Change<'_>, account: &str, after: i64) -> Result<i64, Error> {
    let now = unix(change.now);
    let least = revocation::issued_until(change.tx, account)?.max(after);
    let issued = now.max(least + 1);
    if issued > now + AHEAD {
        return Err(Error::unavailable(
            "the clock of this machine went back behind what was revoked or issued; correct it, or wait",
        ));
    }
    Ok(issued)
}

impl Mcias {
    /// Begins a login.
    pub(crate) fn open_session(
        &self,
        change: &mut Change<'_>,
        new: &NewSession<'_>,
    ) -> Result<Issued, Error> {
        let account = &new.account.id;
        self.end_oldest(change, account)?;
        let (id, token) = (random::id()?, random::id()?);
        let issued = issue_at(change, account, 0)?;
        let expires = issued + seconds(LIFETIME);
        let methods: Vec<String> = new.methods.iter().map(|m| (*m).to_owned()).collect();
        change.tx.execute(
            "INSERT INTO session (id, account, service, token, created_s, used_s, expires_s, ends_s, source, device, methods)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id,
                account,
                new.service,
                token,
                issued,
                expires,
                issued + seconds(SESSION),
                new.network,
                new.device,
                to_json(&methods)
            ],
        )?;
        let sql = "UPDATE account SET last_login_s = ?2 WHERE id = ?1";
        change.tx.execute(sql, params![account, issued])?;
        let whose = For {
            account: new.account,
            services: vec![new.service.to_owned()],
            session: &id,
            methods,
            restricted: new.restricted,
        };
        Ok(Issued {
            token: sign(&self.keys(), &self.issuer, &token, whose, issued, expires)?,
            id: token,
            expires: at(expires),
        })
    }

    fn end_oldest(&self, change: &mut Change<'_>, account: &str) -> Result<(), Error> {
        let sql =
            format!("{SELECT} WHERE account = ?1 ORDER BY created_s DESC, id LIMIT -1 OFFSET ?2");
        let old: Vec<Session> = change
            .tx
            .prepare_cached(&sql)?
            .query_map(params![account, MAX_SESSIONS - 1], session)?
            .collect::<Result<_, _>>()?;
        for session in old {
            end_session(change, &session)?;
        }
        Ok(())
    }

    /// A new token for the same login; the one that asks is valid no more.
    pub(crate) async fn renew(self: &Arc<Self>, caller: &Caller) -> Result<LoginResponse, Error> {
        let identity = identity(caller)?.clone();
        let this = Arc::clone(self);
        let renew = move |change: &mut Change<'_>| {
            change.resource.clone_from(&identity.name);
            this.renew_in(change, &identity)
        };
        self.write(caller, renew).await
    }

    fn renew_in(
        &self,
        change: &mut Change<'_>,
        identity: &Identity,
    ) -> Result<LoginResponse, Error> {
        let over = || Error::unauthenticated("the login is over; log in again");
        let session =
            find_session(change.tx, &identity.account, &identity.session)?.ok_or_else(over)?;
        // Of two that renew the same token one alone does.
        if session.token != identity.token {
            return Err(Error::unauthenticated("the token was renewed already"));
        }
        let account = account::by_id(change.tx, &identity.account)?.ok_or_else(over)?;
        if account.status != Status::Active {
            return Err(over());
        }
        let service = service::named(change.tx, &session.service)?;
        let verdict = self.policy().judge(&account, &service)?;
        if !verdict.allowed {
            return Err(Error::denied(format!(
                "the login policy does not let this account log in to {} any more",
                service.name
            )));
        }
        let second = session.has_shown_both();
        let missing = (verdict.asks(&account) || account.has_second_factor()) && !second;
        if missing && account.has_second_factor() {
            return Err(Error::unauthenticated(
                "a second factor is needed; log in again",
            ));
        }
        let restricted = missing || account.password_expired;
        if restricted && service.name != SERVICE {
            return Err(over());
        }
        let before = unix(identity.issued);
        let issued = issue_at(change, &account.id, before).map_err(|error| match error {
            Error::Client { .. } => {
                Error::too_many("the token was renewed a moment ago", Duration::from_secs(1))
            }
            other => other,
        })?;
        let expires = (issued + seconds(LIFETIME)).min(session.ends);
        if expires <= issued {
            return Err(over());
        }
        let token = random::id()?;
        let sql = "UPDATE session SET token = ?2, used_s = ?3, expires_s = ?4 WHERE id = ?1";
        change
            .tx
            .execute(sql, params![session.id, token, issued, expires])?;
        change.revoke(
            Revoked::Session(session.id.clone()),
            identity.issued,
            identity.expires + MARGIN,
        )?;
        let password_expired = account.password_expired;
        let whose = For {
            account: &account,
            services: vec![session.service],
            session: &session.id,
            methods: session.methods,
            restricted,
        };
        Ok(LoginResponse {
            token: sign(&self.keys(), &self.issuer, &token, whose, issued, expires)?,
            expires: Some(at(expires).into()),
            password_expired,
            enrol_second_factor: missing,
            ..LoginResponse::default()
        })
    }

    /// Makes a token of a system account.
    pub(crate) fn issue_system(
        &self,
        change: &Change<'_>,
        account: &Account,
        services: &[String],
        lifetime: Duration,
        comment: &str,
    ) -> Result<Issued, Error> {
        let ring = self.keys();
        let id = random::id()?;
        let issued = issue_at(change, &account.id, 0)?;
        let expires = issued + seconds(lifetime);
        change.tx.execute(
            "INSERT INTO token (id, account, kid, issued_s, expires_s, services, comment) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                account.id,
                ring.kid,
                issued,
                expires,
                to_json(services),
                comment
            ],
        )?;
        let whose = For {
            account,
            services: services.to_vec(),
            session: &id,
            methods: Vec::new(),
            restricted: false,
        };
        Ok(Issued {
            token: sign(&ring, &self.issuer, &id, whose, issued, expires)?,
            id,
            expires: at(expires),
        })
    }
}

/// Ends a login with all its tokens.
pub(crate) fn end_session(change: &mut Change<'_>, session: &Session) -> Result<(), Error> {
    let sql = "DELETE FROM session WHERE id = ?1";
    change.tx.execute(sql, [&session.id])?;
    let end = at(session.expires) + MARGIN;
    change.revoke(Revoked::Session(session.id.clone()), end, end)
}

impl Session {
    /// Two factors (RFC 8176's `mfa`).
    pub(crate) fn has_shown_both(&self) -> bool {
        self.methods.iter().any(|method| method == "mfa")
    }
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

/// Ends all logins of an account but one.
pub(crate) fn end_others(change: &mut Change<'_>, account: &str, but: &str) -> Result<(), Error> {
    for session in sessions(change.tx, account, change.now)? {
        if session.id != but {
            end_session(change, &session)?;
        }
    }
    Ok(())
}

/// Who asks.
///
/// # Errors
/// If nobody is known.
pub(crate) fn identity(caller: &Caller) -> Result<&Identity, Error> {
    let identity = caller.identity.as_ref();
    identity.ok_or_else(|| Error::unauthenticated("a token is needed"))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
