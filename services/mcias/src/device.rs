//! Devices that an account is used from: a network and what the client calls itself there. A login from a new one is told its owner until
//! he says that it was him.
//!
//! Whoever knows the password can log in from a device of his own, so that a new device answers for none, itself included, unless its login
//! has shown both factors; after [`TOLD`] it counts as known. Rejected: a list of logins beside this one (two truths, and a bound on
//! either is a way to make room in the other).

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row, Transaction, params};

use crate::{
    account::{json, to_json},
    core::Change,
    error::Error,
    random::{self, hex},
    session::{Session, end_session, sessions_from},
    time::unix,
};

/// Known devices of an account that are remembered, the latest: people have fewer.
const MAX_KNOWN: i64 = 64;
/// New ones, which are kept apart: whoever pretends to have many pushes out none that is known.
const MAX_NEW: i64 = 16;
/// How long its owner is told of a new one. Browsers that were updated are new devices, and he may have no other to answer from.
const TOLD: Duration = Duration::from_secs(30 * 24 * 3600);

/// A device that the account was used from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) network: String,
    pub(crate) device: String,
    pub(crate) last: i64,
    /// Of one that its owner has not answered for: when the first login from it was.
    pub(crate) new: Option<i64>,
    /// To which service that was, and how.
    pub(crate) service: String,
    pub(crate) methods: Vec<String>,
}

impl Device {
    /// By which the account's owner names it.
    pub(crate) fn id(&self, account: &str) -> String {
        let hash = random::hash(&["device", account, &self.network, &self.device]);
        hex(&hash[..16])
    }

    /// Whether a login is from there.
    pub(crate) fn is_of(&self, login: &Session) -> bool {
        self.network == login.source && self.device == login.device
    }
}

/// A new device, and the first login from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewDevice {
    pub(crate) network: String,
    pub(crate) device: String,
    pub(crate) since: i64,
    pub(crate) service: String,
    pub(crate) methods: Vec<String>,
}

/// The login that is made from a device.
pub(crate) struct Used<'u> {
    pub(crate) account: &'u str,
    pub(crate) network: &'u str,
    pub(crate) device: &'u str,
    pub(crate) service: &'u str,
    pub(crate) methods: &'u [&'u str],
}

/// Remembers that the account is used from there. Whether it is for the first time, and not for the first time at all.
pub(crate) fn remember(
    tx: &Transaction<'_>,
    used: &Used<'_>,
    now: SystemTime,
) -> rusqlite::Result<bool> {
    let now = unix(now);
    let (devices, this): (i64, i64) = tx.query_row(
        "SELECT count(*), count(*) FILTER (WHERE network = ?2 AND device = ?3) FROM known_device WHERE account = ?1",
        [used.account, used.network, used.device],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let new = devices > 0 && this == 0;
    let methods: Vec<String> = used.methods.iter().map(|m| (*m).to_owned()).collect();
    tx.execute(
        "INSERT INTO known_device (account, network, device, last_s, new_s, service, methods)
            VALUES (?1, ?2, ?3, ?4, iif(?5, ?4, NULL), ?6, ?7) ON CONFLICT DO UPDATE SET last_s = excluded.last_s",
        params![
            used.account,
            used.network,
            used.device,
            now,
            new,
            used.service,
            to_json(&methods)
        ],
    )?;
    for (condition, most) in [("new_s IS NULL", MAX_KNOWN), ("new_s IS NOT NULL", MAX_NEW)] {
        let sql = format!(
            "DELETE FROM known_device WHERE account = ?1 AND (network, device) IN (SELECT network, device FROM known_device
                WHERE account = ?1 AND {condition} ORDER BY last_s DESC LIMIT -1 OFFSET ?2)"
        );
        tx.execute(&sql, params![used.account, most])?;
    }
    Ok(new)
}

/// Whether the account is used from a network.
pub(crate) fn is_known(db: &Connection, account: &str, network: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM known_device WHERE account = ?1 AND network = ?2 LIMIT 1";
    db.prepare_cached(sql)?.exists([account, network])
}

