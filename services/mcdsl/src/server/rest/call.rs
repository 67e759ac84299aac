//! A method of gRPC called in the process: one message there, one back, neither of them read.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Version, header, request::Parts},
};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::server::prefix::PREFIX;

/// Fields of a request's head that mean the same to gRPC.
const PASSED_ON: [HeaderName; 2] = [header::AUTHORIZATION, header::USER_AGENT];

/// To add a message of about so many bytes to.
pub(super) fn begin(bytes: usize) -> Vec<u8> {
    let mut to = Vec::with_capacity(PREFIX + bytes + 256);
    to.resize(PREFIX, 0);
    to
}

/// The answer of the method at `path` to a message that was added to [`begin`]'s.
///
/// # Errors
/// The method's.
pub(super) async fn unary(
    grpc: &Router,
    path: &'static str,
    parts: Parts,
    mut message: Vec<u8>,
) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len() - PREFIX);
    let length = length.map_err(|_| Status::resource_exhausted("the request is too large"))?;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    let mut request = Request::new(Body::from(message));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = axum::http::Uri::from_static(path);
    *request.extensions_mut() = parts.extensions;
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in PASSED_ON {
        // All there are: that there may be one alone is for others to say.
        for value in parts.headers.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    let Ok(response) = grpc.clone().oneshot(request).await;
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let broken = || Status::internal("the method's answer is none");
    let all = body.collect().await;
    let all = all.map_err(|error| Status::from_error(error.into()))?;
    // It ended without them if it was cut off.
    let trailers = all.trailers().and_then(Status::from_header_map);
    match trailers {
        Some(status) if status.code() == Code::Ok => {}
        Some(status) => return Err(status),
        None => return Err(broken()),
    }
    let mut answer = all.to_bytes();
    let Some((&[compressed, ref length @ ..], message)) = answer.split_first_chunk::<PREFIX>()
    else {
        return Err(broken());
    };
    let whole = u32::try_from(message.len()).is_ok_and(|own| own.to_be_bytes() == *length);
    if compressed != 0 || !whole {
        return Err(broken());
    }
    Ok(answer.split_off(PREFIX))
}
