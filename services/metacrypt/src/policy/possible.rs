//! What a rule can be about: an action that there is, on what it is asked for.

use mcdsl::{
    auth::ADMIN,
    config::nearest,
    policy::{Effect, MAX_RULE_TEXT, Refused, Rule, Subjects},
};

use super::{InForce, READ_AUDIT, READ_MOUNT, Stored, compile};
use crate::engine::{self, EngineError};

/// Roles of accounts, as MCIAS has them.
const ROLES: [&str; 3] = [ADMIN, "user", "guest"];

/// A policy of one rule.
fn alone(rule: Rule) -> Result<InForce, EngineError> {
    compile(Stored {
        version: 0,
        rules: vec![rule],
    })
}

/// That a rule is one, and about what can be done. `kind` is the engine of a mount, if there is one of that name.
///
/// # Errors
/// Which part of it is not.
pub(crate) fn check(rule: &Rule, kind: impl Fn(&str) -> Option<String>) -> Result<(), EngineError> {
    let bytes = serde_json::to_vec(rule).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_RULE_TEXT {
        let why = format!(
            "{bytes} bytes long, more than {MAX_RULE_TEXT}; split it, or shorten its comment"
        );
        return Err(EngineError::field("rule", why));
    }
    let alone = alone(rule.clone())?;
    if let Some(role) = (rule.subjects.roles.iter()).find(|role| !ROLES.contains(&role.as_str())) {
        let why = format!(
            "{role:?} is no role of MCIAS; there are: {}",
            ROLES.join(", ")
        );
        return Err(EngineError::field("roles", why));
    }
    let mut roles = rule.subjects.roles.iter();
    if rule.effect == Effect::Deny && !rule.subjects.roles.is_empty() && roles.all(|r| r == ADMIN) {
        let why = "administrators may do everything, so that a deny for the role \"admin\" alone does nothing; take away the role in MCIAS from whom it is to bind";
        return Err(EngineError::field("roles", why));
    }
    let known: Vec<_> = engine::actions().map(|action| action.0).collect();
    if let Some((_, pattern)) = alone.set.idle_actions(&known).next() {
        return Err(EngineError::field("actions", unknown(pattern)));
    }
    // Each pattern of actions with all on which it is, and each of resources with all that may be done there.
    let actions = rule.actions.iter().map(|action| Rule {
        actions: vec![action.clone()],
        ..rule.clone()
    });
    for part in actions {
        let idle = idle(&part, &kind)?;
        if idle.len() == part.resources.len() {
            return Err(EngineError::field(
                "resources",
                never(&part, &idle[0], &kind),
            ));
        }
    }
    match idle(rule, &kind)?.first() {
        Some(pattern) => Err(EngineError::field("resources", never(rule, pattern, &kind))),
        None => Ok(()),
    }
}

/// What there is in the place of an action that is none.
fn unknown(pattern: &str) -> String {
    let known: Vec<_> = engine::actions()
        .map(|action| action.0.to_owned())
        .collect();
    let meant = nearest(pattern, &known).map(|near| format!(" (did you mean {near:?}?)"));
    let first = |action: &str| action.split(':').next().unwrap_or_default().to_owned();
    let mut there = known.clone();
    there.retain(|action| first(action) == first(pattern));
    if there.is_empty() {
        // Of all engines they are too many to be read.
        there = known.iter().map(|action| first(action) + ":*").collect();
        there.dedup();
    }
    let there = there.join(", ");
    let meant = meant.unwrap_or_default();
    format!("{pattern:?} covers nothing that can be done{meant}; there are: {there}")
}

/// The actions of a rule that there are in the mount that a pattern of resources names.
fn places_of<'k>(
    pattern: &str,
    kind: &impl Fn(&str) -> Option<String>,
) -> Vec<(&'k str, &'k [&'k str])> {
    let mount = pattern.split('/').next().unwrap_or_default();
    let kind = kind(mount);
    let of = |action: &str| match &kind {
        Some(kind) => {
            [READ_MOUNT.0, READ_AUDIT.0].contains(&action) || action.split(':').next() == Some(kind)
        }
        None => true,
    };
    engine::places().filter(|(action, _)| of(action)).collect()
}

/// Patterns of a rule's resources on which nothing of it is ever done.
fn idle(rule: &Rule, kind: &impl Fn(&str) -> Option<String>) -> Result<Vec<String>, EngineError> {
    let mut all = Vec::new();
    for resource in &rule.resources {
        let alone = alone(Rule {
            resources: vec![resource.clone()],
            ..rule.clone()
        })?;
        let known = places_of(resource, kind);
        if !alone
            .set
            .idle_resources(&known)
            .map_err(Refused::from)?
            .is_empty()
        {
            all.push(resource.clone());
        }
    }
    Ok(all)
}

/// Why a rule says nothing by a pattern of resources.
fn never(rule: &Rule, pattern: &str, kind: &impl Fn(&str) -> Option<String>) -> String {
    let mount = pattern.split('/').next().unwrap_or_default();
    let what = rule.actions.join(", ");
    let covered = |action: &str| {
        rule.actions.iter().any(|pattern| {
            let only = alone(Rule {
                actions: vec![pattern.clone()],
                ..rule.clone()
            });
            only.is_ok_and(|only| only.set.idle_actions(&[action]).next().is_none())
        })
    };
    let mut on: Vec<_> = engine::places()
        .filter(|(action, _)| covered(action))
        .flat_map(|(_, on)| on.iter().map(|on| engine::spelled(on)))
        .collect();
    on.sort();
    on.dedup();
    let of = kind(mount).map(|kind| format!(" ({mount} is a mount of the engine {kind})"));
    format!(
        "{what} is never asked for on {pattern:?}{}, but on {}",
        of.unwrap_or_default(),
        on.join(", ")
    )
}

/// That somebody could ask for this: an action, on a resource of that name.
///
/// # Errors
/// The action is none, or is never asked for there.
pub(crate) fn possible(
    action: &str,
    resource: &str,
    kind: impl Fn(&str) -> Option<String>,
) -> Result<(), EngineError> {
    if !engine::actions().any(|known| known.0 == action) {
        return Err(EngineError::field("action", unknown(action)));
    }
    let asked = Rule {
        name: "asked".to_owned(),
        description: String::new(),
        priority: 0,
        effect: Effect::Allow,
        subjects: Subjects {
            anyone: true,
            ..Subjects::default()
        },
        actions: vec![action.to_owned()],
        resources: vec![resource.to_owned()],
        resource_tags: Vec::new(),
    };
    match idle(&asked, &kind)?.is_empty() {
        true => Ok(()),
        false => Err(EngineError::field(
            "resource",
            never(&asked, resource, &kind),
        )),
    }
}
