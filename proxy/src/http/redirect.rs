//! Plain HTTP on a listener of its own: every request is sent to https, if there is a route for its host.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    downstream::unread,
    exchange::{ACCESS, Side},
    guard::{Gate, Guarded},
    headers,
    replayed::Replayed,
};
use crate::{
    connection::Context,
    hostname::Hostname,
    router::{Miss, Router},
};

/// A request is waited for.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 16 * 1024;

/// Who asks to be sent on, and where.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    /// The client.
    pub client: SocketAddr,
    /// The listener's.
    pub port: u16,
    /// Of https.
    pub to: u16,
}

/// Serves a connection to its end. `before` is what was read of it.
pub async fn redirect(client: TcpStream, before: Vec<u8>, asks: Asks, context: &Context) {
    let gate = Arc::new(Gate::default());
    let stream = Guarded::new(Replayed::new(before, client), Arc::clone(&gate)).with_idle(IDLE);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, asks, context);
        // It is the last one, whatever it asked for.
        gate.decide(false);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        // The guard has its own timeouts.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // A broken connection is the client's loss alone.
    if let Some(Err(error)) = context.abort.run_until_cancelled(serving).await
        && let Some((status, reason)) = unread(&error, &gate)
    {
        context.denied.count(reason);
        told(asks, None, status, Some(reason), context);
    }
}

/// Counts what a client was told, and logs it.
fn told(
    asks: Asks,
    request: Option<&Request<Incoming>>,
    status: StatusCode,
    reason: Option<&'static str>,
    context: &Context,
) {
    context.redirects.count((asks.port, status.as_u16()));
    if !context.redirect_log.next() {
        return;
    }
    let host = request.and_then(|request| {
        let field = || request.headers().get(header::HOST)?.to_str().ok();
        request.uri().host().or_else(field)
    });
    tracing::info!(
        target: ACCESS,
        client = %asks.client,
        port = asks.port,
        method = request.map(|r| r.method().as_str()),
        host,
        // Without the query, which often carries secrets.
        path = request.map(|r| r.uri().path()),
        version = request.map(|r| headers::version(r.version())),
        status = status.as_u16(),
        side = reason.map(|_| Side::Client.name()),
        reason,
    );
}

fn answer(request: &Request<Incoming>, asks: Asks, context: &Context) -> Response<Empty<Bytes>> {
    let to = asks.to;
    let mut response = Response::new(Empty::new());
    let location = host(request).ok_or("redirect_bad_host").and_then(|host| {
        redirects(&context.router, to, &host).map_err(|(reason, _)| reason)?;
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        // `OPTIONS *` is of the server as a whole.
        let path = if path.starts_with('/') { path } else { "/" };
        HeaderValue::try_from(location(&host, to, path)).map_err(|_| "redirect_bad_host")
    });
    // RFC 9110 §15.4.9: the method stays.
    let (status, reason) = match location {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            (StatusCode::PERMANENT_REDIRECT, None)
        }
        Err(reason) => {
            context.denied.count(reason);
            (StatusCode::NOT_FOUND, Some(reason))
        }
    };
    *response.status_mut() = status;
    told(asks, Some(request), status, reason, context);
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
