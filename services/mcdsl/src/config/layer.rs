//! The deserializer behind [`super::load`]: a tree of file values with the environment laid over it.

mod read;

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer as _,
    de::{self, DeserializeOwned, Visitor},
};
use toml::{Table, Value};

use super::{
    ConfigError,
    names::{longest_match, nearest, variable_name},
};

/// An environment variable on its way to its key.
#[derive(Clone, Debug)]
pub(super) struct Override {
    /// The whole name.
    pub(super) name: String,
    /// What of the name is not resolved yet; empty = it is this value.
    pub(super) rest: String,
    /// The value.
    pub(super) text: String,
}

/// Deserializes and reports every unknown key and variable.
pub(super) fn deserialize<T: DeserializeOwned>(
    file: Option<&str>,
    table: Table,
    overrides: Vec<Override>,
) -> Result<T, ConfigError> {
    let report = Report {
        file: file.unwrap_or("the configuration"),
        unknown: RefCell::default(),
    };
    let root = Node {
        source: Source::File(Value::Table(table)),
        below: overrides,
        path: String::new(),
        report: &report,
    };
    let result = T::deserialize(root);
    let unknown = report.unknown.into_inner();
    // A misspelt key often is also a missing one; the misspelling is what to say.
    if !unknown.is_empty() {
        return Err(ConfigError::Unknown(unknown));
    }
    result.map_err(|e| {
        let origin = e.origin.unwrap_or_else(|| report.file.to_owned());
        // All that a configuration is made of is sections.
        let section = e.message.strip_prefix("missing field `");
        let message = match section.filter(|_| origin == report.file) {
            Some(name) => format!("missing section [{}]", name.trim_end_matches('`')),
            None => in_words(e.message),
        };
        ConfigError::Value { origin, message }
    })
}

/// What serde says of numbers and addresses, for people who do not write Rust.
fn in_words(message: String) -> String {
    // Of std's SocketAddr, which does not say what one is.
    if message == "invalid socket address syntax" {
        return format!("{message}; write an IP address and a port, like 127.0.0.1:8443");
    }
    let types = [
        ("u8", u64::from(u8::MAX)),
        ("u16", u64::from(u16::MAX)),
        ("u32", u64::from(u32::MAX)),
        ("u64", u64::MAX),
        ("usize", u64::MAX),
    ];
    let split = message.rsplit_once(", expected ");
    let found = split.and_then(|(what, wanted)| {
        let (_, most) = types.into_iter().find(|(name, _)| *name == wanted)?;
        let most = match most {
            u64::MAX => String::new(),
            most => format!(" to {most}"),
        };
        Some(format!("{what}, expected a whole number from 0{most}"))
    });
    found.unwrap_or(message)
}

struct Report<'a> {
    file: &'a str,
    unknown: RefCell<Vec<String>>,
}

impl Report<'_> {
    fn add(&self, what: String, known: &[String], near: Option<&str>) {
        let advice = match near {
            Some(near) => format!("; did you mean {near}?"),
            None if known.is_empty() => String::new(),
            None => format!("; known here: {}", known.join(", ")),
        };
        self.unknown.borrow_mut().push(format!("{what}{advice}"));
    }
}

enum Source {
    /// Only overrides of its parts.
    Absent,
    File(Value),
    Variable {
        name: String,
        text: String,
    },
}

struct Node<'a> {
    source: Source,
    /// Overrides of parts of this value.
    below: Vec<Override>,
    path: String,
    report: &'a Report<'a>,
}

/// An error that remembers where it came from.
#[derive(Debug)]
pub(super) struct Error {
    origin: Option<String>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Error {}
impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            origin: None,
            message: message.to_string().trim_end().to_owned(),
        }
    }
}

