//! The audit log, for administrators. It has no method of the API: the page asks and is written down as one.

use std::{cmp::Reverse, time::SystemTime};

use askama::Template;
use axum::routing::get;
use mc_proto::METHODS;
use mcdsl::{
    audit::{self, Filter, Record, WORDS, Word, in_a_word, meant},
    db::StoreError,
    server::Caller,
    web::{ErrorPage, Query},
};
use rusqlite::Connection;
use serde::Deserialize;
use tonic::{Code, Status};

use super::{
    Answer, Table as Routes, Visitor, refusal,
    shown::{Cell, Part, Table, escaped, link, moment},
};

pub(super) const LOG: &str = "/audit";
/// Rows of a page.
const ROWS: usize = 50;
/// What all methods' paths begin with.
const METHOD: &str = "/metacircular.metacrypt.v1.";

pub(super) fn table() -> Routes {
    vec![(LOG, get(log))]
}

/// What of the log is looked for, as it was typed.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Search {
    account: String,
    action: String,
    outcome: String,
    since: String,
    until: String,
    before: String,
}

impl Search {
    fn filter(&self) -> Result<Filter, Status> {
        Ok(Filter {
            actions: actions(self.action.trim()),
            // The page offers none that means nothing.
            outcomes: meant(&self.outcome).unwrap_or_default(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            before_seq: self.before.parse().ok(),
            // One more tells whether there are more.
            limit: Some(ROWS + 1),
            ..Filter::default()
        })
    }

    fn link(&self, before: &str) -> String {
        let query = [
            ("account", &*self.account),
            ("action", &self.action),
            ("outcome", &self.outcome),
            ("since", &self.since),
            ("until", &self.until),
            ("before", before),
        ];
        link(LOG, &query)
    }
}

/// What browsers send of `datetime-local`, which is meant in UTC as all times of the log are.
fn time(field: &str, text: &str) -> Result<Option<SystemTime>, Status> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        Status::invalid_argument(format!(
            "{field}: write a time in UTC, like 2026-01-31T12:00"
        ))
    };
    let seconds = match text.len() {
        16 => ":00Z",
        _ => "Z",
    };
    let time: prost_types::Timestamp = format!("{text}{seconds}").parse().map_err(|_| wrong())?;
    SystemTime::try_from(time).map(Some).map_err(|_| wrong())
}

/// What actions begin with that somebody means by `Issue`, `Pki`, `Pki/Issue`, or another action's beginning.
fn actions(meant: &str) -> Vec<String> {
    match meant {
        "" => Vec::new(),
        path if path.starts_with('/') => vec![path.to_owned()],
        meant => {
            let small = meant.to_ascii_lowercase();
            let ours = METHODS.iter().filter_map(|method| {
                let (_, name) = method.path.strip_prefix(METHOD)?.split_once('/')?;
                let named = name.to_ascii_lowercase().starts_with(&small);
                named.then(|| method.path.to_owned())
            });
            let begins = [meant.to_owned(), format!("{METHOD}{meant}")];
            begins.into_iter().chain(ours).collect()
        }
    }
}

/// Rows of the log, the newest first. An account is found by its id or its name, also of others that had it before.
fn read(db: &Connection, all: Filter, account: String) -> rusqlite::Result<Vec<Record>> {
    if account.is_empty() {
        return audit::query(db, &all);
    }
    let whose = Some(account);
    let by_id = Filter {
        account: whose.clone(),
        ..all.clone()
    };
    let by_name = Filter { name: whose, ..all };
    let mut records = audit::query(db, &by_id)?;
    records.extend(audit::query(db, &by_name)?);
    records.sort_by_key(|record| Reverse(record.seq));
    records.dedup_by_key(|record| record.seq);
    records.truncate(ROWS + 1);
    Ok(records)
}

