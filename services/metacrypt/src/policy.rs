//! The policy: who may do what behind the seal.
//!
//! All rules are one sealed item of the core's own mount, so that none can be taken out of the file or put back into it alone, and in memory while the seal is open.
//! Each change counts on a version, and the audit log says which: an item that is not the one of the last change, or is missing, is seen when the seal opens, and at the
//! next change. A policy that cannot be used lets nobody in but administrators, who may replace it as a whole.

#[cfg(test)]
mod tests;

mod accounts;
mod log;
mod message;
mod possible;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mcdsl::{
    db::StoreError,
    policy::{Policy, PolicySet, Rule},
};
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};

use crate::{
    barrier::{ItemError, Mount, SYSTEM, SealError, Unsealed},
    engine::{Act, EngineError},
};

pub(crate) use self::{
    accounts::{bind, find, ids, unbound},
    log::{append, detail},
    message::{message, parse},
    possible::{check, possible},
};

/// What rules name to show a mount.
pub(crate) const READ_MOUNT: Act = Act("mount:read");
/// What rules name to show and verify the audit log, on `system/audit`.
pub(crate) const READ_AUDIT: Act = Act("audit:read");
/// Where the rules are.
const PATH: &str = "policy";
/// Bytes of all rules together: what is answered to who lists them fits into one message.
const MAX_POLICY: usize = 512 << 10;
/// Calls that change it.
const CHANGES: [&str; 3] = [
    "/metacircular.metacrypt.v1.System/CreateRule",
    "/metacircular.metacrypt.v1.System/DeleteRule",
    "/metacircular.metacrypt.v1.System/ReplaceRules",
];

/// As it is stored.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    /// How often it was changed.
    version: u64,
    rules: Vec<Rule>,
}

/// As it is in force.
pub(crate) struct InForce {
    /// Of which change it is.
    pub(crate) version: u64,
    pub(crate) set: Arc<PolicySet>,
    /// As they were written.
    pub(crate) rules: Vec<Rule>,
    /// Why they are not asked, and administrators alone are let in.
    pub(crate) unusable: Option<String>,
}

/// What the core's mount keeps in memory.
#[derive(Default)]
struct Memory(ArcSwapOption<InForce>);

/// The core's own mount.
pub(crate) fn system(open: &Unsealed) -> Result<&Mount, SealError> {
    let mount = open.mounts().get(SYSTEM).map(Arc::as_ref);
    mount.ok_or_else(|| SealError::NoMount(SYSTEM.to_owned()))
}

fn memory(open: &Unsealed) -> Result<&Memory, SealError> {
    let memory = system(open)?.memory();
    memory.ok_or_else(|| SealError::NoMount(SYSTEM.to_owned()))
}

/// What is in force.
///
/// # Errors
/// If it was not read, which opening the seal does.
pub(crate) fn in_force(open: &Unsealed) -> Result<Arc<InForce>, SealError> {
    memory(open)?.0.load_full().ok_or(SealError::Sealed)
}

/// The policy in force.
///
/// # Errors
/// As [`in_force`].
pub(crate) fn of(open: &Unsealed) -> Result<Arc<PolicySet>, SealError> {
    Ok(Arc::clone(&in_force(open)?.set))
}

/// Puts what was committed in force.
pub(crate) fn apply(open: &Unsealed, next: InForce) {
    if let Ok(memory) = memory(open) {
        memory.0.store(Some(Arc::new(next)));
    }
}

fn compile(Stored { version, rules }: Stored) -> Result<InForce, EngineError> {
    let policy = Policy {
        admin_bypass: true,
        rules,
    };
    Ok(InForce {
        version,
        set: Arc::new(PolicySet::compile(&policy)?),
        rules: policy.rules,
        unusable: None,
    })
}

/// Reads what is stored: what opens the seal does.
///
/// # Errors
/// If the database cannot be read. Rules that cannot be used are told ([`InForce::unusable`]).
pub(crate) fn load(open: &Unsealed, db: &Connection) -> Result<(), SealError> {
    let last = last_change(db)?;
    let stored = stored(open, db);
    let rules = stored
        .as_ref()
        .map_or_else(|_| Vec::new(), |found| found.rules.clone());
    let usable = stored.and_then(|stored| {
        let is_last = stored.version == last;
        is_last
            .then_some(())
            .ok_or_else(|| foreign(&stored, last))?;
        compile(stored)
    });
    match usable {
        Err(EngineError::Store(error) | EngineError::Item(ItemError::Store(error))) => {
            return Err(error.into());
        }
        Ok(in_force) => {
            let unbound: Vec<_> = in_force.rules.iter().filter(|rule| unbound(rule)).collect();
            if !unbound.is_empty() {
                let rules: Vec<_> = unbound.iter().map(|rule| &*rule.name).collect();
                tracing::warn!(
                    rules = rules.join(", "),
                    "these rules name accounts without their ids, so that whoever gets such a name has what they allow: put them again"
                );
            }
            apply(open, in_force);
        }
        Err(error) => suspend(open, rules, &error)?,
    }
    Ok(())
}

