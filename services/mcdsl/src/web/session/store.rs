//! Sessions in SQLite. Times are seconds since the epoch, and come from the caller.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Flash, Limits, Session, SessionId};
use crate::clock::SKEW;

/// Between two writes of when a session was seen: not one for each request.
const TOUCH_S: i64 = 60;

pub(super) const SQL: &str = "
    CREATE TABLE web_sessions (
        id BLOB PRIMARY KEY CHECK (length(id) = 32),
        account TEXT NOT NULL,
        name TEXT NOT NULL,
        roles TEXT NOT NULL,
        created_unix_s INTEGER NOT NULL,
        seen_unix_s INTEGER NOT NULL,
        source TEXT,
        user_agent TEXT NOT NULL,
        data TEXT NOT NULL,
        flash TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX web_sessions_account ON web_sessions (account, seen_unix_s);
    CREATE INDEX web_sessions_seen ON web_sessions (seen_unix_s)";

const COLUMNS: &str =
    "id, account, name, roles, created_unix_s, seen_unix_s, source, user_agent, data, flash";

type Id = [u8; 32];

pub(super) struct NewRow {
    pub(super) id: Id,
    pub(super) account: String,
    pub(super) name: String,
    pub(super) roles: String,
    pub(super) source: Option<String>,
    pub(super) user_agent: String,
    pub(super) data: String,
    pub(super) flash: Option<Flash>,
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The last second of which a session that was seen, and one that was made, is over.
fn over(limits: Limits, now: i64) -> (i64, i64) {
    (
        now.saturating_sub(seconds(limits.idle)),
        now.saturating_sub(seconds(limits.absolute)),
    )
}

/// The last second in which a session may have been seen.
fn latest(now: i64) -> i64 {
    now.saturating_add(seconds(SKEW))
}

pub(super) fn find(
    db: &Connection,
    limits: Limits,
    now: i64,
    id: &Id,
) -> rusqlite::Result<Option<Session>> {
    let (idle, old) = over(limits, now);
    let sql = format!(
        "SELECT {COLUMNS} FROM web_sessions WHERE id = ?1 AND seen_unix_s BETWEEN ?2 + 1 AND ?4 AND created_unix_s > ?3"
    );
    // What was seen in what is the future, for a clock was ahead then, would be over too late; none is seen before it is made.
    db.prepare_cached(&sql)?
        .query_row(params![id, idle, old, latest(now)], session)
        .optional()
}

/// Whether it is time to write down that it was seen.
pub(super) fn is_to_touch(session: &Session, now: i64) -> bool {
    now - unix(session.seen) >= TOUCH_S
}

pub(super) fn touch(db: &Connection, now: i64, id: &Id) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE web_sessions SET seen_unix_s = max(seen_unix_s, ?2) WHERE id = ?1")?
        .execute(params![id, now])
        .map(drop)
}

/// Within a transaction.
pub(super) fn start(
    db: &Connection,
    limits: Limits,
    now: i64,
    row: &NewRow,
    old: Option<&Id>,
) -> rusqlite::Result<()> {
    if let Some(old) = old {
        db.execute("DELETE FROM web_sessions WHERE id = ?1", [old])?;
    }
    db.execute(
        "DELETE FROM web_sessions WHERE seen_unix_s <= ?1 OR seen_unix_s > ?2",
        [over(limits, now).0, latest(now)],
    )?;
    db.execute(
        "DELETE FROM web_sessions WHERE id IN (SELECT id FROM web_sessions WHERE account = ?1
            ORDER BY seen_unix_s DESC, created_unix_s DESC LIMIT -1 OFFSET ?2)",
        params![row.account, limits.per_account.saturating_sub(1)],
    )?;
    db.execute(
        "DELETE FROM web_sessions WHERE id IN (SELECT id FROM web_sessions
            ORDER BY seen_unix_s DESC LIMIT -1 OFFSET ?1)",
        [limits.total.saturating_sub(1)],
    )?;
    db.execute(
        &format!(
            "INSERT INTO web_sessions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9)"
        ),
        params![
            row.id,
            row.account,
            row.name,
            row.roles,
            now,
            row.source,
            row.user_agent,
            row.data,
            row.flash.as_ref().map(text)
        ],
    )
    .map(drop)
}

pub(super) fn end(db: &Connection, account: &str, id: &Id) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM web_sessions WHERE id = ?1 AND account = ?2";
    Ok(db.execute(sql, params![id, account])? > 0)
}

pub(super) fn set_data(db: &Connection, id: &Id, data: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE web_sessions SET data = ?2 WHERE id = ?1";
    db.execute(sql, params![id, data]).map(drop)
}

pub(super) fn set_flash(db: &Connection, id: &Id, flash: &Flash) -> rusqlite::Result<()> {
    let sql = "UPDATE web_sessions SET flash = ?2 WHERE id = ?1";
    db.execute(sql, params![id, text(flash)]).map(drop)
}

/// Unless there is another one by now.
pub(super) fn clear_flash(db: &Connection, id: &Id, flash: &Flash) -> rusqlite::Result<()> {
    let sql = "UPDATE web_sessions SET flash = NULL WHERE id = ?1 AND flash = ?2";
    db.execute(sql, params![id, text(flash)]).map(drop)
}

