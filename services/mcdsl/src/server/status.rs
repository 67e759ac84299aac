//! What a method's implementation fails with, as callers are told: `?` in a method makes a status of it.

use tonic::Status;

use crate::{
    audit::AuditError,
    cli::chain,
    db::{StoreError, damage, is_unwritable},
    policy::Refused,
};

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Busy) {
            return Self::unavailable(error.to_string());
        }
        if matches!(error, StoreError::GivenUp) {
            return Self::cancelled(error.to_string());
        }
        if error.is_unfit() {
            return Self::unavailable(UNFIT);
        }
        failed(&error)
    }
}

impl From<AuditError> for Status {
    fn from(error: AuditError) -> Self {
        failed(&error)
    }
}

/// Which rule it was is not told.
impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            // Whose names cannot be judged may do nothing.
            Refused::Denied(_) | Refused::Subject(_) => Self::permission_denied(text),
            Refused::Name(_) => Self::invalid_argument(text),
        }
    }
}

/// The metadata of a status that says which one it is of several, for a client that has somebody to ask and tries again; REST has a member of
/// this name.
pub const REASON: &str = "reason";

/// What is told while nothing can be written: why is the operator's business, whom the log and health tell.
pub const UNWRITTEN: &str = "the service cannot write anything at this moment; try again later";

/// What is told once the database was seen to be changed by somebody else, or damaged: only its operator can mend that.
pub const UNFIT: &str = "the service's database was changed by somebody else or is damaged, so that it does nothing until its operator has looked";

fn failed(error: &(dyn std::error::Error + 'static)) -> Status {
    if is_unwritable(error) {
        return Status::unavailable(UNWRITTEN);
    }
    if damage(error).is_some() {
        return Status::unavailable(UNFIT);
    }
    tracing::error!(error = chain(error), "a call failed");
    Status::internal("an internal error; see the service's log")
}