impl<'a> Node<'a> {
    fn child(&self, key: &str, value: Option<Value>, overrides: Vec<Override>) -> Node<'a> {
        let (mut this, below): (Vec<_>, Vec<_>) =
            overrides.into_iter().partition(|o| o.rest.is_empty());
        let source = match (this.pop(), value) {
            (Some(o), _) => Source::Variable {
                name: o.name,
                text: o.text,
            },
            (None, Some(value)) => Source::File(value),
            (None, None) => Source::Absent,
        };
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Node {
            source,
            below,
            path,
            report: self.report,
        }
    }

    fn origin(&self) -> String {
        match &self.source {
            Source::Variable { name, .. } => format!("environment variable {name}"),
            _ if self.path.is_empty() => self.report.file.to_owned(),
            _ => format!("{}: {}", self.report.file, self.path),
        }
    }

    /// The value as TOML; `kind` says what a variable must be.
    fn into_value(self) -> Result<Value, Error> {
        match self.source {
            Source::Absent => Ok(Value::Table(Table::new())),
            Source::File(value) => Ok(value),
            Source::Variable { text, .. } => {
                parse_value(&text).map_err(|e| de::Error::custom(e.message()))
            }
        }
    }

    /// Overrides that go deeper than the type does.
    fn no_parts(&self) {
        for o in &self.below {
            let what = format!("unknown environment variable {}", o.name);
            self.report.add(what, &[], None);
        }
    }

    /// Splits a table and the overrides by the fields of a struct.
    fn fields(self, names: &'static [&'static str]) -> Result<Vec<(String, Node<'a>)>, Error> {
        let head = self.child("", None, Vec::new());
        let (path, report, below) = (self.path.clone(), self.report, self.below.clone());
        let head = Node { path, ..head };
        let mut table = match self.into_value()? {
            Value::Table(table) => table,
            other => {
                let kind = other.type_str();
                return Err(de::Error::custom(format!(
                    "expected a section, found: {kind}"
                )));
            }
        };
        let known: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        for key in table.keys().filter(|k| !names.contains(&k.as_str())) {
            let section = match head.path.as_str() {
                "" => String::new(),
                path => format!(" in [{path}]"),
            };
            let what = format!("{}: unknown key `{key}`{section}", report.file);
            report.add(what, &known, nearest(key, &known));
        }
        let variables: Vec<String> = names.iter().map(|n| variable_name(n)).collect();
        let mut parts: Vec<Vec<Override>> = names.iter().map(|_| Vec::new()).collect();
        for mut o in below {
            match longest_match(&o.rest, &variables) {
                Some(i) => {
                    let rest = &o.rest[variables[i].len()..];
                    o.rest = rest.strip_prefix('_').unwrap_or(rest).to_owned();
                    parts[i].push(o);
                }
                None => {
                    let before = &o.name[..o.name.len() - o.rest.len()];
                    let near = nearest(&o.rest, &variables).map(|n| format!("{before}{n}"));
                    let what = format!("unknown environment variable {}", o.name);
                    report.add(what, &[], near.as_deref());
                }
            }
        }
        let fields = names.iter().zip(parts).filter_map(|(name, overrides)| {
            let value = table.remove(*name);
            (value.is_some() || !overrides.is_empty())
                .then(|| ((*name).to_owned(), head.child(name, value, overrides)))
        });
        Ok(fields.collect())
    }

    /// The elements of a list.
    fn elements(self) -> Result<Vec<Node<'a>>, Error> {
        self.no_parts();
        let head = self.child("", None, Vec::new());
        let path = self.path.clone();
        let sources: Vec<Source> = match self.source {
            Source::Variable { name, text } if !text.trim_start().starts_with('[') => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Source::Variable {
                    name: name.clone(),
                    text: item.to_owned(),
                })
                .collect(),
            _ => match self.into_value()? {
                Value::Array(items) => items.into_iter().map(Source::File).collect(),
                other => {
                    let kind = other.type_str();
                    return Err(de::Error::custom(format!("expected a list, found: {kind}")));
                }
            },
        };
        let items = sources.into_iter().enumerate().map(|(i, source)| Node {
            source,
            below: Vec::new(),
            path: format!("{path}[{i}]"),
            report: head.report,
        });
        Ok(items.collect())
    }

    /// Hands a scalar to the visitor; a variable through `parse`.
    fn scalar<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        parse: impl FnOnce(&str, V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        let origin = self.origin();
        self.no_parts();
        let result = match self.source {
            Source::Variable { text, .. } => parse(&text, visitor),
            Source::File(value) => value.deserialize_any(visitor).map_err(de::Error::custom),
            Source::Absent => Err(de::Error::custom("expected a value, not a section")),
        };
        result.map_err(|e| located(e, origin))
    }
}

fn located(mut e: Error, origin: String) -> Error {
    e.origin.get_or_insert(origin);
    e
}

fn parse_value(text: &str) -> Result<Value, toml::de::Error> {
    let mut table: Table = format!("value = {text}").parse()?;
    Ok(table.remove("value").unwrap_or(Value::Boolean(false)))
}