/// Those of an account: new ones first, then by their last login. [`MAX_KNOWN`] and [`MAX_NEW`] bound them.
pub(crate) fn devices(db: &Connection, account: &str) -> rusqlite::Result<Vec<Device>> {
    let sql = "SELECT network, device, last_s, new_s, service, methods FROM known_device
        WHERE account = ?1 ORDER BY new_s IS NULL, new_s DESC, last_s DESC, network, device";
    let device = |row: &Row<'_>| {
        Ok(Device {
            network: row.get(0)?,
            device: row.get(1)?,
            last: row.get(2)?,
            new: row.get(3)?,
            service: row.get(4)?,
            methods: json(row, 5)?,
        })
    };
    db.prepare_cached(sql)?
        .query_map([account], device)?
        .collect()
}

/// One by its id.
///
/// # Errors
/// If there is none.
pub(crate) fn named(db: &Connection, account: &str, id: &str) -> Result<Device, Error> {
    let mut all = devices(db, account)?.into_iter();
    let found = all.find(|device| device.id(account) == id);
    found.ok_or_else(|| Error::not_found("device", id))
}

/// Those that its owner has not answered for, newest first.
pub(crate) fn unanswered(db: &Connection, account: &str) -> rusqlite::Result<Vec<NewDevice>> {
    let new = |device: Device| {
        Some(NewDevice {
            since: device.new?,
            network: device.network,
            device: device.device,
            service: device.service,
            methods: device.methods,
        })
    };
    Ok(devices(db, account)?.into_iter().filter_map(new).collect())
}

/// Whether a login may say of a new device that it is its owner's.
pub(crate) fn may_answer(
    db: &Connection,
    account: &str,
    login: &Session,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM known_device WHERE account = ?1 AND network = ?2 AND device = ?3 AND new_s IS NULL";
    let known = db
        .prepare_cached(sql)?
        .exists([account, &login.source, &login.device])?;
    Ok(known || login.has_shown_both())
}

/// It is its owner's, says a login of his.
///
/// # Errors
/// If that login may not say so, or there is nothing to say.
pub(crate) fn accept(
    tx: &Transaction<'_>,
    account: &str,
    login: &Session,
    network: &str,
    device: &str,
) -> Result<(), Error> {
    if !may_answer(tx, account, login)? {
        return Err(Error::denied(
            "this login is from a new device itself; say it from one that you have used before, or log in with a second factor",
        ));
    }
    let sql = "UPDATE known_device SET new_s = NULL
        WHERE account = ?1 AND network = ?2 AND device = ?3 AND new_s IS NOT NULL";
    match tx.execute(sql, [account, network, device])? {
        0 => Err(Error::precondition("that is answered already")),
        _ => Ok(()),
    }
}

/// It is not its owner's: its logins end, and it is forgotten.
///
/// # Errors
/// If it is the device that says so, or there is nothing to say.
pub(crate) fn reject(
    change: &mut Change<'_>,
    account: &str,
    login: &Session,
    network: &str,
    device: &str,
) -> Result<(), Error> {
    let all = devices(change.tx, account)?;
    let here = |of: &Device| of.network == network && of.device == device;
    let found = all.into_iter().find(here);
    // A known one is not asked about.
    let asked = match found {
        Some(known) if known.new.is_none() && !known.is_of(login) => None,
        found => found,
    };
    let asked = asked.ok_or_else(|| Error::precondition("that is answered already"))?;
    drop_device(change, account, login, &asked).map(drop)
}

/// Forgets a device, known or new: its logins end. How many they were.
///
/// # Errors
/// If the login is from there itself, or may not forget one that is known.
pub(crate) fn drop_device(
    change: &mut Change<'_>,
    account: &str,
    login: &Session,
    device: &Device,
) -> Result<u32, Error> {
    if device.is_of(login) {
        return Err(Error::precondition(
            "that is the device that this login is from; log out instead",
        ));
    }
    // Who is new himself would make a new one of what could say so.
    if device.new.is_none() && !may_answer(change.tx, account, login)? {
        return Err(Error::denied(
            "this login is from a new device itself; forget known ones from one that you have used before, or log in with a second factor",
        ));
    }
    let sql = "DELETE FROM known_device WHERE account = ?1 AND network = ?2 AND device = ?3";
    let values = [account, &device.network, &device.device];
    change.tx.execute(sql, values)?;
    let mut ended = 0;
    for session in sessions_from(change.tx, account, &device.network, &device.device)? {
        end_session(change, &session)?;
        ended += 1;
    }
    Ok(ended)
}

