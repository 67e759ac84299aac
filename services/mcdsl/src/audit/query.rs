//! Reading the log, a page at a time.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{
    Connection, Row, params_from_iter,
    types::{Value, ValueRef},
};
use serde::{Serialize, Serializer};
use tonic::Code;

use super::micros;
use crate::server::code_name;

/// Most rows of a page, whatever was asked for.
pub const MAX_PAGE: usize = 1000;
/// Most actions that are looked for at once: methods and events, of which no service has so many.
const MAX_ACTIONS: usize = 512;

/// Which rows; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of the account of this id.
    pub account: Option<String>,
    /// Of accounts that had this name at that time, also of those that are gone. The table has [`super::BY_NAME`].
    pub name: Option<String>,
    /// On this resource, by nobody who is known: a login that failed is on the account that it named.
    pub anonymous_on: Option<String>,
    /// Of actions that begin with one of these: a method, a service (`/mcias.v1.Accounts/`), a kind of events (`login.`). None: of all.
    pub actions: Vec<String>,
    /// Ended in one of these ways, each said once. None: in whichever.
    pub outcomes: Vec<Code>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
    /// Written before this one: the last row of the page before.
    pub before_seq: Option<u64>,
    /// At most so many, and [`MAX_PAGE`]; `None`: that many.
    pub limit: Option<usize>,
}

/// A row as it is stored. Nothing of it is parsed: what somebody changed must still be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, from 1.
    pub seq: u64,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// The account's id; `None`: nobody who is known.
    pub account: Option<String>,
    /// The account's name at that time.
    pub name: Option<String>,
    /// `human` or `system`.
    pub account_type: Option<String>,
    /// From where.
    pub source: Option<String>,
    /// What was done.
    pub action: String,
    /// On what.
    pub resource: String,
    /// How it ended: a gRPC code as protobuf writes it (`OK`, `PERMISSION_DENIED`).
    pub outcome: String,
    /// What else: a JSON object.
    #[serde(serialize_with = "as_json")]
    pub detail: String,
    /// Of this row and all before it: SHA-256, hexadecimal.
    pub hash: String,
}

impl Record {
    /// When.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        let offset = Duration::from_micros(self.at_us.unsigned_abs());
        let at = match self.at_us {
            0.. => UNIX_EPOCH.checked_add(offset),
            _ => UNIX_EPOCH.checked_sub(offset),
        };
        at.unwrap_or(UNIX_EPOCH)
    }
}

/// An object within the record, unless somebody made something else of it.
fn as_json<S: Serializer>(detail: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<serde_json::Value>(detail) {
        Ok(value) => value.serialize(serializer),
        Err(_) => detail.serialize(serializer),
    }
}

/// The newest rows first.
///
/// The actions that begin so are looked up, and each is read by its own index and for no more than a page, and so is each outcome: SQLite would
/// sort all rows of a range to find the newest of them.
///
/// # Errors
/// SQLite's.
pub fn query(db: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Record>> {
    let actions = match filter.actions.is_empty() {
        true => vec![None],
        false => beginning(db, &filter.actions)?,
    };
    let outcomes = match filter.outcomes.is_empty() {
        true => vec![None],
        false => filter.outcomes.iter().copied().map(Some).collect(),
    };
    let mut all = Vec::new();
    for action in &actions {
        for outcome in &outcomes {
            all.extend(page(db, filter, action.as_deref(), *outcome)?);
            all.sort_by_key(|record| Reverse(record.seq));
            all.truncate(limit(filter));
        }
    }
    Ok(all)
}

/// The actions that begin with one of these.
fn beginning(db: &Connection, prefixes: &[String]) -> rusqlite::Result<Vec<Option<String>>> {
    let mut found = BTreeSet::new();
    for prefix in prefixes {
        let room = MAX_ACTIONS.saturating_sub(found.len());
        found.extend(actions(db, prefix, room)?);
    }
    Ok(found.into_iter().map(Some).collect())
}

fn limit(filter: &Filter) -> usize {
    filter.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE)
}

