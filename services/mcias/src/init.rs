//! The first start: the master key, the signing key, the first administrator.

use std::{path::PathBuf, time::SystemTime};

use mc_proto::AccountType;
use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    config::SettingError,
    db::{self, DbError},
    lock::{Lock, LockError},
};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use tonic::Code;

use crate::{
    account::{self, New},
    config::Config,
    error::Error,
    keys,
    left::{Left, is_empty},
    name::{AccountName, Role},
    password::{self, new_password},
    policy, recover, schema,
    seal::{self, SealError},
    service::{self, Service},
};

/// What was made.
pub struct Initialised {
    /// The database.
    pub database: PathBuf,
    /// The master key, to be kept elsewhere too.
    pub master_key: PathBuf,
    /// The first administrator.
    pub admin: String,
    /// Its password, which is nowhere else.
    pub password: String,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Somebody has an account already.
    #[error(
        "{database} is initialised already; if nobody saw the first password, `mcias recover {admin}` makes another; to begin anew, move the database away with its master key"
    )]
    Done {
        /// The database.
        database: PathBuf,
        /// Who administers it.
        admin: String,
    },
    /// There was something.
    #[error(transparent)]
    Lost(#[from] Left),
    /// The configuration.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Another process has the database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The master key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<rusqlite::Error> for InitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes what the service begins with; once. Killed in between, it can be run again.
///
/// # Errors
/// [`InitError`]; [`InitError::Lost`] if there was a database before.
pub fn init(config: &Config, admin: &AccountName) -> Result<Initialised, InitError> {
    make(config, admin, false)
}

/// The same, also where there was a database before: a master key that is there is used.
///
/// # Errors
/// [`InitError`].
pub fn init_anew(config: &Config, admin: &AccountName) -> Result<Initialised, InitError> {
    make(config, admin, true)
}

fn make(config: &Config, admin: &AccountName, anew: bool) -> Result<Initialised, InitError> {
    config.check_issuer()?;
    // Of two at once one makes it, and only its password is printed.
    let _lock = Lock::of(&config.database.path)?;
    // Before it is made: beside one without anything in it a master key says nothing.
    let mut left = Left::of(config).filter(|_| !anew);
    if let Some(left) = left.take_if(|_| is_empty(&config.database.path)) {
        return Err(left.into());
    }
    let mut db = db::open(&config.database.path, schema::MIGRATIONS)?;
    if issuer(&db)?.is_some() {
        let admins = recover::administrators(&db)?;
        return Err(InitError::Done {
            database: config.database.path.clone(),
            admin: admins.into_iter().next().unwrap_or_default(),
        });
    }
    left.map_or(Ok(()), Err)?;
    let master_key = &config.database.master_key;
    // One that is there already is of a run that was killed, or was put there.
    let seal = match seal::Key::create(master_key) {
        Err(SealError::File { source, .. })
            if source.kind() == std::io::ErrorKind::AlreadyExists =>
        {
            seal::Key::read(master_key)?
        }
        made => made?,
    };
    let password = new_password()?;
    let hash = password::hash(&password).map_err(Error::from)?;
    let now = SystemTime::now();
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "INSERT INTO setting (name, value) VALUES ('issuer', ?1)";
    tx.execute(sql, [&config.token.issuer])?;
    keys::create(&tx, &seal, now)?;
    let own = Service {
        name: crate::SERVICE.to_owned(),
        tags: Vec::new(),
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        public_client: false,
        secret: None,
        comment: "This service".to_owned(),
    };
    service::put(&tx, own, false)?;
    let new = New {
        name: admin,
        account_type: AccountType::Human,
        roles: &[Role::Admin],
        tags: &[],
        second_factor_required: false,
        password: Some((&hash, false)),
    };
    account::create(&tx, &new, now)?;
    for rule in policy::first() {
        policy::put(&tx, &rule)?;
    }
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action: "init",
        resource: admin.as_str(),
        outcome: Code::Ok,
        detail: Detail::new().text("issuer", &config.token.issuer),
    };
    audit::append(&tx, &entry, now).map_err(Error::from)?;
    tx.commit()?;
    Ok(Initialised {
        database: config.database.path.clone(),
        master_key: master_key.clone(),
        admin: admin.to_string(),
        password,
    })
}

/// The issuer that the database was made with; `None`: it was not.
pub(crate) fn issuer(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM setting WHERE name = 'issuer'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}
