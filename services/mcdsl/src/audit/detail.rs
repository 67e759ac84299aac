//! What an entry says beyond who, what and how it ended.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Most keys of one entry.
pub const MAX_KEYS: usize = 16;
/// Longest text of one value, in bytes; what is longer is cut, and ends in "…".
pub const MAX_VALUE: usize = 512;
/// Longest text of what is not to be cut as others are, in bytes.
pub const MAX_LONG: usize = 16 << 10;
/// Most values of one list; one more says how many are left out.
pub const MAX_LIST: usize = 16;

/// A flat JSON object of bounded size, made by one call for each key. There is no way to put a request, a struct or a map in, so that
/// a secret gets into the log only if somebody writes a line that does nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail(Map<String, Value>);

impl Detail {
    /// Nothing to add.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, cut at [`MAX_VALUE`].
    #[must_use]
    pub fn text(self, key: &'static str, value: &str) -> Self {
        self.with(key, Value::from(cut(value, MAX_VALUE)))
    }

    /// Adds a text that is of no use cut short, cut at [`MAX_LONG`] all the same.
    #[must_use]
    pub fn long(self, key: &'static str, value: &str) -> Self {
        self.with(key, Value::from(cut(value, MAX_LONG)))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, key: &'static str, value: i64) -> Self {
        self.with(key, Value::from(value))
    }

    /// Adds yes or no.
    #[must_use]
    pub fn flag(self, key: &'static str, value: bool) -> Self {
        self.with(key, Value::from(value))
    }

    /// Adds texts, cut at [`MAX_LIST`] of [`MAX_VALUE`] each.
    #[must_use]
    pub fn list<'v>(self, key: &'static str, values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut values = values.into_iter();
        let first = values.by_ref().take(MAX_LIST);
        let mut list: Vec<_> = first.map(|v| Value::from(cut(v, MAX_VALUE))).collect();
        let more = values.count();
        if more > 0 {
            list.push(Value::from(format!("… and {more} more")));
        }
        self.with(key, Value::from(list))
    }

    fn with(mut self, key: &'static str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    /// How many keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// As the log keeps it.
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

/// At most `max` bytes, at a character's end, and a mark if something is left out.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    const MARK: char = '…';
    if text.len() <= max {
        return text.into();
    }
    let kept = text.floor_char_boundary(max - MARK.len_utf8());
    format!("{}{MARK}", &text[..kept]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_bounded() {
        let many: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let detail = Detail::new()
            .text("agent", "curl\n\"8\"")
            .number("days", 365)
            .flag("renewed", true)
            .list("roles", ["admin", "user"])
            .list("many", many.iter().map(String::as_str))
            .text("long", &"ü".repeat(MAX_VALUE));
        let json: Value = serde_json::from_str(&detail.to_json()).unwrap();
        assert_eq!(json["agent"], "curl\n\"8\"");
        assert_eq!(json["days"], 365);
        assert_eq!(json["renewed"], true);
        assert_eq!(json["roles"], serde_json::json!(["admin", "user"]));
        assert_eq!(json["many"].as_array().unwrap().len(), MAX_LIST + 1);
        assert_eq!(json["many"][MAX_LIST], "… and 4 more");
        let long = json["long"].as_str().unwrap();
        assert!(long.len() <= MAX_VALUE && long.ends_with("ü…"), "{long}");
        assert_eq!(detail.len(), 6);
        assert_eq!(Detail::new().to_json(), "{}");
        assert_eq!(cut("abc", 3), "abc");
    }
}
