//! Tokens that are valid by what they say and are not any more.

use std::{collections::HashMap, time::SystemTime};

use super::Identity;

/// Entries at once. Beyond it nothing is forgotten: [`Revocations::add`] says so, and who keeps them lets nobody in.
const MAX_ENTRIES: usize = 1 << 20;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// One token, by its id.
    Token(String),
    /// The tokens of a login.
    Session(String),
    /// The tokens of an account, by its id.
    Account(String),
    /// All.
    Everything,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Of what.
    pub what: Revoked,
    /// Tokens that were issued until then.
    pub issued_until: SystemTime,
    /// From then on it is about no valid token.
    pub forget: SystemTime,
}

/// Those in force.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    entries: HashMap<Revoked, (SystemTime, SystemTime)>,
}

/// There are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_ENTRIES} revocations are in force")]
pub struct TooMany;

impl Revocations {
    /// Enters one; of two for the same the later counts.
    ///
    /// # Errors
    /// [`TooMany`]: it is not entered.
    pub fn add(&mut self, revocation: Revocation, now: SystemTime) -> Result<(), TooMany> {
        if self.entries.len() >= MAX_ENTRIES {
            self.forget(now);
        }
        let Revocation {
            what,
            issued_until,
            forget,
        } = revocation;
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&what) {
            return Err(TooMany);
        }
        let entry = self.entries.entry(what).or_insert((issued_until, forget));
        *entry = (entry.0.max(issued_until), entry.1.max(forget));
        Ok(())
    }

    /// Forgets what is about no valid token any more.
    pub fn forget(&mut self, now: SystemTime) {
        self.entries.retain(|_, (_, forget)| *forget > now);
    }

    /// Whether a token is revoked. Those of the very second of a revocation are: tokens count seconds.
    #[must_use]
    pub fn has(&self, identity: &Identity) -> bool {
        let until = |what: Revoked| self.entries.get(&what).map(|(until, _)| *until);
        let covers = |until: SystemTime| identity.issued <= until;
        until(Revoked::Token(identity.token.clone())).is_some()
            || until(Revoked::Session(identity.session.clone())).is_some_and(covers)
            || until(Revoked::Account(identity.account.clone())).is_some_and(covers)
            || until(Revoked::Everything).is_some_and(covers)
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        let entries = self.entries.iter();
        entries.map(|(what, (issued_until, forget))| Revocation {
            what: what.clone(),
            issued_until: *issued_until,
            forget: *forget,
        })
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
