//! gRPC's errors as failures of a command.

use std::time::Duration;

use tonic::{Code, Response, Status};

use super::{Exit, Failure, chain};
use crate::human;

/// Seconds to wait before the next attempt (RFC 9110 §10.2.3, its first form).
const RETRY_AFTER: &str = "retry-after";

/// What a call that was answered by an error makes the command end with: the message, the exit code that scripts branch on, and what
/// there is to do.
#[must_use]
pub fn status_failure(status: &Status) -> Failure {
    let exit = match status.code() {
        Code::NotFound => Exit::NotFound,
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => Exit::Unavailable,
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::ResourceExhausted => Exit::Refused,
        _ => Exit::Failure,
    };
    let mut message = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    // Of what did not come from the server: why.
    if let Some(cause) = std::error::Error::source(status) {
        let why = chain(cause);
        if !message.contains(&why) {
            message = format!("{message}: {why}");
        }
    }
    let failure = Failure::new(exit, message);
    let wait = status.metadata().get(RETRY_AFTER);
    let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok());
    match (status.code(), wait) {
        (_, Some(seconds)) => failure.hint(format_args!(
            "try again in {}",
            human::duration(Duration::from_secs(seconds))
        )),
        (Code::Unauthenticated, None) => {
            failure.hint("log in (command `login`), or name another token: there is none, or it is not valid any more")
        }
        (Code::Unimplemented, None) => {
            failure.hint("the service is of another version than this tool, or this is the port of another")
        }
        _ => failure,
    }
}

/// Awaits an answer.
///
/// # Errors
/// As [`status_failure`] says.
pub async fn call<T>(
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match answer.await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(status_failure(&status)),
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    #[test]
    fn codes_are_exit_codes() {
        for (code, exit) in [
            (Code::NotFound, Exit::NotFound),
            (Code::Unavailable, Exit::Unavailable),
            (Code::DeadlineExceeded, Exit::Unavailable),
            (Code::PermissionDenied, Exit::Refused),
            (Code::FailedPrecondition, Exit::Refused),
            (Code::AlreadyExists, Exit::Refused),
            (Code::ResourceExhausted, Exit::Refused),
            (Code::Unauthenticated, Exit::Refused),
            (Code::InvalidArgument, Exit::Usage),
            (Code::Internal, Exit::Failure),
            (Code::Unknown, Exit::Failure),
        ] {
            let failure = status_failure(&Status::new(code, "why"));
            assert_eq!((failure.exit, failure.message), (exit, "why".into()));
            let hinted = code == Code::Unauthenticated;
            assert_eq!(failure.hint.is_some(), hinted, "{code:?}");
        }
    }

    #[test]
    fn it_says_when_to_try_again() {
        for (description, header, hint) in [
            ("seconds", Some("90"), Some("try again in 1m30s")),
            ("none", None, None),
            ("a date", Some("Fri, 31 Dec 1999 23:59:59 GMT"), None),
        ] {
            let mut metadata = MetadataMap::new();
            if let Some(value) = header {
                metadata.insert(RETRY_AFTER, value.parse().unwrap());
            }
            let status =
                Status::with_metadata(Code::ResourceExhausted, "too many attempts", metadata);
            let failure = status_failure(&status);
            assert_eq!(failure.hint.as_deref(), hint, "{description}");
        }
    }

    #[test]
    fn nothing_said_is_the_codes_description() {
        let failure = status_failure(&Status::new(Code::NotFound, ""));
        assert_eq!(failure.message, Code::NotFound.description());
    }
}