/// Somebody else has put other rules there.
fn foreign(stored: &Stored, last: u64) -> EngineError {
    EngineError::Precondition(format!(
        "the database was changed by somebody else: the rules are of change {}, and the audit log's last is {last}",
        stored.version
    ))
}

/// Lets nobody in but administrators, and says so.
fn suspend(open: &Unsealed, rules: Vec<Rule>, why: &EngineError) -> Result<(), SealError> {
    let why = why.to_string();
    tracing::error!(
        error = why,
        "the policy cannot be used: nobody but administrators may do anything until one of them replaces it (ReplaceRules)"
    );
    let nothing = compile(Stored::default()).map_err(|_| SealError::Sealed)?;
    let suspended = InForce {
        version: in_force(open).map_or(0, |now| now.version),
        rules,
        unusable: Some(why),
        ..nothing
    };
    apply(open, suspended);
    Ok(())
}

fn stored(open: &Unsealed, db: &Connection) -> Result<Stored, EngineError> {
    Ok(system(open)?.items(db).get(PATH)?.unwrap_or_default())
}

/// The version that the last change of the policy made, by the audit log.
fn last_change(db: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT json_extract(detail, '$.policy') FROM audit WHERE action IN (?1, ?2, ?3) AND outcome = 'OK' ORDER BY seq DESC LIMIT 1";
    let found = db.query_row(sql, CHANGES, |row| row.get::<_, Option<i64>>(0));
    let version = found.optional()?.flatten().unwrap_or_default();
    Ok(version.try_into().unwrap_or_default())
}

/// What is stored, if it is what is in force and what the audit log's last change made; else it is not asked any more from now on.
fn unchanged(open: &Unsealed, tx: &Transaction<'_>) -> Result<Stored, EngineError> {
    let (in_force, last) = (in_force(open)?, last_change(tx)?);
    let found = match stored(open, tx) {
        Ok(found) if found.version == last && last == in_force.version => return Ok(found),
        Ok(found) if found.version == last => EngineError::Precondition(format!(
            "the database was changed by somebody else: the rules are of change {}, and what is in force is of change {}",
            found.version, in_force.version
        )),
        Ok(found) => foreign(&found, last),
        Err(error @ (EngineError::Store(_) | EngineError::Item(ItemError::Store(_)))) => {
            return Err(error);
        }
        Err(error) => error,
    };
    suspend(open, in_force.rules.clone(), &found)?;
    Err(unusable(&found))
}

fn unusable(why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Precondition(format!(
        "the policy cannot be used ({why}); replace it as a whole (ReplaceRules)"
    ))
}

/// A change of the rules.
pub(crate) struct Changed {
    /// As they were; nothing, if those could not be used.
    before: Vec<Rule>,
    /// What is to be in force.
    pub(crate) next: InForce,
}

/// Changes what is stored; what is to be in force, which the rows of the change have to say ([`append`]). It is called for what is committed before the next change is made.
///
/// # Errors
/// Those of `change`, and if what comes of it is no policy. One that cannot be used may only be replaced as a `whole`; one that was found to be another than it was is none
/// from then on.
pub(crate) fn change(
    open: &Unsealed,
    tx: &Transaction<'_>,
    whole: bool,
    change: impl FnOnce(&mut Vec<Rule>) -> Result<(), EngineError>,
) -> Result<Changed, EngineError> {
    let now = in_force(open)?;
    let before = match (&now.unusable, whole) {
        (None, _) => unchanged(open, tx)?,
        (Some(_), true) => Stored {
            version: stored(open, tx)
                .map_or(0, |found| found.version)
                .max(now.version)
                .max(last_change(tx)?),
            rules: Vec::new(),
        },
        (Some(why), false) => return Err(unusable(why)),
    };
    let mut rules = before.rules.clone();
    change(&mut rules)?;
    let next = compile(Stored {
        version: before.version + 1,
        rules,
    })?;
    let bytes = serde_json::to_vec(&next.rules).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_POLICY {
        return Err(EngineError::Invalid(format!(
            "all rules together would be {bytes} bytes long, more than {MAX_POLICY}; patterns cover what many rules name"
        )));
    }
    let after = Stored {
        version: next.version,
        rules: next.rules.clone(),
    };
    system(open)?.items(tx).put(PATH, &after)?;
    Ok(Changed {
        before: before.rules,
        next,
    })
}

/// Adds a rule, or puts it in the place of the one of its name.
///
/// # Errors
/// If there is one that is not to be replaced.
pub(crate) fn put(rules: &mut Vec<Rule>, rule: Rule, replace: bool) -> Result<(), EngineError> {
    match rules.iter_mut().find(|known| known.name == rule.name) {
        Some(_) if !replace => return Err(EngineError::Exists("rule", rule.name)),
        Some(known) => *known = rule,
        None => rules.push(rule),
    }
    Ok(())
}

/// Removes a rule.
///
/// # Errors
/// If there is none.
pub(crate) fn delete(rules: &mut Vec<Rule>, name: &str) -> Result<(), EngineError> {
    let before = rules.len();
    rules.retain(|rule| rule.name != name);
    match rules.len() < before {
        true => Ok(()),
        false => Err(EngineError::NotFound("rule", name.to_owned())),
    }
}