/// What was found: nothing of it, for who is no administrator.
async fn found(visitor: &Visitor, search: &Search) -> Result<Vec<Record>, Status> {
    if !visitor.who.is_admin() {
        return Err(Status::permission_denied("the role `admin` is needed"));
    }
    let (filter, account) = (search.filter()?, search.account.trim().to_owned());
    let read = move |db: &Connection| -> Result<_, StoreError> { Ok(read(db, filter, account)?) };
    Ok(visitor.ui.metacrypt.seal.store().read(read).await?)
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Log {
    here: &'static str,
    search: Search,
    outcomes: [Word; WORDS.len()],
    table: Table,
    newest: Option<String>,
    older: Option<String>,
}

fn row(record: &Record) -> Vec<Cell> {
    let at = Cell::text(moment(record.at())).whole();
    let at = at.below(Part::Muted(format!("number {}", record.seq)));
    let who = match &record.name {
        Some(name) => Cell::text(escaped(name)),
        None => Cell::new().and(Part::Muted("nobody known".to_owned())),
    };
    let who = match &record.source {
        Some(source) => who.below(Part::Muted(escaped(source))),
        None => who,
    };
    let action = record.action.strip_prefix(METHOD);
    let action = action.unwrap_or(&record.action);
    let mut what =
        Cell::code(escaped(action)).and(Part::Text(format!(" {}", escaped(&record.resource))));
    for (key, value) in detail(&record.detail) {
        what = what.below(Part::Muted(format!("{key}: {value}")));
    }
    let look = match &*record.outcome {
        "OK" => "success",
        _ => "warning",
    };
    let outcome = Cell::new().badge(look, in_a_word(&record.outcome));
    let outcome = match &*record.outcome {
        "OK" => outcome,
        code => outcome.below(Part::Muted(
            escaped(code).to_ascii_lowercase().replace('_', " "),
        )),
    };
    vec![at, who, what, outcome]
}

/// Keys and values. What was changed by somebody is shown as it is.
fn detail(text: &str) -> Vec<(String, String)> {
    use serde_json::Value;
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return vec![("detail".to_owned(), escaped(text))];
    };
    let shown = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(list) => {
            let each = list.iter();
            let each = each.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            each.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    let pairs = object.into_iter();
    let pairs = pairs.map(|(key, value)| (escaped(&key), escaped(&shown(value))));
    pairs.collect()
}

async fn log(visitor: Visitor, Query(search): Query<Search>) -> Answer {
    let source = visitor.page.source().ok_or_else(ErrorPage::internal)?;
    let caller = Caller::elsewhere(Some(visitor.who.clone()), source, LOG);
    let found = found(&visitor, &search).await;
    let found = visitor.ui.metacrypt.audit.outcome(&caller, found).await;
    let (mut records, refused) = match found {
        Ok(records) => (records, None),
        Err(refused) if refused.code() == Code::InvalidArgument => (Vec::new(), Some(refused)),
        Err(refused) => return Err(refused.into()),
    };
    let more = records.len() > ROWS;
    records.truncate(ROWS);
    let last = records.last().filter(|_| more);
    let log = Log {
        here: LOG,
        older: last.map(|record| search.link(&record.seq.to_string())),
        newest: Some(search.link("")).filter(|_| !search.before.is_empty()),
        outcomes: WORDS,
        table: Table {
            label: "Audit log".to_owned(),
            heads: vec!["When", "Who", "What", "Outcome"],
            rows: records.iter().map(row).collect(),
            empty: "Nothing is like that.".to_owned(),
        },
        search,
    };
    match refused {
        None => visitor.page.render("Audit log", &log),
        Some(refused) => refusal::again(visitor.page, refused, "Audit log", &log),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_write_times_without_a_zone() {
        let at = |text| time("since", text).map(|time| time.map(moment));
        for (description, text, wanted) in [
            ("nothing", " ", None),
            (
                "to the minute",
                "2026-01-31T12:34",
                Some("2026-01-31 12:34:00 UTC"),
            ),
            (
                "to the second",
                "2026-01-31T12:34:56",
                Some("2026-01-31 12:34:56 UTC"),
            ),
        ] {
            assert_eq!(at(text).unwrap().as_deref(), wanted, "{description}");
        }
        for text in [
            "yesterday",
            "2026-13-01T00:00",
            "2026-01-31",
            "2026-01-31T12:34Z",
        ] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn actions_are_found_as_people_name_them() {
        for (text, has) in [
            ("issue", "/metacircular.metacrypt.v1.Pki/Issue"),
            ("Pki", "/metacircular.metacrypt.v1.Pki"),
            ("Pki/Issue", "/metacircular.metacrypt.v1.Pki/Issue"),
            ("/audit", "/audit"),
            ("pki.tidy", "pki.tidy"),
        ] {
            assert!(actions(text).iter().any(|action| action == has), "{text}");
        }
        assert!(actions("").is_empty());
    }

    #[test]
    fn a_detail_is_shown_as_it_is() {
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(detail(r#"{"rules":["a","b"]}"#), pair("rules", "a, b"));
        assert_eq!(detail("<b>"), pair("detail", "<b>"));
        let turned = detail("{\"a\":\"\u{202e}b\"}");
        assert_eq!(turned, pair("a", "\\u{202e}b"), "and all of it seen");
    }
}