/// Tells nobody any longer of what he was told for long enough.
pub(crate) fn forget(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<usize> {
    let sql = "UPDATE known_device SET new_s = NULL WHERE new_s < ?1";
    tx.execute(sql, [unix(now) - unix(SystemTime::UNIX_EPOCH + TOLD)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MIGRATIONS;

    const NETWORK: &str = "192.0.2.1/32";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + TOLD + Duration::from_secs(seconds)
    }

    fn database() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let db = mcdsl::db::open(&directory.path().join("a.db"), MIGRATIONS).unwrap();
        let sql = "INSERT INTO account (id, name, type, status, second_factor_required, created_s)
            VALUES ('ada', 'ada', 'human', 'active', 0, 0), ('eve', 'eve', 'human', 'active', 0, 0)";
        db.execute(sql, []).unwrap();
        (directory, db)
    }

    fn used(tx: &Transaction<'_>, device: &str, time: u64) -> bool {
        let used = Used {
            account: "ada",
            network: NETWORK,
            device,
            service: "mcias",
            methods: &["pwd"],
        };
        remember(tx, &used, at(time)).unwrap()
    }

    fn login(device: &str, methods: &[&str]) -> Session {
        Session {
            id: String::new(),
            service: "mcias".to_owned(),
            token: String::new(),
            created: 0,
            used: 0,
            expires: 0,
            ends: 0,
            source: NETWORK.to_owned(),
            device: device.to_owned(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            new_device: false,
        }
    }

    fn names(db: &Connection) -> Vec<String> {
        let new = unanswered(db, "ada").unwrap();
        new.into_iter().map(|new| new.device).collect()
    }

    #[test]
    fn a_new_device_is_told_until_a_known_one_answers() {
        let (_directory, mut db) = database();
        let tx = db.transaction().unwrap();
        assert!(!used(&tx, "desk", 0), "the first is not new");
        assert!(used(&tx, "phone", 1));
        assert!(!used(&tx, "phone", 2), "new once");
        assert_eq!(names(&tx), ["phone"], "until it is answered for");
        let told = &unanswered(&tx, "ada").unwrap()[0];
        assert_eq!((told.since, &*told.service), (unix(at(1)), "mcias"));
        assert_eq!(told.methods, ["pwd"]);
        for (description, account, device, methods, may) in [
            ("a known device", "ada", "desk", &["pwd"][..], true),
            ("the new one itself", "ada", "phone", &["pwd"], false),
            ("one that is not remembered", "ada", "car", &["pwd"], false),
            (
                "with both factors",
                "ada",
                "phone",
                &["pwd", "otp", "mfa"],
                true,
            ),
            ("another's", "eve", "desk", &["pwd"], false),
        ] {
            let got = may_answer(&tx, account, &login(device, methods)).unwrap();
            assert_eq!(got, may, "{description}");
        }
        let accept =
            |by: &str, device: &str| accept(&tx, "ada", &login(by, &["pwd"]), NETWORK, device);
        assert!(accept("phone", "phone").is_err(), "by itself");
        assert!(accept("desk", "car").is_err(), "one that there is not");
        accept("desk", "phone").unwrap();
        assert!(accept("desk", "phone").is_err(), "once");
        assert!(names(&tx).is_empty());
        assert!(may_answer(&tx, "ada", &login("phone", &["pwd"])).unwrap());
    }

    #[test]
    fn whoever_has_many_devices_pushes_out_none_that_is_known() {
        let (_directory, mut db) = database();
        let tx = db.transaction().unwrap();
        used(&tx, "desk", 0);
        for n in 1..200 {
            assert!(used(&tx, &format!("new {n}"), n));
        }
        let told = names(&tx);
        assert_eq!(told.len(), usize::try_from(MAX_NEW).unwrap());
        assert_eq!(told[0], "new 199", "the newest");
        assert!(!used(&tx, "desk", 300), "it is known still");
        let gone = login("new 1", &["pwd"]);
        assert!(
            !may_answer(&tx, "ada", &gone).unwrap(),
            "nor does it make room for itself"
        );
        assert!(used(&tx, "new 1", 301), "and is new once more");
    }

    #[test]
    fn a_device_is_new_for_a_month() {
        let (_directory, mut db) = database();
        let tx = db.transaction().unwrap();
        used(&tx, "desk", 0);
        used(&tx, "phone", 10);
        forget(&tx, at(10) + TOLD).unwrap();
        assert_eq!(names(&tx), ["phone"]);
        forget(&tx, at(11) + TOLD).unwrap();
        assert!(names(&tx).is_empty());
    }
}
