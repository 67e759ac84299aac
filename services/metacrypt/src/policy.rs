//! The policy: who may do what behind the seal. Its rules are sealed items of the core's own mount, and are in memory while it is open.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mc_proto::metacrypt::v1 as pb;
use mcdsl::policy::{Effect, Policy, PolicySet, Rule, Subjects};
use rusqlite::Connection;

use crate::{
    barrier::{Items, Mount, SYSTEM, SealError, Unsealed},
    engine::EngineError,
};

/// Where they are.
const PLACE: &str = "rules/";
/// Most that are read at once; the engine takes no more.
const ALL: usize = mcdsl::policy::MAX_RULES + 1;

/// What the core's mount keeps in memory.
#[derive(Default)]
struct InForce(ArcSwapOption<PolicySet>);

/// The core's own mount.
///
/// # Errors
/// If there is none, which whoever changed the database did.
pub(crate) fn system(open: &Unsealed) -> Result<&Mount, SealError> {
    let mount = open.mounts().get(SYSTEM);
    mount.ok_or_else(|| SealError::NoMount(SYSTEM.to_owned()))
}

fn in_force(open: &Unsealed) -> Result<&InForce, SealError> {
    let memory = system(open)?.memory();
    memory.ok_or_else(|| SealError::NoMount(SYSTEM.to_owned()))
}

/// The policy in force.
///
/// # Errors
/// If it was not read, which opening the seal does.
pub(crate) fn of(open: &Unsealed) -> Result<Arc<PolicySet>, SealError> {
    let set = in_force(open)?.0.load_full();
    set.ok_or(SealError::Sealed)
}

/// Puts a policy in force.
pub(crate) fn apply(open: &Unsealed, set: PolicySet) {
    if let Ok(in_force) = in_force(open) {
        in_force.0.store(Some(Arc::new(set)));
    }
}

/// Reads and checks what is stored: what opens the seal does.
///
/// # Errors
/// If a rule is none: then nobody may do anything, and nothing is open.
pub(crate) fn load(open: &Unsealed, db: &Connection) -> Result<(), EngineError> {
    apply(open, compile(&system(open)?.items(db))?);
    Ok(())
}

/// The rules, by name.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn rules(items: &Items<'_>) -> Result<Vec<Rule>, EngineError> {
    let all = items.list::<Rule>(PLACE, "", ALL)?;
    Ok(all.into_iter().map(|(_, rule)| rule).collect())
}

fn compile(items: &Items<'_>) -> Result<PolicySet, EngineError> {
    let policy = Policy {
        admin_bypass: true,
        rules: rules(items)?,
    };
    Ok(PolicySet::compile(&policy)?)
}

/// Stores a rule; the policy with it.
///
/// # Errors
/// If it is none, or is there already and is not to be replaced.
pub(crate) fn put(items: &Items<'_>, rule: &Rule, replace: bool) -> Result<PolicySet, EngineError> {
    let alone = Policy {
        admin_bypass: true,
        rules: vec![rule.clone()],
    };
    // Alone first, so that what is wrong is its own; and its name is checked before it is part of a path.
    PolicySet::compile(&alone)?;
    let path = format!("{PLACE}{}", rule.name);
    if !replace && items.get::<Rule>(&path)?.is_some() {
        return Err(EngineError::Exists("rule", rule.name.clone()));
    }
    items.put(&path, rule)?;
    compile(items)
}

/// Removes a rule; the policy without it.
///
/// # Errors
/// If there is none.
pub(crate) fn delete(items: &Items<'_>, name: &str) -> Result<PolicySet, EngineError> {
    if !items.delete(&format!("{PLACE}{name}"))? {
        return Err(EngineError::NotFound("rule", name.to_owned()));
    }
    compile(items)
}

/// From what a client sent.
pub(crate) fn parse(sent: pb::Rule) -> Rule {
    Rule {
        name: sent.name,
        description: sent.comment,
        priority: sent.priority,
        effect: if sent.deny {
            Effect::Deny
        } else {
            Effect::Allow
        },
        subjects: Subjects {
            anyone: sent.anyone,
            roles: sent.roles,
            account_types: sent.account_types,
            accounts: sent.accounts,
            tags: sent.tags,
        },
        actions: sent.actions,
        resources: sent.resources,
        resource_tags: Vec::new(),
    }
}

/// As clients read it.
pub(crate) fn message(rule: Rule) -> pb::Rule {
    pb::Rule {
        name: rule.name,
        priority: rule.priority,
        deny: rule.effect == Effect::Deny,
        anyone: rule.subjects.anyone,
        roles: rule.subjects.roles,
        account_types: rule.subjects.account_types,
        accounts: rule.subjects.accounts,
        tags: rule.subjects.tags,
        actions: rule.actions,
        resources: rule.resources,
        comment: rule.description,
    }
}
