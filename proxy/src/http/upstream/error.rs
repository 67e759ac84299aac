//! What goes wrong between a request and its backend.

use std::io;

use super::{http1, http2};
use crate::{health::state::Why, http::response::Malformed};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("refused")]
    Refused,
    #[error("unreachable")]
    Unreachable,
    #[error("timed out")]
    TimedOut,
    #[error("TLS: {0}")]
    Tls(Why),
    #[error("it does not speak the protocol")]
    Protocol,
    /// What it says has no frames, as HTTP/1.1 and TLS have none.
    #[error(
        "it does not answer in HTTP/2: if it speaks HTTP/1.1, set the route's protocol to http1 (`--protocol http1`, in the file `l7.protocol`), if TLS, to h2"
    )]
    NotHttp2,
    /// Not the backend's fault.
    #[error("this machine has no descriptor, port or memory left for it")]
    Local,
}

impl ConnectError {
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "backend_refused",
            Self::Unreachable => "backend_unreachable",
            Self::TimedOut => "backend_connect_timeout",
            Self::Tls(_) => "backend_tls",
            Self::Protocol | Self::NotHttp2 => "backend_protocol",
            Self::Local => "local_resources",
        }
    }
}

impl From<&io::Error> for ConnectError {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL,
            ) => Self::Local,
            _ => Self::Unreachable,
        }
    }
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum SendError {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error(transparent)]
    Http2(#[from] http2::Error),
}

impl SendError {
    pub(in crate::http) fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Http1(http1::Error::TimedOut) | Self::Http2(http2::Error::TimedOut)
        )
    }

    /// It is not what was asked for that the backend lacks, but the means: it is well.
    pub(in crate::http) fn is_no_tunnel(&self) -> bool {
        matches!(self, Self::Http2(http2::Error::NoTunnels))
    }

    /// The client broke the request off.
    pub(in crate::http) fn is_of_client(&self) -> bool {
        matches!(
            self,
            Self::Http1(http1::Error::Request) | Self::Http2(http2::Error::Request)
        )
    }

    pub(in crate::http) fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => matches!(error, http1::Error::Malformed(_)),
            Self::Http2(http2::Error::Malformed(_)) => true,
            // What h2 takes offence at in this very response; the end of a whole connection may be another's fault.
            Self::Http2(_) => self.h2().is_some_and(|e| e.is_library() && e.is_reset()),
        }
    }

    /// It speaks another protocol than the route says.
    pub(in crate::http) fn is_protocol(&self) -> bool {
        matches!(
            self,
            Self::Http1(http1::Error::Malformed(Malformed::Http2 | Malformed::Tls))
        )
    }

    /// Whether the backend says that it did nothing of the request: REFUSED_STREAM, or GOAWAY with an earlier stream (RFC 9113 §8.7).
    /// h2 gives a GOAWAY of the backend as the error of later streams alone.
    pub(in crate::http) fn has_not_begun(&self) -> bool {
        self.h2().is_some_and(|error| {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            error.is_remote() && (error.is_go_away() || refused)
        })
    }

    fn h2(&self) -> Option<&h2::Error> {
        match self {
            Self::Http2(http2::Error::Http2(error)) => Some(error),
            _ => None,
        }
    }

    pub(in crate::http) fn reason(&self) -> &'static str {
        if self.is_timeout() {
            return "response_timeout";
        }
        match self {
            _ if self.is_protocol() => "backend_protocol",
            Self::Http1(http1::Error::Malformed(Malformed::TooLarge)) => "backend_head_too_large",
            Self::Http1(http1::Error::Malformed(_)) | Self::Http2(http2::Error::Malformed(_)) => {
                "backend_malformed"
            }
            Self::Http1(http1::Error::Closed) => "backend_closed",
            Self::Http2(http2::Error::NoTunnels) => "backend_refused_upgrade",
            _ if self.h2().is_some_and(h2::Error::is_library) => "backend_malformed",
            _ if self.has_not_begun() => "backend_not_begun",
            // What h2 says of streams whose connection has ended.
            _ if self.h2().and_then(h2::Error::get_io).is_some_and(ended) => "backend_closed",
            _ => "backend_reset",
        }
    }
}

fn ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_the_backends_fault() {
        for (errno, reason) in [
            (libc::ECONNREFUSED, "backend_refused"),
            (libc::EHOSTUNREACH, "backend_unreachable"),
            (libc::ETIMEDOUT, "backend_unreachable"),
            (libc::EMFILE, "local_resources"),
            (libc::EADDRNOTAVAIL, "local_resources"),
        ] {
            let error = ConnectError::from(&io::Error::from_raw_os_error(errno));
            assert_eq!(error.reason(), reason, "errno {errno}");
        }
    }
}
