//! The database, which another daemon may have.

use std::{
    ops::{Deref, DerefMut},
    sync::{MutexGuard, PoisonError},
};

use super::{Control, ControlError};
use crate::store::Store;

/// The database, locked and there.
pub(super) struct Held<'a>(MutexGuard<'a, Option<Store>>);

impl Deref for Held<'_> {
    type Target = Store;
    fn deref(&self) -> &Store {
        self.0.as_ref().expect("looked at when it was locked")
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        self.0.as_mut().expect("looked at when it was locked")
    }
}

impl Control {
    /// The database, for one change or question.
    pub(super) fn store(&self) -> Result<Held<'_>, ControlError> {
        let slot = self.store_slot();
        match *slot {
            Some(_) => Ok(Held(slot)),
            None => Err(ControlError::Suspended),
        }
    }

    pub(super) fn store_slot(&self) -> MutexGuard<'_, Option<Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
