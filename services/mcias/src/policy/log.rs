//! What the audit log has of a rule.

use mcdsl::{audit::Detail, policy::Rule};

use super::{Stored, explain::effect};

/// Bytes of a comment that the audit log has as a whole.
const MAX_WHOLE: usize = 256;

impl Stored {
    /// For the audit log: what it does.
    fn effect(&self) -> &'static str {
        effect(self.rule.effect, self.second_factor)
    }

    /// For the audit log: what it says, a part each.
    pub(super) fn parts(&self) -> Vec<String> {
        let said = LISTS.iter().map(|list| (list.name, (list.of)(&self.rule)));
        let said = said.filter(|(_, names)| !names.is_empty());
        let mut parts = vec![
            self.effect().to_owned(),
            format!("priority: {}", self.rule.priority),
        ];
        parts.extend(said.map(|(what, names)| format!("{what}: {}", names.join(", "))));
        if !self.rule.description.is_empty() {
            parts.push(format!("comment: {}", self.rule.description));
        }
        parts
    }

    /// For the audit log: what is different in the rule that replaces it, and only that, so that nothing of it is cut off with what both
    /// have in common.
    pub(super) fn difference(&self, after: &Self, mut detail: Detail) -> Detail {
        let (old, new) = (&self.rule, &after.rule);
        let mut parts = [Vec::new(), Vec::new()];
        let mut part = |texts: [String; 2]| {
            if texts[0] != texts[1] {
                parts
                    .iter_mut()
                    .zip(texts)
                    .for_each(|(p, text)| p.push(text));
            }
        };
        part([self.effect(), after.effect()].map(str::to_owned));
        part([old, new].map(|rule| format!("priority: {}", rule.priority)));
        // Of long ones what differs, which would be cut off.
        let (was, is) = (&old.description, &new.description);
        let common = match was.len().max(is.len()) > MAX_WHOLE {
            true => common(was, is),
            false => 0,
        };
        let mark = if common == 0 { "" } else { "…" };
        part([old, new].map(|rule| format!("comment: {mark}{}", &rule.description[common..])));
        for (key, parts) in ["before", "after"].into_iter().zip(&parts) {
            if !parts.is_empty() {
                detail = detail.list(key, parts.iter().map(String::as_str));
            }
        }
        for list in &LISTS {
            let (old, new) = ((list.of)(old), (list.of)(new));
            for (key, names, others) in [(list.added, new, old), (list.removed, old, new)] {
                let names = names.iter().filter(|name| !others.contains(name));
                let mut names = names.map(String::as_str).peekable();
                if names.peek().is_some() {
                    detail = detail.list(key, names);
                }
            }
        }
        detail
    }
}

/// A list of a rule, as the audit log names it and what is new and gone of it.
struct List {
    name: &'static str,
    added: &'static str,
    removed: &'static str,
    of: fn(&Rule) -> &[String],
}

macro_rules! list {
    ($name:literal, $of:expr) => {
        List {
            name: $name,
            added: concat!($name, "_added"),
            removed: concat!($name, "_removed"),
            of: $of,
        }
    };
}

const LISTS: [List; 6] = [
    list!("roles", |rule| &rule.subjects.roles),
    list!("account_types", |rule| &rule.subjects.account_types),
    list!("accounts", |rule| &rule.subjects.accounts),
    list!("tags", |rule| &rule.subjects.tags),
    list!("services", |rule| &rule.resources),
    list!("service_tags", |rule| &rule.resource_tags),
];

/// Bytes, to a character's end, with which both begin.
fn common(one: &str, other: &str) -> usize {
    let pairs = one.char_indices().zip(other.chars());
    let differ = pairs.filter(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let shorter = one.len().min(other.len());
    differ.min().unwrap_or(shorter)
}
