//! The lines of a head, and of a trailer section.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::{ParserConfig, Status};
use hyper::{
    HeaderMap, Response, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
};

use super::{MAX_FIELDS, Malformed};

/// Whether what stands for a head is of another protocol.
pub(super) fn other_protocol(bytes: &[u8]) -> Option<Malformed> {
    match bytes {
        // A SETTINGS frame, of fewer than 64 KiB and of no stream.
        [0, _, _, 4, 0, 0, 0, 0, 0, ..] => Some(Malformed::Http2),
        [0x15, 3, ..] => Some(Malformed::Tls),
        _ => None,
    }
}

pub(super) fn parse(section: &Bytes) -> Result<Response<()>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, section, &mut fields) {
        Ok(Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        _ => return Err(Malformed::Head),
    }
    let mut response = Response::new(());
    let code = parsed.code.ok_or(Malformed::Head)?;
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| Malformed::Head)?;
    *response.version_mut() = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    *response.headers_mut() = map(section, parsed.headers)?;
    Ok(response)
}

pub(super) fn map(
    section: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Head)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value))
            .map_err(|_| Malformed::Head)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112 §9.3.
pub(super) fn closes(response: &Response<()>) -> bool {
    let says = |wanted: &str| {
        let mut values = response.headers().get_all(header::CONNECTION).iter();
        values.any(|value| {
            let mut options = value.as_bytes().split(|b| *b == b',');
            options.any(|o| o.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
        })
    };
    match response.version() {
        Version::HTTP_10 => !says("keep-alive") || says("close"),
        _ => says("close"),
    }
}
