//! How a program ends by an error: one mapping, so that a code means the same of every command of every program.

use std::{error::Error, io};

use super::{Exit, Failure};
use crate::{
    config::{ConfigError, SettingError},
    lock::LockError,
    restore::RestoreError,
    server::StartError,
    telemetry::TelemetryError,
};

impl Exit {
    /// By an error, and by what it came of; [`Exit::Failure`] where nothing more is known. What wraps another one without a word of its own
    /// (`transparent`) hides it: it is to be unwrapped first.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(exit) = known(cause) {
                return exit;
            }
            next = cause.source();
        }
        Self::Failure
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<Exit> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if error.is::<ConfigError>() || error.is::<SettingError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = error.downcast_ref::<StartError>() {
        return match error {
            StartError::Setting(_) => Some(Exit::Usage),
            StartError::Listen { .. } => Some(Exit::Refused),
            StartError::Metrics(error) => known(error),
            StartError::Audit(_) | StartError::Definition(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<TelemetryError>() {
        return match error {
            TelemetryError::Filter { .. }
            | TelemetryError::Level(_)
            | TelemetryError::NotLoopback(_) => Some(Exit::Usage),
            TelemetryError::Bind { .. } => Some(Exit::Refused),
            _ => None,
        };
    }
    #[cfg(feature = "web")]
    if let Some(error) = error.downcast_ref::<crate::service::ServiceError>() {
        return Some(error.exit());
    }
    if let Some(error) = error.downcast_ref::<RestoreError>() {
        return match error {
            RestoreError::Exists(_) | RestoreError::Room { .. } => Some(Exit::Refused),
            RestoreError::Missing { .. } => Some(Exit::NotFound),
            RestoreError::Lock(error) => known(error),
            RestoreError::Archive(error) => known(error),
            RestoreError::Db(error) => known(error),
            _ => None,
        };
    }
    if let Some(LockError::Held(_)) = error.downcast_ref() {
        return Some(Exit::Refused);
    }
    error.downcast_ref::<io::Error>().and_then(of_io)
}

fn of_io(error: &io::Error) -> Option<Exit> {
    matches!(error.kind(), io::ErrorKind::PermissionDenied).then_some(Exit::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was done, in words of its own.
    #[derive(Debug, thiserror::Error)]
    #[error("this was done")]
    struct Doing(#[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn a_code_means_the_same_wherever_it_comes_from() {
        let address = ([127, 0, 0, 1], 443).into();
        let of = |kind: io::ErrorKind| io::Error::from(kind);
        let in_use = StartError::Listen {
            address,
            source: of(io::ErrorKind::AddrInUse),
        };
        let missing = RestoreError::Missing {
            path: "a".into(),
            hint: String::new(),
        };
        let config = ConfigError::Missing { path: "a".into() };
        let cases: [(&str, Box<dyn Error + Send + Sync>, Exit); 9] = [
            ("nothing known", "it rained".into(), Exit::Failure),
            ("a failure", Box::new(Failure::usage("a")), Exit::Usage),
            ("no configuration", Box::new(config), Exit::Usage),
            ("an address", Box::new(in_use), Exit::Refused),
            ("no snapshot", Box::new(missing), Exit::NotFound),
            (
                "a database that is there",
                Box::new(RestoreError::Exists("a".into())),
                Exit::Refused,
            ),
            (
                "in use",
                Box::new(RestoreError::Lock(LockError::Held("a".into()))),
                Exit::Refused,
            ),
            (
                "permission",
                Box::new(of(io::ErrorKind::PermissionDenied)),
                Exit::Refused,
            ),
            ("a disk", Box::new(of(io::ErrorKind::Other)), Exit::Failure),
        ];
        for (description, error, wanted) in cases {
            assert_eq!(Exit::of(error.as_ref()), wanted, "{description}");
            assert_eq!(
                Exit::of(&Doing(error)),
                wanted,
                "{description}, behind another"
            );
        }
    }
}
