//! Accounts, as the database has them; what is done to them is in the modules below.

pub(crate) mod change;
pub(crate) mod contact;
pub(crate) mod tokens;

use std::time::SystemTime;

use mc_proto::AccountType;
use mcdsl::auth::token::type_name;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use self::contact::Contact;
use crate::{
    error::Error,
    name::{AccountName, Role, Tag},
    time::{at, unix},
};

/// Accounts there may be: a bound of the tables, far beyond what one person's platform has.
const MAX_ACCOUNTS: i64 = 100_000;
/// Tags of an account.
pub(crate) const MAX_TAGS: usize = 32;

/// Whether an account may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It may.
    Active,
    /// An administrator says no.
    Disabled,
    /// Until a new password is set.
    Locked,
}

impl Status {
    pub(crate) const ALL: [Self; 3] = [Self::Active, Self::Disabled, Self::Locked];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "locked" => Self::Locked,
            _ => Self::Disabled,
        }
    }
}

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Empty: none.
    pub(crate) display_name: String,
    /// Empty: none. Nobody has verified it.
    pub(crate) email: String,
    pub(crate) account_type: AccountType,
    pub(crate) status: Status,
    pub(crate) second_factor_required: bool,
    pub(crate) created: SystemTime,
    pub(crate) last_login: Option<SystemTime>,
    /// The hash.
    pub(crate) password: Option<String>,
    pub(crate) password_changed: Option<SystemTime>,
    /// It has to be changed before anything else.
    pub(crate) password_expired: bool,
    pub(crate) roles: Vec<String>,
    pub(crate) tags: Vec<String>,
    /// A confirmed one.
    pub(crate) totp: bool,
    pub(crate) passkeys: u32,
    pub(crate) recovery_codes: u32,
}

impl Account {
    pub(crate) fn is_human(&self) -> bool {
        self.account_type == AccountType::Human
    }

    /// As people are greeted: by the display name, or by the account's.
    pub(crate) fn called(&self) -> &str {
        match self.display_name.as_str() {
            "" => &self.name,
            name => name,
        }
    }

    /// Has something to show besides a password.
    pub(crate) fn has_second_factor(&self) -> bool {
        self.totp || self.passkeys > 0
    }
}

const SELECT: &str = "SELECT a.id, a.name, a.type, a.status, a.second_factor_required, a.created_s, a.last_login_s, a.password,
    a.password_changed_s, a.password_expired,
    (SELECT json_group_array(role ORDER BY role) FROM account_role WHERE account = a.id),
    (SELECT json_group_array(tag ORDER BY tag) FROM account_tag WHERE account = a.id),
    EXISTS (SELECT 1 FROM totp WHERE account = a.id AND confirmed),
    (SELECT count(*) FROM passkey WHERE account = a.id),
    (SELECT count(*) FROM recovery_code WHERE account = a.id), a.display_name, a.email
    FROM account a";

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(at));
    Ok(Account {
        id: row.get(0)?,
        name: row.get(1)?,
        display_name: row.get(15)?,
        email: row.get(16)?,
        account_type: match row.get_ref(2)?.as_str()? {
            "system" => AccountType::System,
            _ => AccountType::Human,
        },
        status: Status::parse(row.get_ref(3)?.as_str()?),
        second_factor_required: row.get(4)?,
        created: at(row.get(5)?),
        last_login: time(6)?,
        password: row.get(7)?,
        password_changed: time(8)?,
        password_expired: row.get(9)?,
        roles: json(row, 10)?,
        tags: json(row, 11)?,
        totp: row.get(12)?,
        passkeys: row.get(13)?,
        recovery_codes: row.get(14)?,
    })
}

/// A list that is kept as JSON.
pub(crate) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, e.into())
    })
}

