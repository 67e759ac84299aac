//! What a refused or failed request is told.

use tonic::Status;

use crate::{control::ControlError, store::StoreError, upgrade::UpgradeError};

/// The one place that maps errors to gRPC codes.
pub(super) fn refused(error: ControlError) -> Status {
    let message = mcdsl::cli::chain(&error);
    match &error {
        ControlError::Invalid { .. } => Status::invalid_argument(message),
        ControlError::Store(StoreError::NotFound(_)) => Status::not_found(message),
        ControlError::Store(StoreError::AlreadyExists(_)) => Status::already_exists(message),
        ControlError::Store(StoreError::GivenTwice(_)) => Status::invalid_argument(message),
        ControlError::Store(StoreError::Full { .. }) => Status::resource_exhausted(message),
        ControlError::Tls(_) => Status::invalid_argument(message),
        ControlError::Bind { .. } => Status::failed_precondition(message),
        ControlError::Suspended | ControlError::Draining => Status::aborted(message),
        _ => {
            tracing::error!(error = message, "admin request failed");
            Status::internal(message)
        }
    }
}

/// The same for upgrades, which log why they fail.
pub(super) fn not_upgraded(error: &UpgradeError) -> Status {
    let message = mcdsl::cli::chain(error);
    match error {
        UpgradeError::InProgress
        | UpgradeError::NoProgram
        | UpgradeError::Certificates(_)
        | UpgradeError::Bare { .. } => Status::failed_precondition(message),
        UpgradeError::Stopping => Status::aborted(message),
        UpgradeError::Spawn { .. }
        | UpgradeError::Failed(_)
        | UpgradeError::Ended(_)
        | UpgradeError::Silent(_)
        | UpgradeError::Protocol(_)
        | UpgradeError::Channel(_)
        | UpgradeError::Prepare(_) => Status::internal(message),
    }
}
