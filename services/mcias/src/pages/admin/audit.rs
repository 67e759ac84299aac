//! The audit log.

use std::{sync::Arc, time::SystemTime};

use askama::Template;
use axum::extract::State;
use mcdsl::{
    audit::{Record, WORDS, Wanted, Word, in_a_word, meant},
    shown::escaped,
    web::{CsrfField, Flash, Form, Page, Query},
};
use serde::Deserialize;

use super::{Answer, ROWS, link, moment};
use crate::{
    core::Mcias,
    error::Error,
    log::short,
    pages::{Refusal, failed},
    random::hex,
};

/// Where it is.
pub(super) const LOG: &str = "/admin/audit";
/// Where it is verified: it reads all of the log, so that no link may ask for it.
pub(super) const VERIFY: &str = "/admin/audit/verify";

/// What of the log is looked for, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    account: String,
    action: String,
    outcome: String,
    since: String,
    until: String,
    before: String,
}

impl Search {
    fn wanted(&self) -> Result<Wanted, Error> {
        Ok(Wanted {
            account: self.account.trim().to_owned(),
            action: self.action.trim().to_owned(),
            // The page offers none that means nothing.
            outcomes: meant(&self.outcome).unwrap_or_default(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            before: self.before.parse().unwrap_or(0),
            // One more tells whether there are more.
            limit: ROWS + 1,
        })
    }

    fn link(&self, before: &str) -> String {
        let query = [
            ("account", self.account.as_str()),
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
fn time(field: &str, text: &str) -> Result<Option<SystemTime>, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        Error::invalid(format!(
            "{field:?} is no time: write it in UTC, like 2026-01-31T12:00"
        ))
    };
    let seconds = match text.len() {
        16 => ":00Z",
        _ => "Z",
    };
    let time: prost_types::Timestamp = format!("{text}{seconds}").parse().map_err(|_| wrong())?;
    SystemTime::try_from(time).map(Some).map_err(|_| wrong())
}

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct Log {
    csrf: CsrfField,
    here: &'static str,
    search: Search,
    outcomes: [Word; WORDS.len()],
    rows: Vec<Row>,
    newest: Option<String>,
    older: Option<String>,
}

struct Row {
    record: Record,
    time: String,
    /// Of the method or the page, without what all have in common.
    action: String,
    resource: String,
    /// In the word that it is found by.
    outcome: &'static str,
    /// As the log has it, where that says more.
    code: Option<String>,
    ok: bool,
    /// Keys and values.
    detail: Vec<(String, String)>,
}

impl Row {
    fn new(record: Record) -> Self {
        Self {
            time: moment(record.at()),
            action: short(&record.action).to_owned(),
            resource: escaped(&record.resource),
            outcome: in_a_word(&record.outcome),
            code: (record.outcome != "OK").then(|| in_words(&record.outcome)),
            ok: record.outcome == "OK",
            detail: detail(&record.detail),
            record,
        }
    }
}

/// An outcome, `PERMISSION_DENIED`, as people read it.
fn in_words(outcome: &str) -> String {
    outcome.to_ascii_lowercase().replace('_', " ")
}

/// What was changed by somebody is shown as it is.
fn detail(text: &str) -> Vec<(String, String)> {
    use serde_json::Value;
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return vec![("detail".to_owned(), escaped(text))];
    };
    let shown = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(list) => {
            let list = list
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            list.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    object
        .into_iter()
        .map(|(key, value)| (key, escaped(&shown(value))))
        .collect()
}

pub(super) async fn log(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Query(search): Query<Search>,
) -> Answer {
    let (wanted, refusal) = match search.wanted() {
        Ok(wanted) => (Some(wanted), None),
        Err(error) => (None, Some(Refusal::from(error))),
    };
    let mut records = match wanted {
        Some(wanted) => mcias.audit(wanted).await.map_err(failed)?,
        None => Vec::new(),
    };
    let more = records.len() > ROWS;
    records.truncate(ROWS);
    let last = records.last().filter(|_| more);
    let log = Log {
        csrf: page.csrf(),
        here: LOG,
        older: last.map(|record| search.link(&record.seq.to_string())),
        newest: Some(search.link("")).filter(|_| !search.before.is_empty()),
        outcomes: WORDS,
        rows: records.into_iter().map(Row::new).collect(),
        search,
    };
    let Some(refusal) = refusal else {
        return page.render("Audit log", &log);
    };
    let page = page.with(Flash::error(refusal.text.clone()));
    Ok(refusal.with(page.render("Audit log", &log)?))
}

/// A row that was noted elsewhere, as it was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    number: String,
    hash: String,
}

#[derive(Template)]
#[template(path = "admin/verified.html")]
struct Verified<'v> {
    csrf: CsrfField,
    here: &'static str,
    known: &'v Known,
    found: Option<Found>,
}

struct Found {
    problem: Option<String>,
    number: u64,
    hash: String,
}

pub(super) async fn verify(
    State(mcias): State<Arc<Mcias>>,
    page: Page,
    Form(known): Form<Known>,
) -> Answer {
    let number = known.number.trim();
    let number = match number {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| Error::invalid("number: it is no whole number")),
    };
    let checked = match number {
        Ok(number) => mcias.verify_audit(number, known.hash.trim()).await,
        Err(error) => Err(error),
    };
    let content = |found| Verified {
        csrf: page.csrf(),
        here: LOG,
        known: &known,
        found,
    };
    let title = "The audit log verified";
    match checked {
        Ok(checked) => {
            let found = Found {
                problem: checked.problem,
                number: checked.head.map_or(0, |head| head.seq),
                hash: checked.head.map_or(String::new(), |head| hex(&head.hash)),
            };
            page.render(title, &content(Some(found)))
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            let content = content(None);
            super::again(page.clone(), &refusal, "The audit log", &content)
        }
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
    fn what_was_made_of_a_detail_is_shown() {
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(detail(r#"{"roles":["a","b"]}"#), pair("roles", "a, b"));
        assert_eq!(detail("<b>"), pair("detail", "<b>"));
        let turned = detail("{\"device\":\"\u{202e}a\"}");
        assert_eq!(turned, pair("device", "\\u{202e}a"), "and all of it seen");
    }

    #[test]
    fn what_somebody_named_is_seen_whole() {
        for (description, named, shown) in [
            ("a name", "ada", "ada"),
            ("one that is turned", "a\u{202e}da", "a\\u{202e}da"),
            ("one that looks so", "a\\u{202e}da", "a\\\\u{202e}da"),
        ] {
            let row = Row::new(Record {
                seq: 1,
                at_us: 0,
                account: None,
                name: None,
                account_type: None,
                source: None,
                action: "/login".to_owned(),
                resource: named.to_owned(),
                outcome: "OK".to_owned(),
                detail: "{}".to_owned(),
                hash: String::new(),
            });
            assert_eq!(row.resource, shown, "{description}");
        }
    }
}
