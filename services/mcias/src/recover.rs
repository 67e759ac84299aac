//! A way back for an operator whose last administrator lost the password or the second factors, or whom the login policy locks out: whoever
//! may write the database's files needs nobody's leave. Without the service, which would not hear of it.

use std::{path::PathBuf, time::SystemTime};

use ipnet::IpNet;
use mcdsl::{
    audit::{self, Actor, AuditError, Detail, Entry},
    db::{self, DbError},
    human,
    lock::{Lock, LockError},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tonic::Code;

use crate::{
    account::{self, Account},
    bans,
    config::Config,
    core::Change,
    error::Error,
    gate,
    left::{Left, is_empty},
    name::{AccountName, Role},
    password::{self, new_password},
    policy::{self, LoginPolicy},
    revocation, schema, seal, service,
    time::unix,
    token::AHEAD,
};

/// What is to be done besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    /// Makes somebody an administrator who is none.
    pub make_admin: bool,
    /// Takes its second factors and recovery codes away: they are lost.
    pub remove_factors: bool,
    /// Replaces all rules of the login policy by those of a new installation.
    pub reset_policy: bool,
    /// Lets all networks in again that are kept away for failed logins: the operator's own may be among them.
    pub lift_bans: bool,
    /// Makes all tokens of all accounts void, with the keys that signed them: what was revoked while the clock was ahead keeps nobody out.
    pub drop_keys: bool,
}

/// An administrator who can log in again.
pub struct Recovered {
    /// The account.
    pub account: String,
    /// Its password, which is nowhere else, and is to be changed at the first login.
    pub password: String,
    /// What it was before: active, disabled or locked.
    pub was: &'static str,
    /// It was none, and has been made one.
    pub made_admin: bool,
    /// It has second factors still, which a login asks for.
    pub has_factors: bool,
    /// Networks that are kept away: nobody logs in from there.
    pub banned: Vec<IpNet>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no database.
    #[error("{0} is not initialised; run `mcias init`")]
    Missing(PathBuf),
    /// There was one.
    #[error(transparent)]
    Lost(#[from] Left),
    /// No such person.
    #[error("there is no account {name:?} of a person; people who are administrators: {admins}")]
    Nobody {
        /// Who was asked for.
        name: String,
        /// Who there is.
        admins: String,
    },
    /// It administers nothing.
    #[error(
        "{name:?} is no administrator; with --make-admin it becomes one; people who are administrators: {admins}"
    )]
    NoAdmin {
        /// The account.
        name: String,
        /// Who there is.
        admins: String,
    },
    /// The account could not log in after all.
    #[error(
        "the login policy would not let {name:?} log in ({why}); with --reset-policy its rules are replaced by those of a new installation"
    )]
    Policy {
        /// The account.
        name: String,
        /// Which rule.
        why: String,
    },
    /// What was revoked while the clock was ahead keeps it out.
    #[error(
        "all tokens of {name:?} are revoked until {until}, for the clock was ahead when that was done; with --drop-keys all tokens of all accounts become void, and logins begin anew"
    )]
    Clock {
        /// The account.
        name: String,
        /// UTC.
        until: String,
    },
    /// The service runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<rusqlite::Error> for RecoverError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes a person's account an active administrator's with a new password, and ends its logins. All of it or nothing; it can be run again.
