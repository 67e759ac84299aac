//! One request: checked, sent to a backend, answered.

use std::sync::Arc;

use hyper::{
    HeaderMap, Method, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
    http::{
        request::Parts,
        uri::{Authority, PathAndQuery, Scheme},
    },
    upgrade::OnUpgrade,
};
use tokio::time::timeout;

use super::{
    Connection,
    body::{RequestBody, ResponseBody},
    deliver::{Outgoing, deliver},
    exchange::{Exchange, Fault, GRPC_DEADLINE, Side},
    grpc,
    headers::{self, Told},
    tunnel::{self, Tunnel},
};
use crate::spec::Protocol;

/// A refusal: what the client is told, and what the log is.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) fault: Fault,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, side: Side, reason: &'static str) -> Self {
        Self {
            status,
            fault: Fault::of(side, reason),
        }
    }
}

/// Answers one request.
///
/// What is here and below takes references where it can: a future has room for its arguments beside what becomes of them.
pub(super) async fn answer(
    connection: &Arc<Connection>,
    parts: &mut Parts,
    body: Incoming,
) -> Response<ResponseBody> {
    let call = grpc::Call::of(parts);
    let exchange = Exchange::begin(connection, parts, authority(connection, parts));
    let (most, idle) = (connection.l7().max_body, connection.limits.idle);
    let body = RequestBody::new(body, most.unwrap_or(u64::MAX), idle, Arc::clone(&exchange));
    // A call over gRPC is refused by a head that ends the stream, which its clients know.
    let rest = (parts.version == Version::HTTP_2 && call.is_none()).then(|| body.rest());
    let refusal = match prepare(connection, parts, body, &exchange) {
        Err(refusal) => refusal,
        Ok(mut prepared) => match forward(connection, &mut prepared, call, &exchange).await {
            Ok(response) => return response,
            Err(refusal) => refusal,
        },
    };
    let mut response = refuse(refusal, call, exchange);
    if let Some(rest) = rest.flatten() {
        response.body_mut().after(rest);
    }
    response
}

/// What the client reads of it.
fn words(refusal: Refusal) -> &'static str {
    match refusal.status {
        StatusCode::BAD_REQUEST => "bad request\n",
        StatusCode::PAYLOAD_TOO_LARGE => "the request is too large\n",
        StatusCode::MISDIRECTED_REQUEST => "this connection is for another host\n",
        StatusCode::NOT_IMPLEMENTED => "not implemented\n",
        StatusCode::REQUEST_TIMEOUT => "the request took too long\n",
        StatusCode::SERVICE_UNAVAILABLE => match refusal.fault.side {
            Side::Proxy => "too much is under way here; try again soon\n",
            _ => "no backend is available\n",
        },
        StatusCode::GATEWAY_TIMEOUT => "there was no answer in time\n",
        _ => "the backend failed\n",
    }
}

fn refuse(
    refusal: Refusal,
    call: Option<grpc::Call>,
    exchange: Arc<Exchange>,
) -> Response<ResponseBody> {
    exchange.failed(refusal.status, refusal.fault);
    let text = words(refusal);
    if call.is_some() {
        let body = ResponseBody::text("", exchange);
        return grpc::refusal(refusal.status, text.trim_end(), body);
    }
    // Over HTTP/2 a body would be an error of the whole stream.
    let bodiless = exchange.is_bodiless(refusal.status);
    let body = if bodiless { "" } else { text };
    let mut response = Response::new(ResponseBody::text(body, exchange));
    if bodiless {
        (response.headers_mut()).insert(header::CONTENT_LENGTH, text.len().into());
    }
    *response.status_mut() = refusal.status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if refusal.fault.side == Side::Client {
        // What is left of its body is not waited for.
        (response.headers_mut()).insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Of the URI (HTTP/2, absolute form) or the Host field, which must agree (RFC 9112 §3.2).
fn authority(connection: &Connection, parts: &Parts) -> Option<Authority> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let host: Option<Authority> = match host {
        None => None,
        Some(host) => match connection.known() {
            Some(known) if known.as_str().as_bytes() == host.as_bytes() => Some(known.clone()),
            _ => Some(host.to_str().ok()?.parse().ok()?),
        },
    };
    match (parts.uri.authority(), host) {
        (Some(uri), Some(host)) if *uri != host => None,
        (Some(uri), _) => Some(uri.clone()),
        (None, host) => host,
    }
}

fn check(
    connection: &Connection,
    parts: &Parts,
    authority: &Authority,
    body: &RequestBody,
) -> Result<(), Refusal> {
    let client = |status, reason| -> Refusal { Refusal::new(status, Side::Client, reason) };
    if !connection.is_for(authority) {
        // `http` takes anything for a port, and `+80` for a number.
        let digits =
            |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
        let port = authority.port().is_some_and(|port| digits(port.as_str()));
        if authority.as_str().contains('@')
            || !(port || authority.as_str().len() == authority.host().len())
        {
            return Err(client(StatusCode::BAD_REQUEST, "bad_host"));
        }
        // A certificate may be good for more names than the route: the connection is not (RFC 9110 §7.4).
        if !connection.serves(authority) {
            return Err(client(StatusCode::MISDIRECTED_REQUEST, "misdirected"));
        }
    }
    if parts.method == Method::CONNECT && tunnel::protocol(parts).is_none() {
        return Err(client(StatusCode::NOT_IMPLEMENTED, "connect_method"));
    }
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(client(StatusCode::BAD_REQUEST, "bad_target"));
    }
    let most = connection.l7().max_body.unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(client(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_body_too_large",
        ));
    }
    Ok(())
}

