//! Plain HTTP on a listener of its own: every request is sent to https, if there is a route for its host.

use std::{convert::Infallible, time::Duration};

use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::replayed::Replayed;
use crate::{
    connection::Context,
    hostname::Hostname,
    router::{Miss, Router},
};

/// A request's headers, the wait for them included.
const HEADERS: Duration = Duration::from_secs(10);
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 16 * 1024;

/// Serves a connection to its end.
pub async fn redirect(client: TcpStream, before: Vec<u8>, to: u16, context: &Context) {
    let service = service_fn(|request| {
        let response = answer(&request, to, context);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(Replayed::new(before, client)), service);
    // A broken connection is the client's loss alone.
    let _ = context.abort.run_until_cancelled(serving).await;
}

fn answer(request: &Request<Incoming>, to: u16, context: &Context) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    let location = host(request).ok_or("redirect_bad_host").and_then(|host| {
        redirects(&context.router, to, &host).map_err(|(reason, _)| reason)?;
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        // `OPTIONS *` is of the server as a whole.
        let path = if path.starts_with('/') { path } else { "/" };
        HeaderValue::try_from(location(&host, to, path)).map_err(|_| "redirect_bad_host")
    });
    match location {
        Ok(location) => {
            // RFC 9110 §15.4.9: the method stays.
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(reason) => {
            context.denied.count(reason);
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
    }
    // Its next request is for another connection anyway, and one request cannot come too late for a daemon that drains.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The one that the request is for, of whatever port. A target with a host is answered for that (RFC 9112 §3.2.2).
fn host(request: &Request<Incoming>) -> Option<Hostname> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let field = hosts.next()?.to_str().ok()?.parse::<Authority>().ok()?;
    if hosts.next().is_some() || field.as_str().contains('@') {
        return None;
    }
    let authority = request.uri().authority().unwrap_or(&field);
    authority.host().parse().ok()
}

/// Whether a name is sent on to https on port `to`; else what it is counted by, and why.
///
/// # Errors
/// Nobody is sent on to a name that is not ours.
pub fn redirects(router: &Router, to: u16, host: &Hostname) -> Result<(), (&'static str, Miss)> {
    match router.find(to, host) {
        Err(miss @ (Miss::Unknown | Miss::Disabled)) => Err(("redirect_unknown_host", miss)),
        _ => Ok(()),
    }
}

/// Where a request is sent on to.
pub fn location(host: &Hostname, to: u16, path: &str) -> String {
    match to {
        443 => format!("https://{host}{path}"),
        _ => format!("https://{host}:{to}{path}"),
    }
}