/// The list as it is kept.
pub(crate) fn to_json(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

/// The account of that name.
pub(crate) fn by_name(db: &Connection, name: &str) -> rusqlite::Result<Option<Account>> {
    let sql = format!("{SELECT} WHERE a.name = ?1");
    db.prepare_cached(&sql)?
        .query_row([name], account)
        .optional()
}

/// The account of that id.
pub(crate) fn by_id(db: &Connection, id: &str) -> rusqlite::Result<Option<Account>> {
    let sql = format!("{SELECT} WHERE a.id = ?1");
    db.prepare_cached(&sql)?.query_row([id], account).optional()
}

/// The account of that name.
///
/// # Errors
/// If there is none.
pub(crate) fn named(db: &Connection, name: &str) -> Result<Account, Error> {
    let name: AccountName = name.parse()?;
    by_name(db, name.as_str())?.ok_or_else(|| Error::not_found("account", name.as_str()))
}

/// Which accounts; all that is said must hold.
#[derive(Default)]
pub(crate) struct Find {
    /// The name begins so.
    pub(crate) prefix: String,
    /// It is somewhere in the name.
    pub(crate) part: String,
    pub(crate) account_type: Option<AccountType>,
    pub(crate) status: Option<Status>,
    pub(crate) role: Option<Role>,
    /// The last of the page before.
    pub(crate) after: String,
    /// Rows.
    pub(crate) limit: usize,
}

/// A page of them by name, and whether there are more.
pub(crate) fn list(db: &Connection, find: &Find) -> rusqlite::Result<(Vec<Account>, bool)> {
    // A range, and `instr`: LIKE would read a grammar into it. Names are ASCII, all before DEL.
    let sql = format!(
        "{SELECT} WHERE a.name >= ?1 AND a.name < ?2 AND a.name > ?3 AND (?4 IS NULL OR a.type = ?4) AND instr(a.name, ?5)
            AND (?6 IS NULL OR a.status = ?6)
            AND (?7 IS NULL OR EXISTS (SELECT 1 FROM account_role r WHERE r.account = a.id AND r.role = ?7))
         ORDER BY a.name LIMIT ?8"
    );
    let end = format!("{}\u{7f}", find.prefix);
    // One more tells whether there are more.
    let rows = i64::try_from(find.limit).map_or(i64::MAX, |limit| limit.saturating_add(1));
    let values = params![
        find.prefix,
        end,
        find.after,
        find.account_type.map(type_name),
        find.part,
        find.status.map(Status::as_str),
        find.role.map(Role::as_str),
        rows
    ];
    let mut found: Vec<Account> = db
        .prepare_cached(&sql)?
        .query_map(values, account)?
        .collect::<Result<_, _>>()?;
    let more = found.len() > find.limit;
    found.truncate(find.limit);
    Ok((found, more))
}

/// What of a new account is said.
pub(crate) struct New<'n> {
    pub(crate) name: &'n AccountName,
    pub(crate) account_type: AccountType,
    pub(crate) roles: &'n [Role],
    pub(crate) tags: &'n [Tag],
    pub(crate) second_factor_required: bool,
    /// The hash, and whether it has to be changed.
    pub(crate) password: Option<(&'n str, bool)>,
}

/// Makes it.
///
/// # Errors
/// If the name is taken.
pub(crate) fn create(
    tx: &Transaction<'_>,
    new: &New<'_>,
    now: SystemTime,
) -> Result<Account, Error> {
    let name = new.name.as_str();
    let taken = tx
        .query_row("SELECT 1 FROM account WHERE name = ?1", [name], |_| Ok(()))
        .optional()?;
    if taken.is_some() {
        return Err(Error::exists(format!(
            "there is an account {name:?} already"
        )));
    }
    let count: i64 = tx.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
    if count >= MAX_ACCOUNTS {
        return Err(Error::precondition(format!(
            "there are {MAX_ACCOUNTS} accounts, and no more can be"
        )));
    }
    let id = crate::random::id()?;
    let (password, expired) = new.password.unzip();
    tx.execute(
        "INSERT INTO account (id, name, type, status, second_factor_required, created_s, password, password_changed_s, password_expired)
         VALUES (?1, ?2, ?3, 'active', ?4, ?5, ?6, iif(?6 IS NULL, NULL, ?5), ?7)",
        params![
            id,
            name,
            type_name(new.account_type),
            new.second_factor_required,
            unix(now),
            password,
            expired.unwrap_or(false)
        ],
    )?;
    set_roles(tx, &id, new.roles)?;
    set_tags(tx, &id, new.tags)?;
    by_id(tx, &id)?.ok_or(Error::Internal("a new account is gone"))
}

/// Says what it is called and where mail reaches it, as far as that is to change.
pub(crate) fn set_contact(
    tx: &Transaction<'_>,
    id: &str,
    contact: &Contact,
) -> rusqlite::Result<()> {
    let sql = "UPDATE account SET display_name = ifnull(?2, display_name), email = ifnull(?3, email) WHERE id = ?1";
    tx.execute(sql, params![id, contact.display_name, contact.email])
        .map(drop)
}

/// Replaces its roles.
pub(crate) fn set_roles(tx: &Transaction<'_>, id: &str, roles: &[Role]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM account_role WHERE account = ?1", [id])?;
    for role in roles {
        let sql = "INSERT OR IGNORE INTO account_role VALUES (?1, ?2)";
        tx.execute(sql, [id, role.as_str()])?;
    }
    Ok(())
}

/// Replaces its tags.
pub(crate) fn set_tags(tx: &Transaction<'_>, id: &str, tags: &[Tag]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM account_tag WHERE account = ?1", [id])?;
    for tag in tags {
        let sql = "INSERT OR IGNORE INTO account_tag VALUES (?1, ?2)";
        tx.execute(sql, [id, tag.as_str()])?;
    }
    Ok(())
}

/// Sets the hash of a password.
pub(crate) fn set_password(
    tx: &Transaction<'_>,
    id: &str,
    hash: &str,
    expired: bool,
    now: SystemTime,
) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE account SET password = ?2, password_expired = ?3, password_changed_s = ?4,
            status = iif(status = 'locked', 'active', status) WHERE id = ?1",
        params![id, hash, expired, unix(now)],
    )
    .map(drop)
}

/// Takes its second factors and recovery codes away.
pub(crate) fn remove_factors(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    for table in ["totp", "recovery_code", "passkey"] {
        let sql = format!("DELETE FROM {table} WHERE account = ?1");
        tx.execute(&sql, [id])?;
    }
    Ok(())
}

/// People who are active, have a way to log in and the role `admin`.
pub(crate) fn admins(db: &Connection) -> rusqlite::Result<Vec<Account>> {
    let sql = format!(
        "{SELECT} WHERE a.type = 'human' AND a.status = 'active'
            AND (a.password IS NOT NULL OR EXISTS (SELECT 1 FROM passkey WHERE account = a.id))
            AND a.id IN (SELECT account FROM account_role WHERE role = 'admin')"
    );
    db.prepare_cached(&sql)?.query_map([], account)?.collect()
}
