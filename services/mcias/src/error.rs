//! What fails, and what of it clients are told: [`Error::told`] decides, and gRPC, pages and OpenID Connect put it in their own words.

use std::time::Duration;

use mcdsl::{
    audit::{AuditError, VerifyError},
    cli::chain,
    db::{StoreError, is_unwritable},
    server::{REASON, UNFIT, UNWRITTEN},
};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{name::NameError, password::PasswordError, seal::SealError, totp::TotpError};

/// Until it is worth another try when there was too much to do.
const BUSY: Duration = Duration::from_secs(2);

/// What is told of an error.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// When it is worth another try, in whole seconds.
    pub(crate) wait: Option<Duration>,
    /// The field that says that it is meant.
    pub(crate) unmeant: Option<&'static str>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that the client is told as it is.
    #[error("{message}")]
    Client {
        /// Which kind.
        code: Code,
        /// What, on what, and what to do.
        message: String,
        /// When it is worth another try.
        retry_after: Option<Duration>,
    },
    /// It is done only if the request says that it is meant.
    #[error("{message}")]
    Unmeant {
        /// What would come of it.
        message: String,
        /// The field that says it, which clients are told as the reason.
        field: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit log cannot be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A secret of the database.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Passwords.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Authenticator apps.
    #[error(transparent)]
    Totp(#[from] TotpError),
    /// A token cannot be signed.
    #[error("a token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// Something that cannot be.
    #[error("an internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    fn client(code: Code, message: impl Into<String>) -> Self {
        Self::Client {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// What was sent is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::client(Code::InvalidArgument, message)
    }

    /// What was named does not exist. Anybody may name anything: 64 characters of it are said.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::client(Code::NotFound, format!("there is no {what} {name:?}"))
    }

    /// It exists already.
    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::client(Code::AlreadyExists, message)
    }

    /// The state forbids it.
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::client(Code::FailedPrecondition, message)
    }

    /// What would come of it has to be meant, which `field` says.
    pub(crate) fn unmeant(message: impl Into<String>, field: &'static str) -> Self {
        let message = message.into();
        Self::Unmeant { message, field }
    }

    /// Known, and not allowed.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::client(Code::PermissionDenied, message)
    }

    /// Not known.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::client(Code::Unauthenticated, message)
    }

    /// Too often, or too many; worth another try after `wait`.
    pub(crate) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::Client {
            code: Code::ResourceExhausted,
            message: message.into(),
            retry_after: Some(wait),
        }
    }

    /// Not now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::client(Code::Unavailable, message)
    }

    /// What the audit log says of it.
    pub(crate) fn code(&self) -> Code {
        self.known().map_or(Code::Internal, |told| told.code)
    }

    /// What is told of it. What is nobody's business is in the log from now on.
    pub(crate) fn told(&self) -> Told {
        self.known().unwrap_or_else(|| {
            tracing::error!(error = chain(self), "a request failed");
            Told {
                code: Code::Internal,
                message: "an internal error; see the service's log".to_owned(),
                wait: None,
                unmeant: None,
            }
        })
    }

    /// `None`: an internal error.
    fn known(&self) -> Option<Told> {
        let mut unmeant = None;
        let (code, message, wait) = match self {
            Self::Unmeant { message, field } => {
                unmeant = Some(*field);
                (Code::FailedPrecondition, message.clone(), None)
            }
            Self::Client {
                code,
                message,
                retry_after,
            } => (*code, message.clone(), *retry_after),
            Self::Password(PasswordError::Busy) => {
                let text = PasswordError::Busy.to_string();
                (Code::ResourceExhausted, text, Some(BUSY))
            }
            Self::Store(StoreError::Busy) => {
                let text =
                    "the service has too much to do at this moment; try again in a few seconds";
                (Code::Unavailable, text.to_owned(), Some(BUSY))
            }
            Self::Store(gone @ StoreError::GivenUp) => (Code::Cancelled, gone.to_string(), None),
            Self::Store(error) if error.is_unfit() => (Code::Unavailable, UNFIT.to_owned(), None),
            other if is_unwritable(other) => (Code::Unavailable, UNWRITTEN.to_owned(), None),
            _ => return None,
        };
        // Whole seconds, and never 0: "at once" is what was just refused.
        let whole = |wait: Duration| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        Some(Told {
            code,
            message,
            wait: wait.map(|wait| Duration::from_secs(whole(wait))),
            unmeant,
        })
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut told = error.told();
        if let Some(field) = told.unmeant {
            told.message
                .push_str(&format!("; `{field}` says that it is meant"));
        }
        let mut status = Self::new(told.code, told.message);
        if let Some(wait) = told.wait {
            let metadata = status.metadata_mut();
            metadata.insert("retry-after", MetadataValue::from(wait.as_secs()));
        }
        if let Some(field) = told.unmeant {
            let metadata = status.metadata_mut();
            metadata.insert(REASON, MetadataValue::from_static(field));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_at_a_bad_time_is_told_so() {
        let in_a_moment = Some(BUSY);
        let half = Duration::from_millis(1500);
        for (description, error, code, wait) in [
            (
                "passwords",
                PasswordError::Busy.into(),
                Code::ResourceExhausted,
                in_a_moment,
            ),
            (
                "the database",
                StoreError::Busy.into(),
                Code::Unavailable,
                in_a_moment,
            ),
            (
                "a gate, in whole seconds",
                Error::too_many("no", half),
                Code::ResourceExhausted,
                Some(Duration::from_secs(2)),
            ),
            (
                "a gate, never at once",
                Error::too_many("no", Duration::ZERO),
                Code::ResourceExhausted,
                Some(Duration::from_secs(1)),
            ),
            ("wrong", Error::invalid("no"), Code::InvalidArgument, None),
            (
                "what has to be meant",
                Error::unmeant("no", "yes"),
                Code::FailedPrecondition,
                None,
            ),
            (
                "a full disk",
                rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                    None,
                )
                .into(),
                Code::Unavailable,
                None,
            ),
            (
                "the database's thread",
                StoreError::Thread.into(),
                Code::Internal,
                None,
            ),
            (
                "what is nobody's business",
                Error::Internal("secret"),
                Code::Internal,
                None,
            ),
        ] {
            let told = error.told();
            assert_eq!((told.code, told.wait), (code, wait), "{description}");
            assert_eq!(error.code(), code, "{description}");
            assert!(!told.message.contains("secret"), "{description}");
            let status = Status::from(error);
            let header = status.metadata().get("retry-after");
            let header = header.map(|value| value.to_str().unwrap().to_owned());
            let wanted = wait.map(|wait| wait.as_secs().to_string());
            assert_eq!((status.code(), header), (code, wanted), "{description}");
        }
    }
}
