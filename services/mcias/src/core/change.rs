//! What is changed within one transaction.

use std::time::SystemTime;

use ipnet::IpNet;
use mc_proto::AccountType;
use mcdsl::{
    audit::Detail,
    auth::{Revocation, Revoked},
};
use rusqlite::Transaction;
use tonic::Code;

use super::{LIFETIME, effects::Effects};
use crate::{
    account, bans, error::Error, keys, revocation, seal, session, time::unix, token::AHEAD,
};

/// Logins of a time when the clock was ahead that are ended one by one.
const MAX_FUTURE: usize = 10_000;

/// A change as it is made: all of it is committed together, with its row of the audit log, or nothing.
pub(crate) struct Change<'t> {
    pub(crate) tx: &'t Transaction<'t>,
    pub(crate) now: SystemTime,
    /// On what, for the log.
    pub(crate) resource: String,
    /// How it ended, for the log.
    pub(crate) outcome: Code,
    pub(crate) detail: Detail,
    /// Who it turned out to be, for the log.
    pub(crate) actor: Option<(String, String, AccountType)>,
    /// Anybody can ask for it: if it changes nothing, its row is one of [`mcdsl::server::Failures`].
    pub(crate) anybodys: bool,
    pub(super) effects: Effects,
}

impl<'t> Change<'t> {
    /// One at a time. A command that has the database to itself makes one as well, and writes the log's row itself: the service reads
    /// at its start what follows.
    pub(crate) fn new(tx: &'t Transaction<'t>, now: SystemTime) -> Self {
        Self {
            tx,
            now,
            resource: String::new(),
            outcome: Code::Ok,
            detail: Detail::new(),
            actor: None,
            anybodys: false,
            effects: Effects::default(),
        }
    }
}

impl Change<'_> {
    /// Revokes, from the commit on.
    pub(crate) fn revoke(
        &mut self,
        what: Revoked,
        issued_until: SystemTime,
        forget: SystemTime,
    ) -> Result<(), Error> {
        let revocation = Revocation {
            what,
            issued_until,
            forget,
        };
        revocation::store(self.tx, &revocation)?;
        self.effects.revoked.push(revocation);
        Ok(())
    }

    /// Revokes all tokens of an account that were issued until now, and ends its logins.
    pub(crate) fn revoke_account(&mut self, id: &str) -> Result<(), Error> {
        self.revoke_until_now(Revoked::Account(id.to_owned()), Some(id))
    }

    /// Revokes all tokens of all accounts that were issued until now, and ends all logins.
    pub(crate) fn revoke_everything(&mut self) -> Result<(), Error> {
        self.revoke_until_now(Revoked::Everything, None)
    }

    fn revoke_until_now(&mut self, what: Revoked, account: Option<&str>) -> Result<(), Error> {
        // Tokens may be issued a little ahead of the clock: the last one counts. Those of a clock that was ahead are revoked one by one,
        // or nobody could log in before that time.
        let ahead = unix(self.now) + AHEAD;
        let future = session::issued_after(self.tx, account, ahead, MAX_FUTURE + 1)?;
        if future.len() > MAX_FUTURE {
            return Err(Error::precondition(format!(
                "more than {MAX_FUTURE} logins are of a time when the clock was ahead; stop the service, and use `mcias recover --drop-keys`"
            )));
        }
        for session in &future {
            session::end_session(self, session)?;
        }
        account::tokens::revoke_issued_after(self, account, ahead)?;
        let sql = "SELECT max(issued), max(expires) FROM (
            SELECT used_s AS issued, expires_s AS expires FROM session WHERE ?1 IS NULL OR account = ?1
            UNION ALL SELECT issued_s, expires_s FROM token WHERE NOT revoked AND (?1 IS NULL OR account = ?1))";
        let (issued, expires): (Option<i64>, Option<i64>) =
            self.tx
                .query_row(sql, [account], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for sql in [
            "DELETE FROM session WHERE ?1 IS NULL OR account = ?1",
            "UPDATE token SET revoked = 1 WHERE ?1 IS NULL OR account = ?1",
        ] {
            self.tx.execute(sql, [account])?;
        }
        let now = self.now;
        let later = |time: Option<i64>| time.map_or(now, crate::time::at).max(now);
        self.revoke(what, later(issued), later(expires) + 2 * LIFETIME)
    }

    /// Makes all tokens void with the keys that signed them, whenever they were issued, so that no revocation is needed any more: of a time
    /// when the clock was ahead it would keep everybody out until then. For a database that no service has open; it makes a new key.
    pub(crate) fn drop_keys(&mut self, seal: &seal::Key) -> Result<(), Error> {
        for sql in [
            "DELETE FROM signing_key",
            "DELETE FROM session",
            "UPDATE token SET revoked = 1",
            "DELETE FROM revocation",
        ] {
            self.tx.execute(sql, [])?;
        }
        keys::create(self.tx, seal, self.now)?;
        self.revoke_everything()
    }

    /// Keeps a network away, which is an action of its own in the log.
    pub(crate) fn ban(&mut self, ban: bans::Pending) -> Result<(), Error> {
        bans::store(self.tx, &ban.ban())?;
        bans::log_begin(self.tx, &ban.ban(), self.now)?;
        self.effects.bans.push(bans::Told::Ban(ban.ban()));
        self.effects.pending.push(ban);
        Ok(())
    }

    /// A network is not kept away any more.
    pub(crate) fn lifted(&mut self, network: IpNet) {
        self.effects.bans.push(bans::Told::Lifted(network));
    }

    /// Keys or rules have changed.
    pub(crate) fn read_again(&mut self) {
        self.effects.read_again = true;
    }

    /// Adds to the log's detail.
    pub(crate) fn note(&mut self, add: impl FnOnce(Detail) -> Detail) {
        self.detail = add(std::mem::take(&mut self.detail));
    }
}
