//! What the audit log has of a change of the rules: all of it.

use std::{collections::BTreeMap, time::SystemTime};

use aws_lc_rs::digest;
use mcdsl::{
    audit::{self, Detail, Entry},
    policy::Rule,
    server::Caller,
};
use rusqlite::Transaction;
use tonic::Code;

use super::{CHANGES, Changed};
use crate::engine::EngineError;

/// Says which rule a change removed or added, in rows beside that of the call.
pub(super) const RULE: &str = "policy.rule";

/// Each rule by its name, as it is written down.
fn written(rules: &[Rule]) -> Result<BTreeMap<&str, String>, EngineError> {
    let each = rules.iter().map(|rule| {
        let text = serde_json::to_string(rule);
        text.map(|text| (&*rule.name, text))
    });
    let each: serde_json::Result<_> = each.collect();
    each.map_err(|error| EngineError::Invalid(error.to_string()))
}

/// The hash of a policy: SHA-256 of its rules in the order of their names, as their rows have them, each with a line feed.
fn hash(rules: &BTreeMap<&str, String>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in rules.values() {
        context.update(text.as_bytes());
        context.update(b"\n");
    }
    mcdsl::human::hex(context.finish().as_ref())
}

/// Writes a change down: whole, whatever its length. One row says what was asked for and the hash of what came of it, and each rule that went, and each that came, has one or more of its
/// own ([`RULE`]); one that was changed did both.
///
/// # Errors
/// If it cannot be; then nothing is changed.
pub(crate) fn append(
    tx: &Transaction<'_>,
    caller: &Caller,
    detail: Detail,
    Changed { before, next }: &Changed,
    now: SystemTime,
) -> Result<(), EngineError> {
    debug_assert!(CHANGES.contains(&caller.method), "{}", caller.method);
    let version = i64::try_from(next.version).unwrap_or(i64::MAX);
    let (before, after) = (written(before)?, written(&next.rules)?);
    let entry = |action, resource, detail: Detail| Entry {
        actor: caller.identity.as_ref().into(),
        source: Some(caller.source),
        action,
        resource,
        outcome: Code::Ok,
        detail: detail.number("policy", version),
    };
    let resource = caller.about.said().unwrap_or_default();
    let detail = detail.text("sha256", &hash(&after));
    audit::append(tx, &entry(caller.method, resource, detail), now)?;
    for (is, from, to) in [("removed", &before, &after), ("added", &after, &before)] {
        for (name, text) in from {
            if to.get(name) == Some(text) {
                continue;
            }
            let parts = pieces(text);
            for (part, piece) in (1..).zip(&parts) {
                let mut detail = Detail::new().text("is", is).long("rule", piece);
                if parts.len() > 1 {
                    let parts = i64::try_from(parts.len()).unwrap_or(i64::MAX);
                    detail = detail.number("part", part).number("parts", parts);
                }
                audit::append(tx, &entry(RULE, name, detail), now)?;
            }
        }
    }
    Ok(())
}

/// A text in pieces that the log does not cut.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(audit::MAX_LONG));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

/// What a rule says, for the log.
pub(crate) fn detail(rule: &Rule) -> Detail {
    let mut detail = Detail::new()
        .text("effect", &rule.effect.to_string())
        .number("priority", rule.priority.into());
    if rule.subjects.anyone {
        detail = detail.flag("anyone", true);
    }
    for (what, list) in [
        ("roles", &rule.subjects.roles),
        ("account_types", &rule.subjects.account_types),
        ("accounts", &rule.subjects.accounts),
        ("tags", &rule.subjects.tags),
        ("actions", &rule.actions),
        ("resources", &rule.resources),
    ] {
        if !list.is_empty() {
            detail = detail.list(what, list.iter().map(String::as_str));
        }
    }
    detail
}