///
/// # Errors
/// [`RecoverError`].
pub fn recover(
    config: &Config,
    name: &AccountName,
    recovery: Recovery,
) -> Result<Recovered, RecoverError> {
    let path = &config.database.path;
    let _lock = Lock::of(path)?;
    if is_empty(path) {
        Left::of(config).map_or(Ok(()), Err)?;
        return Err(RecoverError::Missing(path.clone()));
    }
    let mut db = db::open(path, schema::MIGRATIONS)?;
    let before = person(&db, name)?;
    let is_admin = (before.roles.iter()).any(|role| role == Role::Admin.as_str());
    if !is_admin && !recovery.make_admin {
        return Err(RecoverError::NoAdmin {
            name: name.to_string(),
            admins: listed(&administrators(&db)?),
        });
    }
    let password = new_password()?;
    let hash = password::hash(&password).map_err(Error::from)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = SystemTime::now();
    if recovery.drop_keys {
        let seal = seal::Key::read(&config.database.master_key).map_err(Error::from)?;
        Change::new(&tx, now).drop_keys(&seal)?;
    }
    let account = change(&tx, &before, &hash, recovery, now)?;
    check_policy(&tx, &account)?;
    check_clock(&tx, &account, now)?;
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action: "recover",
        resource: name.as_str(),
        outcome: Code::Ok,
        detail: Detail::new()
            .flag("make_admin", !is_admin)
            .flag("remove_factors", recovery.remove_factors)
            .flag("reset_policy", recovery.reset_policy)
            .flag("lift_bans", recovery.lift_bans)
            .flag("drop_keys", recovery.drop_keys)
            .text("status_before", before.status.as_str())
            .list("roles_before", before.roles.iter().map(String::as_str)),
    };
    audit::append(&tx, &entry, now)?;
    let banned = bans::load(&tx)?.into_iter();
    let banned = banned.filter(|ban| ban.until > now).map(|ban| ban.network);
    let banned = banned.collect();
    tx.commit()?;
    Ok(Recovered {
        account: account.name.clone(),
        password,
        was: before.status.as_str(),
        made_admin: !is_admin,
        has_factors: account.has_second_factor(),
        banned,
    })
}

fn person(db: &Connection, name: &AccountName) -> Result<Account, RecoverError> {
    let found = account::by_name(db, name.as_str())?;
    if let Some(account) = found.filter(Account::is_human) {
        return Ok(account);
    }
    Err(RecoverError::Nobody {
        name: name.to_string(),
        admins: listed(&administrators(db)?),
    })
}

/// People who are administrators, by name, the first few.
pub(crate) fn administrators(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM account JOIN account_role ON account = id WHERE role = 'admin' AND type = 'human' ORDER BY name LIMIT 20";
    let mut admins = db.prepare(sql)?;
    let names = admins.query_map([], |row| row.get(0))?;
    names.collect()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

fn change(
    tx: &Transaction<'_>,
    account: &Account,
    hash: &str,
    recovery: Recovery,
    now: SystemTime,
) -> Result<Account, RecoverError> {
    if recovery.reset_policy {
        tx.execute("DELETE FROM rule", [])?;
        for rule in policy::first() {
            policy::insert(tx, &rule)?;
        }
    }
    if recovery.lift_bans {
        tx.execute("DELETE FROM ban", [])?;
    }
    if recovery.remove_factors {
        account::remove_factors(tx, &account.id)?;
    }
    account::set_password(tx, &account.id, hash, true, now)?;
    let sql = "UPDATE account SET status = 'active' WHERE id = ?1";
    tx.execute(sql, [&account.id])?;
    let sql = "INSERT OR IGNORE INTO account_role VALUES (?1, ?2)";
    tx.execute(sql, [&account.id, Role::Admin.as_str()])?;
    gate::open(tx, &account.name)?;
    // The service reads at its start what it was not told.
    Change::new(tx, now).revoke_account(&account.id)?;
    let changed = account::by_id(tx, &account.id)?;
    Ok(changed.ok_or(Error::Internal("an account is gone"))?)
}

fn check_policy(tx: &Transaction<'_>, account: &Account) -> Result<(), RecoverError> {
    let refused = |why: String| RecoverError::Policy {
        name: account.name.clone(),
        why,
    };
    // A rule that cannot be read locks everybody out as well.
    let policy = LoginPolicy::load(tx).map_err(|e| refused(mcdsl::cli::chain(&e)))?;
    let verdict = policy.judge(account, &service::named(tx, crate::SERVICE)?);
    let verdict = verdict.map_err(|e| refused(mcdsl::cli::chain(&e)))?;
    if verdict.allowed {
        return Ok(());
    }
    Err(refused(verdict.explanation.decision.reason.to_string()))
}

fn check_clock(
    tx: &Transaction<'_>,
    account: &Account,
    now: SystemTime,
) -> Result<(), RecoverError> {
    let until = revocation::issued_until(tx, &account.id)?;
    if until <= unix(now) + AHEAD {
        return Ok(());
    }
    Err(RecoverError::Clock {
        name: account.name.clone(),
        until: human::utc(until.saturating_mul(1000)),
    })
}
