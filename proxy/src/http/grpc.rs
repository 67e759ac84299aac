//! gRPC over HTTP/2: how long a call may take, and how it is refused.
//!
//! A client of gRPC reads the status of a call in `grpc-status`, and guesses from HTTP's if there is none; some (tonic) read the text of
//! our answer as a message first and report that. So what we refuse is told in its own terms: 200, no message, the status in the head
//! ("Trailers-Only"). Counters and the log have HTTP's.

use std::time::Duration;

use hyper::{
    HeaderMap, Response, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

use super::body::ResponseBody;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A request that is a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// What the client gives it, from its start on.
    pub(super) timeout: Option<Duration>,
}

impl Call {
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let content = parts.headers.get(header::CONTENT_TYPE)?.as_bytes();
        let call = parts.version == Version::HTTP_2 && content.starts_with(b"application/grpc");
        call.then(|| Self {
            timeout: timeout(&parts.headers),
        })
    }
}

/// At most 8 digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status of a call that ends with one of HTTP's: as gRPC's table for clients has it (`http-grpc-status-mapping.md`), but for what we
/// know better than they could.
const fn status(http: StatusCode) -> &'static str {
    match http {
        StatusCode::GATEWAY_TIMEOUT => "4",   // DEADLINE_EXCEEDED
        StatusCode::PAYLOAD_TOO_LARGE => "8", // RESOURCE_EXHAUSTED
        StatusCode::BAD_REQUEST => "13",      // INTERNAL
        StatusCode::REQUEST_TIMEOUT => "1",   // CANCELLED: it was the client that stopped
        StatusCode::NOT_IMPLEMENTED => "12",  // UNIMPLEMENTED
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14", // UNAVAILABLE
        _ => "2",                             // UNKNOWN
    }
}

/// The refusal of a call.
pub(super) fn refusal(
    http: StatusCode,
    message: &'static str,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(STATUS, HeaderValue::from_static(status(http)));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, wanted) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("20m", Some(Duration::from_millis(20))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("2M", Some(Duration::from_secs(120))),
            ("100000000S", None),
            ("+1S", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1é", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            headers.insert(TIMEOUT, value);
            assert_eq!(timeout(&headers), wanted, "{text:?}");
        }
    }
}
