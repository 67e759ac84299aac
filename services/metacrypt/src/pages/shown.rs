//! What pages are put together of: tables, facts, tabs; and times, names and lists as people read and write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use askama::Template;
use data_encoding::BASE64;
use mcdsl::human;
use prost_types::Timestamp;
use url::form_urlencoded::{Serializer, byte_serialize};

/// What is nothing.
const NONE: &str = "–";

/// A piece of a cell.
pub(super) enum Part {
    Text(String),
    Muted(String),
    Code(String),
    Link {
        text: String,
        to: String,
    },
    /// A link that looks like a button; `label` says the whole of what it does.
    Button {
        text: &'static str,
        to: String,
        label: String,
    },
    /// A file, which a browser saves.
    File {
        text: &'static str,
        to: String,
    },
    /// Its look (`success`, `warning`, `error`, `notice` or nothing) and what it says.
    Badge(&'static str, String),
    /// The next line.
    Break,
}

/// A cell of a table, or a fact.
#[derive(Default, Template)]
#[template(path = "cell.html")]
pub(super) struct Cell {
    parts: Vec<Part>,
    /// In one line, where there is room.
    whole: bool,
}

impl Cell {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Text; nothing is shown as such.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        match text.is_empty() {
            true => Self::new().and(Part::Muted(NONE.to_owned())),
            false => Self::new().and(Part::Text(text)),
        }
    }

    pub(super) fn code(text: impl Into<String>) -> Self {
        let text = text.into();
        match text.is_empty() {
            true => Self::text(text),
            false => Self::new().and(Part::Code(text)),
        }
    }

    pub(super) fn link(text: impl Into<String>, to: String) -> Self {
        Self::new().and(Part::Link {
            text: text.into(),
            to,
        })
    }

    /// Each in a line of its own.
    pub(super) fn lines<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        let each = texts.into_iter().map(|text| Part::Text(text.into()));
        let mut parts: Vec<Part> = each.flat_map(|part| [part, Part::Break]).collect();
        if parts.pop().is_none() {
            return Self::text("");
        }
        Self {
            parts,
            whole: false,
        }
    }

    pub(super) fn and(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    pub(super) fn and_if(self, is: bool, part: Part) -> Self {
        match is {
            true => self.and(part),
            false => self,
        }
    }

    /// Behind what is there, in the next line.
    pub(super) fn below(self, part: Part) -> Self {
        self.and(Part::Break).and(part)
    }

    pub(super) fn badge(self, look: &'static str, text: impl Into<String>) -> Self {
        self.and(Part::Badge(look, text.into()))
    }

    pub(super) fn whole(mut self) -> Self {
        self.whole = true;
        self
    }
}

/// A table whose rows are cards where there is little room. Of each row the first cell is its head; a column without a name has buttons.
#[derive(Template)]
#[template(path = "table.html")]
pub(super) struct Table {
    pub(super) label: String,
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What is said where there are no rows.
    pub(super) empty: String,
}

/// What is known of one thing.
#[derive(Template)]
#[template(path = "facts.html")]
pub(super) struct Facts(pub(super) Vec<(&'static str, Cell)>);

/// The parts of something, one of which is open.
#[derive(Clone, Template)]
#[template(path = "tabs.html")]
pub(super) struct Tabs {
    pub(super) label: String,
    pub(super) links: Vec<(String, &'static str)>,
    pub(super) here: String,
}

/// A page of text and a table below tabs.
#[derive(Template)]
#[template(path = "listed.html")]
pub(super) struct Listed {
    pub(super) tabs: Tabs,
    pub(super) text: &'static str,
    pub(super) table: Table,
    pub(super) next: Option<String>,
}

/// A file that is shown, and that a browser may save: it is in its link.
pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn url(&self) -> String {
        let base64 = BASE64.encode(self.text.as_bytes());
        format!("data:application/octet-stream;base64,{base64}")
    }
}

/// `path` with a query.
pub(super) fn link(path: &str, query: &[(&str, &str)]) -> String {
    let mut pairs = Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    match &*pairs.finish() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A path of these segments, each as the name that it is.
pub(super) fn path(segments: &[&str]) -> String {
    let each = segments.iter().map(|segment| -> String {
        let encoded: String = byte_serialize(segment.as_bytes()).collect();
        format!("/{}", encoded.replace('+', "%20"))
    });
    each.collect()
}

/// One entry a line or between blanks, as people write lists of names.
pub(super) fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn time(at: Option<&Timestamp>) -> Option<SystemTime> {
    at.and_then(|at| SystemTime::try_from(*at).ok())
}

/// For people, to the second.
pub(super) fn moment(at: SystemTime) -> String {
    let ms = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    human::utc(ms)
        .replacen('T', " ", 1)
        .replacen('Z', " UTC", 1)
}

/// The same of a message; nothing is shown as such.
pub(super) fn when(at: Option<&Timestamp>) -> Cell {
    match time(at) {
        Some(at) => Cell::text(moment(at)).whole(),
        None => Cell::text(""),
    }
}

/// How far a time is from now: `in 12d`, `3h ago`.
pub(super) fn apart(at: SystemTime, now: SystemTime) -> String {
    let minutes = |length: Duration| match length.as_secs() / 60 {
        0 => length,
        minutes => Duration::from_secs(minutes * 60),
    };
    match at.duration_since(now) {
        Ok(left) => format!("in {}", human::duration_short(minutes(left))),
        Err(past) => format!("{} ago", human::duration_short(minutes(past.duration()))),
    }
}

/// Seconds as `30d`; none as nothing.
pub(super) fn length(seconds: u64) -> String {
    match seconds {
        0 => String::new(),
        seconds => human::duration(Duration::from_secs(seconds)),
    }
}

/// `30d` in seconds; nothing: 0, which is as the profile has it.
///
/// # Errors
/// What a person reads who wrote something else.
pub(super) fn seconds(field: &str, text: &str) -> Result<u64, tonic::Status> {
    match text.trim() {
        "" => Ok(0),
        text => human::parse_duration(text)
            .map(|length| length.as_secs())
            .map_err(|_| {
                let text = format!("{field}: write how long, like 8h or 90d");
                tonic::Status::invalid_argument(text)
            }),
    }
}

/// A value of an enumeration, as people read it: `CERTIFICATE_KEY_ECDSA_P256` is `ecdsa-p256`.
pub(super) fn said(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_what_is_said() {
        assert_eq!(link("/a", &[("b", ""), ("c", "")]), "/a");
        assert_eq!(link("/a", &[("b", "&="), ("c", "")]), "/a?b=%26%3D");
        assert_eq!(path(&["pki", "a", "b+c@d e"]), "/pki/a/b%2Bc%40d%20e");
    }

    #[test]
    fn lists_times_and_lengths_are_as_people_write_them() {
        assert_eq!(names(" a\r\nb c\n\n"), ["a", "b", "c"]);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(moment(at(1_767_225_599)), "2025-12-31 23:59:59 UTC");
        for (passed, text) in [(86_400 + 30, "in 1d"), (30, "in 30s")] {
            assert_eq!(apart(at(1000 + passed), at(1000)), text);
        }
        assert_eq!(apart(at(1000), at(1000 + 7260)), "2h1m ago");
        for (text, wanted) in [("", Some(0)), (" 90d ", Some(7_776_000)), ("90", None)] {
            assert_eq!(seconds("ttl_s", text).ok(), wanted, "{text:?}");
        }
        assert_eq!((length(0), length(3600)), ("".into(), "1h".into()));
    }
}
