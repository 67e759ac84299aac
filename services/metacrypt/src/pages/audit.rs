//! The audit log.

use askama::Template;
use axum::routing::get;
use mc_proto::metacrypt::v1::{AuditEntry, ListAuditRequest};
use mcdsl::{
    audit::{WORDS, Word, in_a_word},
    shown::escaped,
    web::Query,
};
use prost_types::Timestamp;
use serde::Deserialize;
use tonic::{Code, Status};

use super::{
    Answer, Table as Routes, Visitor, refusal,
    shown::{Cell, Part, Table, link, when},
};
use crate::barrier::few;

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
    fn request(&self) -> Result<ListAuditRequest, Status> {
        Ok(ListAuditRequest {
            account: self.account.trim().to_owned(),
            action: self.action.trim().to_owned(),
            outcome: self.outcome.clone(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            before: self.before.parse().unwrap_or(0),
            // One more tells whether there are more.
            limit: ROWS as u32 + 1,
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
fn time(field: &str, text: &str) -> Result<Option<Timestamp>, Status> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = match text.len() {
        16 => ":00Z",
        _ => "Z",
    };
    let time = format!("{text}{seconds}").parse();
    time.map(Some).map_err(|_| {
        let text = format!("{field}: write a time in UTC, like 2026-01-31T12:00");
        Status::invalid_argument(text)
    })
}

/// What was found, and one more if there are more.
async fn found(visitor: &Visitor, search: &Search) -> Result<Vec<AuditEntry>, Status> {
    let mut log = visitor
        .audit()
        .map_err(|_| Status::unauthenticated("log in again"))?;
    let listed = log.list_audit(search.request()?).await?;
    Ok(listed.into_inner().entries)
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

fn row(record: &AuditEntry) -> Vec<Cell> {
    let at = when(record.time.as_ref());
    let at = at.below(Part::Muted(format!("number {}", record.number)));
    let who = match &*record.account {
        "" => Cell::new().and(Part::Muted("nobody known".to_owned())),
        name => Cell::text(escaped(name)),
    };
    let who = match &*record.source {
        "" => who,
        source => who.below(Part::Muted(escaped(source))),
    };
    let action = record.action.strip_prefix(METHOD);
    let action = action.unwrap_or(&record.action);
    let mut what =
        Cell::code(escaped(action)).and(Part::Text(format!(" {}", escaped(&record.resource))));
    for (key, value) in detail(&few(&record.detail)) {
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
    let found = found(&visitor, &search).await;
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
        older: last.map(|record| search.link(&record.number.to_string())),
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
        let at = |text| {
            let time =
                time("since", text)?.and_then(|time| std::time::SystemTime::try_from(time).ok());
            Ok::<_, Status>(time.map(crate::pages::shown::moment))
        };
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
    fn a_detail_is_shown_as_it_is() {
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(detail(r#"{"rules":["a","b"]}"#), pair("rules", "a, b"));
        assert_eq!(detail("<b>"), pair("detail", "<b>"));
        let turned = detail("{\"a\":\"\u{202e}b\"}");
        assert_eq!(turned, pair("a", "\\u{202e}b"), "and all of it seen");
    }
}
