//! What follows a change once it is committed.
//!
//! Nothing is read for it then: a read may find no turn, and what is committed would not be in force. What keys and rules are in force is read
//! within the transaction instead, and put in force before the next one begins, so that what was committed last is in force last.

use std::sync::{Arc, PoisonError};

use mcdsl::auth::Revocation;
use rusqlite::Connection;

use super::Mcias;
use crate::{
    bans,
    error::Error,
    keys::{self, KeyRing},
    policy::LoginPolicy,
    seal,
};

/// What a change brings with it.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) revoked: Vec<Revocation>,
    /// Networks that were banned, or let in again.
    pub(super) bans: Vec<bans::Told>,
    pub(super) pending: Vec<bans::Pending>,
    /// Keys or rules have changed.
    pub(super) read_again: bool,
}

/// The keys and the login policy, as they are in the database.
pub(crate) struct InForce {
    keys: Arc<KeyRing>,
    policy: Arc<LoginPolicy>,
}

impl InForce {
    /// Reads them.
    ///
    /// # Errors
    /// If there is no key, or one of them or a rule is none.
    pub(crate) fn load(db: &Connection, seal: &seal::Key) -> Result<Self, Error> {
        Ok(Self {
            keys: Arc::new(keys::load(db, seal)?),
            policy: Arc::new(LoginPolicy::load(db)?),
        })
    }
}

impl Mcias {
    /// The keys in force.
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_force.keys)
    }

    /// The login policy in force.
    pub(crate) fn policy(&self) -> Arc<LoginPolicy> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_force.policy)
    }

    /// Puts keys and rules in force that were committed. For [`mcdsl::db::Store::write_then`], which keeps the order.
    pub(crate) fn put_in_force(&self, read: InForce) {
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// Puts in force what was committed, and tells of it.
    pub(super) fn follow(&self, effects: Effects, read: Option<InForce>) {
        // First: whoever hears that everything is revoked asks for the keys.
        if let Some(read) = read {
            self.put_in_force(read);
        }
        let now = self.now();
        self.revocations
            .publish(effects.revoked, |state, revocation| {
                state.enter(revocation, now);
            });
        for pending in effects.pending {
            pending.committed();
        }
        self.tell_of_bans(effects.bans);
    }
}

#[cfg(test)]
mod tests;
