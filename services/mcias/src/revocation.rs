//! Tokens that are not valid any more: in the database, in memory, and told to whom it concerns.

use std::time::SystemTime;

use mc_proto::mcias::v1::{
    Revocation as Message, RevocationEvent, revocation::What, revocation_event::Event,
};
use mcdsl::auth::{Identity, Revocation, Revocations, Revoked};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tracing::error;

use crate::{
    core::{Change, LIFETIME},
    error::Error,
    hub::{Hub, Messages},
    session::{self, end_session},
    time::{at, unix},
};

/// Revocations in force, and their watchers.
pub(crate) type Watched = Hub<State, Revocation>;

/// What is in force.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) revocations: Revocations,
    /// Not all could be kept: nobody is let in.
    pub(crate) incomplete: bool,
}

impl State {
    /// Enters one.
    pub(crate) fn enter(&mut self, revocation: &Revocation, now: SystemTime) {
        if let Err(error) = self.revocations.add(revocation.clone(), now) {
            error!(%error, "a revocation cannot be kept: no token is valid until the service is restarted");
            self.incomplete = true;
        }
    }
}

/// The names of their kinds in the database, and of what.
fn key(what: &Revoked) -> (&'static str, &str) {
    match what {
        Revoked::Token(id) => ("token", id),
        Revoked::Session(id) => ("session", id),
        Revoked::Account(id) => ("account", id),
        Revoked::Everything => ("everything", ""),
    }
}

/// Writes one down; of two for the same the later counts.
pub(crate) fn store(tx: &Transaction<'_>, revocation: &Revocation) -> rusqlite::Result<()> {
    let (what, id) = key(&revocation.what);
    tx.prepare_cached(
        "INSERT INTO revocation VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
            issued_until_s = max(issued_until_s, excluded.issued_until_s), forget_s = max(forget_s, excluded.forget_s)",
    )?
    .execute(params![
        what,
        id,
        unix(revocation.issued_until),
        unix(revocation.forget)
    ])
    .map(drop)
}

/// Logins that are ended one by one, each by a revocation of its own: more are a reason to revoke everything until now, which is one.
const MAX_RENEWED: usize = 10_000;

impl Change<'_> {
    /// Revokes the tokens of an account, or (`None`) of all, that were issued until an instant, and ends the logins that began until then:
    /// one that was renewed since may go on by what was stolen before.
    ///
    /// # Errors
    /// If the instant is in the future, or too many logins were renewed since.
    pub(crate) fn revoke_until(
        &mut self,
        account: Option<&str>,
        until: SystemTime,
    ) -> Result<(), Error> {
        if until > self.now {
            return Err(Error::invalid(
                "issued_until: it is in the future; without it all until now is revoked",
            ));
        }
        let (tx, seconds) = (self.tx, unix(until));
        let renewed = session::renewed_since(tx, account, until, MAX_RENEWED + 1)?;
        if renewed.len() > MAX_RENEWED {
            return Err(Error::precondition(format!(
                "issued_until: more than {MAX_RENEWED} logins were renewed since; leave it out, and all until now is revoked"
            )));
        }
        for session in &renewed {
            end_session(self, session)?;
        }
        let sql = "SELECT max(expires) FROM (
            SELECT expires_s AS expires FROM session WHERE used_s <= ?2 AND (?1 IS NULL OR account = ?1)
            UNION ALL SELECT expires_s FROM token WHERE issued_s <= ?2 AND NOT revoked AND (?1 IS NULL OR account = ?1))";
        let expires: Option<i64> =
            tx.query_row(sql, params![account, seconds], |row| row.get(0))?;
        for sql in [
            "DELETE FROM session WHERE used_s <= ?2 AND (?1 IS NULL OR account = ?1)",
            "UPDATE token SET revoked = 1 WHERE issued_s <= ?2 AND (?1 IS NULL OR account = ?1)",
        ] {
            tx.execute(sql, params![account, seconds])?;
        }
        let until = mcdsl::human::utc(seconds.saturating_mul(1000));
        self.note(|detail| detail.text("issued_until", &until));
        let what = account.map_or(Revoked::Everything, |id| Revoked::Account(id.to_owned()));
        let forget = expires.map_or(self.now, at).max(self.now) + 2 * LIFETIME;
        self.revoke(what, at(seconds), forget)
    }
}

/// All that are not forgotten: a clock that is wrong at a start is right later.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<State> {
    let mut state = State::default();
    let mut all = db.prepare("SELECT what, id, issued_until_s, forget_s FROM revocation")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let what = match row.get_ref(0)?.as_str()? {
            "token" => Revoked::Token(id),
            "session" => Revoked::Session(id),
            "account" => Revoked::Account(id),
            _ => Revoked::Everything,
        };
        let revocation = Revocation {
            what,
            issued_until: at(row.get(2)?),
            forget: at(row.get(3)?),
        };
        // Of too many none may go.
        state.enter(&revocation, SystemTime::UNIX_EPOCH);
    }
    Ok(state)
}

/// Whether a token is revoked by what is committed.
pub(crate) fn is_revoked(db: &Connection, identity: &Identity) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT 1 FROM revocation WHERE (what = 'token' AND id = ?1) OR (issued_until_s >= ?4 AND
            ((what = 'session' AND id = ?2) OR (what = 'account' AND id = ?3) OR (what = 'everything' AND id = '')))",
    )?
    .exists(params![
        identity.token,
        identity.session,
        identity.account,
        unix(identity.issued)
    ])
}

/// The second after which a token of the account has to be issued to be valid.
pub(crate) fn issued_until(db: &Connection, account: &str) -> Result<i64, Error> {
    let until: Option<Option<i64>> = db
        .prepare_cached(
            "SELECT max(issued_until_s) FROM revocation
                WHERE (what = 'account' AND id = ?1) OR (what = 'everything' AND id = '')",
        )?
        .query_row([account], |row| row.get(0))
        .optional()?;
    Ok(until.flatten().unwrap_or(0))
}

/// How they are told.
pub(crate) fn messages() -> Messages<Revocation, RevocationEvent> {
    Messages {
        of: |revocation| RevocationEvent {
            event: Some(Event::Revoked(message(revocation))),
        },
        synced: || RevocationEvent {
            event: Some(Event::Synced(true)),
        },
        heartbeat: || RevocationEvent {
            event: Some(Event::Heartbeat(true)),
        },
    }
}

fn message(revocation: Revocation) -> Message {
    let what = match revocation.what {
        Revoked::Token(id) => What::Token(id),
        Revoked::Session(id) => What::Session(id),
        Revoked::Account(id) => What::Account(id),
        Revoked::Everything => What::Everything(true),
    };
    Message {
        what: Some(what),
        issued_until: Some(revocation.issued_until.into()),
        forget: Some(revocation.forget.into()),
    }
}
