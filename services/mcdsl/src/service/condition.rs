//! How `check` and `status` end: the same in the programs of all services, so that scripts and units can go by it.

use std::process::ExitCode;

use crate::{cli::Exit, server::Found};

/// How a service is, as its own program finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers and takes calls.
    Serving,
    /// It answers and takes none: it is sealed, its disk is full, or it is about to stop.
    NotReady,
    /// Nobody is there, and nothing is in the way of a start.
    NotStarted,
    /// Something is in the way of a start, or another program in its place.
    Hindered,
}

impl Condition {
    /// By what `/healthz` at the service's own address says.
    #[must_use]
    pub fn of_health(found: &Found) -> Self {
        match found {
            Found::Own(said) if said.trim() == "ok" => Self::Serving,
            Found::Own(_) => Self::NotReady,
            Found::Nobody => Self::NotStarted,
            Found::Somebody | Found::Another(_) => Self::Hindered,
        }
    }

    /// How `check` ends: whether it can be started.
    #[must_use]
    pub fn of_check(self) -> ExitCode {
        match self {
            Self::Serving | Self::NotReady | Self::NotStarted => Exit::Ok.into(),
            Self::Hindered => Exit::Failure.into(),
        }
    }

    /// How `status` ends: whether it serves.
    #[must_use]
    pub fn of_status(self) -> ExitCode {
        match self {
            Self::Serving => Exit::Ok.into(),
            Self::NotReady | Self::Hindered => Exit::Failure.into(),
            Self::NotStarted => Exit::Unavailable.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_asks_for_a_start_and_status_for_a_service() {
        for (description, found, check, status) in [
            ("well", Found::Own("ok\n".to_owned()), 0, 0),
            ("sealed", Found::Own("not ready: sealed\n".to_owned()), 0, 1),
            ("not started", Found::Nobody, 0, 4),
            ("another's", Found::Another("no TLS".to_owned()), 1, 1),
            ("no certificate to tell by", Found::Somebody, 1, 1),
        ] {
            let condition = Condition::of_health(&found);
            let codes = [condition.of_check(), condition.of_status()];
            assert_eq!(codes, [check, status].map(ExitCode::from), "{description}");
        }
    }
}
