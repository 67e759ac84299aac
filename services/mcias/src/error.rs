//! What fails, and what of it clients are told: the one place that maps errors to statuses.

use std::time::Duration;

use mcdsl::{
    audit::{AuditError, VerifyError},
    cli::chain,
    db::StoreError,
};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{name::NameError, password::PasswordError, seal::SealError, totp::TotpError};

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

    /// What was named does not exist.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
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
        match self {
            Self::Client { code, .. } => *code,
            Self::Password(PasswordError::Busy) => Code::ResourceExhausted,
            _ => Code::Internal,
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, message, wait) = match error {
            Error::Client {
                code,
                message,
                retry_after,
            } => (code, message, retry_after),
            Error::Password(PasswordError::Busy) => {
                let wait = Some(Duration::from_secs(2));
                (
                    Code::ResourceExhausted,
                    PasswordError::Busy.to_string(),
                    wait,
                )
            }
            internal => {
                tracing::error!(error = chain(&internal), "a call failed");
                let message = "an internal error; see the service's log".to_owned();
                (Code::Internal, message, None)
            }
        };
        let mut status = Self::new(code, message);
        if let Some(wait) = wait {
            // Whole seconds, and never 0: "at once" is what was just refused.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let metadata = status.metadata_mut();
            metadata.insert("retry-after", MetadataValue::from(seconds.max(1)));
        }
        status
    }
}