/// Actions that begin so, `most` of them: one look into the index for each.
fn actions(db: &Connection, prefix: &str, most: usize) -> rusqlite::Result<Vec<String>> {
    // A range and not LIKE or GLOB, which would read a grammar into it. Actions are visible ASCII, all before DEL.
    let end = format!("{prefix}\u{7f}");
    let first = "SELECT min(action) FROM audit WHERE action >= ?1 AND action < ?2";
    let next = "SELECT min(action) FROM audit WHERE action > ?1 AND action < ?2";
    let mut found: Vec<String> = Vec::new();
    while found.len() < most {
        let (sql, after) = found.last().map_or((first, prefix), |last| (next, last));
        let action = db
            .prepare_cached(sql)?
            .query_row([after, &end], |row| row.get(0))?;
        let Some(action) = action else { break };
        found.push(action);
    }
    Ok(found)
}

fn page(
    db: &Connection,
    filter: &Filter,
    action: Option<&str>,
    outcome: Option<Code>,
) -> rusqlite::Result<Vec<Record>> {
    let (sql, values) = statement(filter, action, outcome);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), record)?;
    rows.collect()
}

fn statement(filter: &Filter, action: Option<&str>, outcome: Option<Code>) -> (String, Vec<Value>) {
    let mut sql =
        "SELECT seq, at_us, account, name, account_type, source, action, resource, outcome, detail, hex(hash)
         FROM audit WHERE true"
            .to_owned();
    let mut values = Vec::new();
    let mut and = |condition: &str, value: Value| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(account) = &filter.account {
        and("account = ?", Value::from(account.clone()));
    }
    if let Some(name) = &filter.name {
        and("name = ?", Value::from(name.clone()));
    }
    if let Some(resource) = &filter.anonymous_on {
        and(
            "account IS NULL AND resource = ?",
            Value::from(resource.clone()),
        );
    }
    if let Some(action) = action {
        and("action = ?", Value::from(action.to_owned()));
    }
    if let Some(outcome) = outcome {
        and("outcome = ?", Value::from(code_name(outcome).to_owned()));
    }
    if let Some(since) = filter.since {
        and("at_us >= ?", Value::from(micros(since)));
    }
    if let Some(until) = filter.until {
        and("at_us < ?", Value::from(micros(until)));
    }
    if let Some(before) = filter.before_seq {
        and(
            "seq < ?",
            Value::from(i64::try_from(before).unwrap_or(i64::MAX)),
        );
    }
    sql.push_str(" ORDER BY seq DESC LIMIT ?");
    values.push(Value::from(limit(filter) as i64));
    (sql, values)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let some = |i| Ok::<_, rusqlite::Error>(text(row.get_ref(i)?));
    let there = |i| Ok::<_, rusqlite::Error>(some(i)?.unwrap_or_default());
    Ok(Record {
        seq: row.get::<_, i64>(0)?.try_into().unwrap_or(0),
        at_us: row.get(1)?,
        account: some(2)?,
        name: some(3)?,
        account_type: some(4)?,
        source: some(5)?,
        action: there(6)?,
        resource: there(7)?,
        outcome: there(8)?,
        detail: there(9)?,
        hash: there(10)?.to_ascii_lowercase(),
    })
}

fn text(value: ValueRef<'_>) -> Option<String> {
    let bytes = value.as_bytes().ok()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::SCHEMA, *};

    #[test]
    fn no_page_is_sorted() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db.execute_batch(super::super::BY_NAME).unwrap();
        let page = || Filter {
            before_seq: Some(7),
            limit: Some(100),
            ..Filter::default()
        };
        for (description, filter, action, outcome) in [
            ("all", page(), None, None),
            ("an action", page(), Some("login"), None),
            ("an outcome", page(), None, Some(Code::Ok)),
            (
                "an account",
                Filter {
                    account: Some("0001".to_owned()),
                    ..page()
                },
                None,
                None,
            ),
            (
                "a name",
                Filter {
                    name: Some("ada".to_owned()),
                    ..page()
                },
                None,
                None,
            ),
        ] {
            let (sql, values) = statement(&filter, action, outcome);
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows = explained
                .query_map(params_from_iter(values), |row| row.get(3))
                .unwrap();
            let plan: Vec<String> = rows.collect::<Result<_, _>>().unwrap();
            assert!(
                plan.len() == 1 && plan[0].starts_with("SEARCH"),
                "{description}: {plan:?}"
            );
        }
    }
}
