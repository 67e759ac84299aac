//! Why something is not done with the seal.

use std::time::Duration;

use mcdsl::{audit::AuditError, db::StoreError};

use super::{KeyError, SlotError};

/// Why the seal is not made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is none yet.
    #[error("Metacrypt is not initialised; run `metacrypt init`")]
    NotInitialised,
    /// There is one.
    #[error("Metacrypt is initialised already; what it has would be lost")]
    Initialised,
    /// It is sealed.
    #[error("Metacrypt is sealed; unseal it first")]
    Sealed,
    /// It is unsealed.
    #[error("Metacrypt is unsealed already")]
    Unsealed,
    /// It was told to close while this opened it.
    #[error("Metacrypt was sealed meanwhile; unseal it again, if it is to be open")]
    Closed,
    /// Too soon after others that failed; so long is to be waited.
    #[error("too many attempts failed")]
    Wait(Duration),
    /// Others are under way: they take memory.
    #[error("another attempt is under way")]
    Busy,
    /// Its secret.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The password is to stay as it is, and only the recovery key or shares were shown.
    #[error("the password that is to open the seal is not known; send it")]
    NoPassword,
    /// A key in the database is not what it should be.
    #[error("the database was changed by somebody else: {0}")]
    Key(#[from] KeyError),
    /// Another process has changed the seal since this one opened it.
    #[error("the seal was changed by another process; seal and unseal again")]
    Changed,
    /// What is kept of a slot is none.
    #[error("the database was changed by somebody else: the {0} of its seal cannot be read")]
    Form(String),
    /// There is no mount of this name.
    #[error("there is no mount {0:?}")]
    NoMount(String),
    /// It has what is not to be lost by a slip of the pen.
    #[error("it is not removed, for it has {0}; `confirm` with its name says that it is meant")]
    Kept(String),
    /// There is one.
    #[error("there is a mount {0:?} already")]
    MountExists(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log, without which nothing is done.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<rusqlite::Error> for SealError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
