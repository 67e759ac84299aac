//! How values are written into columns, and read back.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::StoreError;
use crate::spec::{Action, CountryCode, EngineKind, RuleKind};

pub(super) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

pub(super) fn time(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH + duration(unix_ms)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

pub(super) fn parse<T: FromStr>(what: &'static str, value: &str) -> Result<T, StoreError> {
    value.parse().map_err(|_| corrupt(what, value))
}

pub(super) fn corrupt(what: &'static str, value: &str) -> StoreError {
    StoreError::Corrupt {
        what,
        value: value.to_owned(),
    }
}

pub(super) fn action_text(action: Action) -> &'static str {
    match action {
        Action::Drop => "drop",
        Action::Reset => "reset",
        Action::Observe => "observe",
    }
}

pub(super) fn action(text: &str) -> Result<Action, StoreError> {
    match text {
        "drop" => Ok(Action::Drop),
        "reset" => Ok(Action::Reset),
        "observe" => Ok(Action::Observe),
        _ => Err(corrupt("an action", text)),
    }
}

pub(super) fn kind_text(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Allow => "allow",
        RuleKind::Block => "block",
        RuleKind::Ban => "ban",
    }
}

pub(super) fn kind(text: &str) -> Result<RuleKind, StoreError> {
    match text {
        "allow" => Ok(RuleKind::Allow),
        "block" => Ok(RuleKind::Block),
        "ban" => Ok(RuleKind::Ban),
        _ => Err(corrupt("a rule's kind", text)),
    }
}

pub(super) fn engine_text(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Copy => "copy",
        EngineKind::Sockmap => "sockmap",
    }
}

pub(super) fn engine(text: &str) -> Result<EngineKind, StoreError> {
    match text {
        "copy" => Ok(EngineKind::Copy),
        "sockmap" => Ok(EngineKind::Sockmap),
        _ => Err(corrupt("an engine", text)),
    }
}

pub(super) fn country_text(code: CountryCode) -> String {
    code.0.iter().map(|b| char::from(*b)).collect()
}

pub(super) fn country(text: &str) -> Result<CountryCode, StoreError> {
    match text.as_bytes() {
        &[a, b] => Ok(CountryCode([a, b])),
        _ => Err(corrupt("a country", text)),
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|e| corrupt("settings that JSON cannot hold", &e.to_string()))
}
