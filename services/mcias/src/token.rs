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
use rusqlite::params;

use crate::{
    SERVICE,
    account::{self, Account, Status, to_json},
    core::{Change, LIFETIME, Mcias},
    error::Error,
    keys::KeyRing,
    oidc, random, revocation, service,
    session::{MARGIN, Session, end_oldest, find_session},
    standing::Standing,
    time::{at, unix},
};

/// A login is not renewed for longer.
const SESSION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Seconds by which a token may be issued in the future: verifiers allow that clocks differ by more.
pub(crate) const AHEAD: i64 = 3;

/// A token that was made.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) id: String,
    /// The login that it is of.
    pub(crate) session: String,
    pub(crate) expires: SystemTime,
}

/// A login that goes on.
pub(crate) struct Renewed {
    pub(crate) issued: Issued,
    pub(crate) account: Account,
    /// A second factor has to be enrolled first.
    pub(crate) enrol: bool,
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
        self.login_limit.begin(account, change.now)?;
        end_oldest(change, account, new.service)?;
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
            session: id,
            expires: at(expires),
        })
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
        let session =
            find_session(change.tx, &identity.account, &identity.session)?.ok_or_else(over)?;
        // An access token goes to whom the client calls; what renews its login is the client's, with its secret.
        if oidc::is_clients(change.tx, &session.id)? {
            return Err(Error::precondition(
                "the login is a client's of OpenID Connect, which renews it by its refresh token",
            ));
        }
        // Of two that renew the same token one alone does.
        if session.token != identity.token {
            return Err(Error::unauthenticated("the token was renewed already"));
        }
        let renewed = self.renew_session(change, &identity.account, session)?;
        Ok(LoginResponse {
            token: renewed.issued.token,
            expires: Some(renewed.issued.expires.into()),
            password_expired: renewed.account.password_expired,
            enrol_second_factor: renewed.enrol,
            ..LoginResponse::default()
        })
    }

    /// A new token for a login, if it may go on; the one before is valid no more.
    pub(crate) fn renew_session(
        &self,
        change: &mut Change<'_>,
        account: &str,
        session: Session,
    ) -> Result<Renewed, Error> {
        let account = account::by_id(change.tx, account)?.ok_or_else(over)?;
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
        let standing = Standing::of(&account, &verdict, session.has_shown_both());
        if standing.unshown {
            return Err(Error::unauthenticated(
                "a second factor is needed; log in again",
            ));
        }
        let restricted = standing.is_restricted();
        if restricted && service.name != SERVICE {
            return Err(over());
        }
        // When its token now was issued.
        let before = session.used;
        let a_moment_ago = before <= unix(change.now) + AHEAD;
        let issued = issue_at(change, &account.id, before).map_err(|error| match error {
            Error::Client { .. } if a_moment_ago => {
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
            at(before),
            at(session.expires) + MARGIN,
        )?;
        let whose = For {
            account: &account,
            services: vec![session.service],
            session: &session.id,
            methods: session.methods,
            restricted,
        };
        let issued = Issued {
            token: sign(&self.keys(), &self.issuer, &token, whose, issued, expires)?,
            id: token,
            session: session.id,
            expires: at(expires),
        };
        Ok(Renewed {
            issued,
            account,
            enrol: standing.enrol,
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
            session: id.clone(),
            id,
            expires: at(expires),
        })
    }
}

fn over() -> Error {
    Error::unauthenticated("the login is over; log in again")
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
