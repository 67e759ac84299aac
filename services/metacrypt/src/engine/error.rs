//! Why an engine does not do something.

use mcdsl::{
    audit::AuditError,
    db::StoreError,
    policy::{PolicyError, Refused},
    server::REASON,
};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::barrier::{ItemError, KeyError, SealError};

/// Why something is not done behind the seal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// What was asked makes no sense; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// It does, but not as things are.
    #[error("{0}")]
    Precondition(String),
    /// It takes with it what is not to be lost by a slip of the pen; the text says what, and that `confirm` says that it is meant.
    #[error("{0}")]
    Kept(String),
    /// There is nothing of this kind and name.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// There is one already.
    #[error("there is a {0} {1:?} already")]
    Exists(&'static str, String),
    /// Somebody else changed it meanwhile, each time that it was tried.
    #[error("it was changed by somebody else meanwhile; try again")]
    Changed,
    /// As many wait as may, in all or of one account.
    #[error("the service has too much to do; try again later")]
    Busy,
    /// Another service does not answer that is needed for it.
    #[error("{0}")]
    Unavailable(String),
    /// By the policy, or the name is none.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A rule is none.
    #[error("{}", mcdsl::cli::chain(.0))]
    Policy(#[from] PolicyError),
    /// What is stored cannot be read or written.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A primitive failed that does not fail, or the system gives no random bytes.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was made here is not what was asked for, and is not given to anybody.
    #[error("an internal error: {0}")]
    Unsound(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log, without which nothing is done.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl EngineError {
    /// A field whose value cannot be.
    pub(crate) fn field(name: &str, why: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("{name}: {why}"))
    }
}

/// What a refusal says as [`REASON`] that `confirm` would lift, for programs.
pub(crate) const CONFIRM: &str = "confirm";

/// Something is not removed, unless the request says that it is meant.
pub(crate) fn kept(text: String) -> Status {
    let mut status = Status::failed_precondition(text);
    let reason = MetadataValue::from_static(CONFIRM);
    status.metadata_mut().insert(REASON, reason);
    status
}

impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<EngineError> for Status {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        let code = match error {
            EngineError::Kept(_) => return kept(text),
            EngineError::Refused(refused) => return refused.into(),
            EngineError::Seal(error) => return error.into(),
            EngineError::Store(error) | EngineError::Item(ItemError::Store(error)) => {
                return error.into();
            }
            EngineError::Audit(error) => return error.into(),
            EngineError::Invalid(_)
            | EngineError::Policy(_)
            | EngineError::Item(ItemError::TooLong { .. }) => Code::InvalidArgument,
            EngineError::Precondition(_) => Code::FailedPrecondition,
            EngineError::Changed => Code::Aborted,
            EngineError::Busy | EngineError::Unavailable(_) => Code::Unavailable,
            EngineError::NotFound(..) => Code::NotFound,
            EngineError::Exists(..) => Code::AlreadyExists,
            EngineError::Item(_) | EngineError::Key(_) | EngineError::Unsound(_) => {
                tracing::error!(error = text, "what is behind the seal cannot be used");
                Code::Internal
            }
        };
        Self::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_says_so_to_programs_too() {
        let text = || "it has keys; send its name as `confirm` if that is meant".to_owned();
        for (description, status) in [
            ("an engine", Status::from(EngineError::Kept(text()))),
            ("a mount", SealError::Kept(text()).into()),
        ] {
            assert_eq!(status.code(), Code::FailedPrecondition, "{description}");
            let reason = status.metadata().get(REASON).unwrap();
            assert_eq!(reason, CONFIRM, "{description}");
        }
        let other = Status::from(EngineError::Precondition(text()));
        assert!(other.metadata().get(REASON).is_none());
    }
}