/// A request that may go to a backend.
struct Prepared<'a> {
    outgoing: Outgoing<'a>,
    /// Boxed: few have one.
    tunnel: Option<Box<Tunnel>>,
    upgrade: Option<OnUpgrade>,
}

/// Checks it, and writes it as the backend is to have it.
fn prepare<'a>(
    connection: &Connection,
    parts: &'a mut Parts,
    body: RequestBody,
    exchange: &'a Arc<Exchange>,
) -> Result<Prepared<'a>, Refusal> {
    // Before it is looked whether there may be more, or it could begin unseen.
    let under_way = connection.requests.token();
    if connection.requests.is_closed() {
        let status = StatusCode::MISDIRECTED_REQUEST;
        return Err(Refusal::new(status, Side::Client, "told_to_go"));
    }
    let no_host = Refusal::new(StatusCode::BAD_REQUEST, Side::Client, "bad_host");
    let authority = exchange.authority().ok_or(no_host)?;
    check(connection, parts, authority, &body)?;
    exchange.hold_open(under_way);
    let imitations = headers::rewrite(parts);
    if imitations > 0 {
        exchange.imitated(imitations);
    }
    let l7 = connection.l7();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let tunnel = (body.is_end_stream())
        .then(|| tunnel::prepare(parts, l7.protocol))
        .flatten();
    if parts.method == Method::CONNECT && tunnel.is_none() {
        let (status, side) = (StatusCode::NOT_IMPLEMENTED, Side::Client);
        return Err(Refusal::new(status, side, "connect_protocol"));
    }
    let told = connection.told(authority);
    to_backend(parts, l7.protocol, authority, &told)?;
    Ok(Prepared {
        outgoing: Outgoing::new(parts, told, body, l7.protocol, tunnel.is_some()),
        tunnel: tunnel.map(Box::new),
        upgrade,
    })
}

/// Sends it to a backend and hands on the response.
async fn forward(
    connection: &Connection,
    prepared: &mut Prepared<'_>,
    call: Option<grpc::Call>,
    exchange: &Arc<Exchange>,
) -> Result<Response<ResponseBody>, Refusal> {
    let delivering = deliver(connection, &mut prepared.outgoing, exchange);
    let (response, lease) = match call.and_then(|call| call.timeout) {
        None => delivering.await?,
        // It is the client's clock: its end says nothing of the backend. Boxed, or all would have room for it.
        Some(limit) => {
            let delivered = Box::pin(timeout(limit, delivering)).await;
            delivered.unwrap_or_else(|_| {
                let (status, side) = (StatusCode::GATEWAY_TIMEOUT, Side::Client);
                Err(Refusal::new(status, side, GRPC_DEADLINE))
            })?
        }
    };
    let tunnel = prepared.tunnel.take().zip(prepared.upgrade.take());
    tunnel::respond(response, lease, tunnel, exchange, connection).map_err(|fault| Refusal {
        status: StatusCode::BAD_GATEWAY,
        fault,
    })
}

/// As the backend's protocol writes it; for HTTP/1.1, what it is told is written out already.
fn to_backend(
    parts: &mut Parts,
    protocol: Protocol,
    authority: &Authority,
    told: &Told,
) -> Result<(), Refusal> {
    if protocol == Protocol::Http1 {
        join_cookies(&mut parts.headers);
        return Ok(());
    }
    let bad = Refusal::new(StatusCode::BAD_REQUEST, Side::Client, "bad_target");
    let path = parts
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = hyper::http::uri::Parts::default();
    uri.path_and_query = Some(path);
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(authority.clone());
    parts.version = Version::HTTP_2;
    told.insert(&mut parts.headers);
    parts.headers.remove(header::HOST);
    parts.uri = Uri::from_parts(uri).map_err(|_| bad)?;
    Ok(())
}

/// HTTP/2 may split the field (RFC 9113 §8.2.3), HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(header::COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}