fn text(flash: &Flash) -> String {
    serde_json::json!(flash).to_string()
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let time = |column| {
        let seconds: i64 = row.get(column)?;
        Ok::<_, rusqlite::Error>(
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).cast_unsigned()),
        )
    };
    let source: Option<String> = row.get(6)?;
    let flash: Option<String> = row.get(9)?;
    Ok(Session {
        id: SessionId(row.get(0)?),
        account: row.get(1)?,
        name: row.get(2)?,
        roles: json(row, 3)?,
        created: time(4)?,
        seen: time(5)?,
        source: source.and_then(|s| s.parse().ok()),
        user_agent: row.get(7)?,
        data: json(row, 8)?,
        identity: None,
        bearer: None,
        flash: flash.and_then(|f| serde_json::from_str(&f).ok()),
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, e.into())
    })
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |s| s.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(600),
        absolute: Duration::from_secs(3600),
        per_account: 3,
        total: 5,
    };
    const T0: i64 = 1_800_000_000;

    fn db() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SQL).unwrap();
        db
    }

    /// As a request with its cookie does.
    fn see(db: &Connection, at: i64, id: u8) -> bool {
        let found = find(db, LIMITS, at, &[id; 32]).unwrap();
        if found
            .as_ref()
            .is_some_and(|session| is_to_touch(session, at))
        {
            touch(db, at, &[id; 32]).unwrap();
        }
        found.is_some()
    }

    fn add(db: &Connection, at: i64, id: u8, account: &str, old: Option<u8>) {
        let row = NewRow {
            id: [id; 32],
            account: account.into(),
            name: "Ann".into(),
            roles: r#"["user"]"#.into(),
            source: Some("192.0.2.1".into()),
            user_agent: "browser".into(),
            data: "null".into(),
            flash: None,
        };
        start(db, LIMITS, at, &row, old.map(|id| [id; 32]).as_ref()).unwrap();
    }

    fn there(db: &Connection, at: i64) -> Vec<u8> {
        let all = 0..=u8::MAX;
        all.filter(|id| see(db, at, *id)).collect()
    }

    #[test]
    fn a_session_is_found_as_it_was_made() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        let found = find(&db, LIMITS, T0, &[1; 32]).unwrap().unwrap();
        assert_eq!((found.account.as_str(), unix(found.created)), ("ann", T0));
        assert!(found.has_role("user") && !found.has_role("admin"));
        assert!(find(&db, LIMITS, T0, &[2; 32]).unwrap().is_none());
    }

    #[test]
    fn idle_and_old_sessions_are_over() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        assert_eq!(there(&db, T0 + 599), [1], "just not idle too long");
        assert_eq!(there(&db, T0 + 599 + 600), [0; 0], "idle since then");
        let db = self::db();
        add(&db, T0, 2, "ann", None);
        for at in (T0..T0 + 3600).step_by(300) {
            assert_eq!(there(&db, at), [2], "busy at {}", at - T0);
        }
        assert_eq!(there(&db, T0 + 3599), [2]);
        assert_eq!(there(&db, T0 + 3600), [0; 0], "busy, and too old");
    }

    #[test]
    fn a_session_of_the_future_is_over() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        assert_eq!(
            there(&db, T0 - seconds(SKEW)),
            [1],
            "the clock was put right by a little"
        );
        assert_eq!(
            there(&db, T0 - seconds(SKEW) - 1),
            [0; 0],
            "it was set back"
        );
        add(&db, T0, 2, "ann", None);
        assert_eq!(there(&db, T0 + 500), [1, 2]);
        assert_eq!(there(&db, T0 + 100), [0; 0], "nor one that was seen then");
    }

    #[test]
    fn being_seen_is_written_once_a_minute() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        let writes = db.total_changes();
        for at in 0..180 {
            assert!(see(&db, T0 + at, 1));
        }
        assert_eq!(db.total_changes() - writes, 2);
    }

    #[test]
    fn too_many_end_those_that_were_idle_longest() {
        let db = db();
        for id in 1..=4 {
            add(&db, T0 + i64::from(id), id, "ann", None);
        }
        assert_eq!(there(&db, T0 + 5), [2, 3, 4], "three of an account");
        for id in 5..=7 {
            add(&db, T0 + i64::from(id), id, "bob", None);
        }
        assert_eq!(there(&db, T0 + 8), [3, 4, 5, 6, 7], "five in all");
    }

    #[test]
    fn a_login_ends_the_session_that_it_replaces_and_sweeps() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        add(&db, T0, 2, "bob", None);
        add(&db, T0 + 1, 3, "ann", Some(1));
        assert_eq!(there(&db, T0 + 1), [2, 3]);
        add(&db, T0 + 10_000, 4, "ann", None);
        let rows = db.query_row("SELECT count(*) FROM web_sessions", [], |r| r.get(0));
        assert_eq!(rows, Ok(1));
    }

    #[test]
    fn only_ones_own_sessions_are_ended() {
        let db = db();
        add(&db, T0, 1, "ann", None);
        add(&db, T0, 2, "ann", None);
        add(&db, T0, 3, "bob", None);
        assert!(!end(&db, "ann", &[3; 32]).unwrap(), "Bob's");
        assert!(end(&db, "ann", &[1; 32]).unwrap());
        assert_eq!(there(&db, T0), [2, 3]);
    }
}
