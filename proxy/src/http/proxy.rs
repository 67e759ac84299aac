//! One request: checked, sent to a backend, answered.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
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
    exchange::{Exchange, Fault, Side, gateway_failed},
    headers, tunnel,
    upstream::{ConnectError, Key, Lease},
};
use crate::{health::Unavailable, spec::Protocol, stats::BackendStats};

/// Default of `response_timeout`.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of `retries`.
const RETRIES: u32 = 2;
/// Default of `max_requests`.
const MAX_REQUESTS: u32 = 1024;
/// Attempts of a request that may end at a kept connection that its backend has closed, before they count.
const MAX_STALE: u32 = 2;

/// A refusal: what the client is told, and what the log is.
#[derive(Clone, Copy)]
struct Refusal {
    status: StatusCode,
    fault: Fault,
}

impl Refusal {
    const fn new(status: StatusCode, side: Side, reason: &'static str) -> Self {
        Self {
            status,
            fault: Fault::of(side, reason),
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let authority = authority(&connection, &parts);
    let exchange = Exchange::begin(
        &connection.route,
        connection.client,
        &parts,
        authority.clone(),
        connection.l7().access_log,
    );
    let answered = match check(&connection, &parts, authority, &body) {
        Ok(authority) => {
            let forwarded = connection.forwarded(&authority);
            headers::rewrite(&mut parts, &connection.identity, forwarded);
            forward(&connection, parts, body, &authority, &exchange).await
        }
        Err(refusal) => Err(refusal),
    };
    Ok(answered.unwrap_or_else(|refusal| refuse(refusal, exchange)))
}

fn refuse(refusal: Refusal, exchange: Arc<Exchange>) -> Response<ResponseBody> {
    exchange.failed(refusal.status, refusal.fault);
    let text = match refusal.status {
        StatusCode::BAD_REQUEST => "bad request\n",
        StatusCode::PAYLOAD_TOO_LARGE => "the request is too large\n",
        StatusCode::MISDIRECTED_REQUEST => "this connection is not for that host\n",
        StatusCode::NOT_IMPLEMENTED => "not implemented\n",
        StatusCode::REQUEST_TIMEOUT => "the request took too long\n",
        StatusCode::SERVICE_UNAVAILABLE => "no backend is available\n",
        StatusCode::GATEWAY_TIMEOUT => "the backend did not answer in time\n",
        _ => "the backend failed\n",
    };
    let mut response = Response::new(ResponseBody::text(text, exchange));
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
    authority: Option<Authority>,
    body: &Incoming,
) -> Result<Authority, Refusal> {
    let client = |status, reason| -> Refusal { Refusal::new(status, Side::Client, reason) };
    let authority = authority.ok_or_else(|| client(StatusCode::BAD_REQUEST, "bad_host"))?;
    if connection.known() != Some(&authority) {
        // `http` takes anything for a port.
        let port = authority.port_u16().is_some();
        if authority.as_str().contains('@')
            || !(port || authority.as_str().len() == authority.host().len())
        {
            return Err(client(StatusCode::BAD_REQUEST, "bad_host"));
        }
        // A certificate may be good for more names than the route: the connection is not (RFC 9110 §7.4).
        if !connection.serves(authority.host()) {
            return Err(client(StatusCode::MISDIRECTED_REQUEST, "misdirected"));
        }
    }
    if parts.method == Method::CONNECT && tunnel::protocol(parts).is_none() {
        return Err(client(StatusCode::NOT_IMPLEMENTED, "connect_method"));
    }
    let most = connection.l7().max_body.unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(client(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_body_too_large",
        ));
    }
    Ok(authority)
}

/// Sends it to a backend and hands on the response.
async fn forward(
    connection: &Arc<Connection>,
    mut parts: Parts,
    incoming: Incoming,
    authority: &Authority,
    exchange: &Arc<Exchange>,
) -> Result<Response<ResponseBody>, Refusal> {
    let l7 = connection.l7();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let tunnel = (incoming.is_end_stream())
        .then(|| tunnel::prepare(&mut parts, l7.protocol))
        .flatten();
    to_backend(&mut parts, l7.protocol, authority)?;
    let most = l7.max_body.unwrap_or(u64::MAX);
    let body = match &tunnel {
        Some(_) => RequestBody::empty(),
        None => RequestBody::new(incoming, most, connection.limits.idle, Arc::clone(exchange)),
    };
    // Only what has no body can be sent again: a body is read once.
    let repeatable = headers::repeatable(&parts.method) && body.is_end_stream() && tunnel.is_none();
    let outgoing = Outgoing {
        parts,
        authority,
        body: Some(body),
        repeatable,
    };
    let (response, lease) = deliver(connection, outgoing, exchange).await?;
    let limits = connection.limits;
    tunnel::respond(
        response,
        lease,
        tunnel.zip(upgrade),
        limits,
        exchange,
        connection,
    )
    .map_err(|fault| Refusal {
        status: StatusCode::BAD_GATEWAY,
        fault,
    })
}

/// A request as a backend may have it.
struct Outgoing<'a> {
    parts: Parts,
    authority: &'a Authority,
    /// `None`: it left.
    body: Option<RequestBody>,
    /// It has no body and may be done twice.
    repeatable: bool,
}

/// Sends it to one backend after the other until one responds. A request is sent again if it never left, or if it may be done twice;
/// and never once a response has begun.
async fn deliver(
    connection: &Connection,
    mut request: Outgoing<'_>,
    exchange: &Exchange,
) -> Result<(Response<Option<Incoming>>, Lease), Refusal> {
    let (route, l7) = (&connection.route, connection.l7());
    let most = u64::from(l7.max_requests.unwrap_or(MAX_REQUESTS));
    let (mut left, mut stale) = (l7.retries.unwrap_or(RETRIES) + 1, MAX_STALE);
    let (mut tried, mut last) = (Vec::new(), None);
    while left > 0 {
        let backend = match route.take(&tried, most) {
            Ok(backend) => backend,
            Err(none) => {
                last.get_or_insert(unavailable(none));
                break;
            }
        };
        let stats = Arc::clone(&backend.of().0);
        exchange.attempt(backend);
        let failed = match attempt(connection, &stats, &mut request, exchange).await {
            Ok(sent) => return Ok(sent),
            Err(failed) => failed,
        };
        if let Some(fault) = exchange.fault() {
            // It was the client's body that broke.
            exchange.attempt_failed(None);
            let status = match fault.reason {
                "request_body_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
                "request_body_timeout" => StatusCode::REQUEST_TIMEOUT,
                _ => StatusCode::BAD_REQUEST,
            };
            return Err(Refusal { status, fault });
        }
        if failed.stale && stale > 0 {
            stale -= 1;
            exchange.attempt_failed(None);
        } else {
            left -= 1;
            let fault = failed.refusal.fault;
            exchange.attempt_failed((fault.side == Side::Backend).then_some(fault.reason));
            tried.push(stats.address);
        }
        last = Some(failed.refusal);
        if request.body.is_none() {
            if !(failed.retry && request.repeatable) {
                break;
            }
            request.body = Some(RequestBody::empty());
        }
    }
    // There was an attempt, or no backend for it.
    Err(last.unwrap_or(unavailable(Unavailable::Down)))
}

fn unavailable(none: Unavailable) -> Refusal {
    let side = match none {
        Unavailable::Down => Side::Backend,
        Unavailable::Full => Side::Proxy,
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, side, none.reason())
}

/// An attempt that came to nothing.
struct Failed {
    refusal: Refusal,
    /// If it may be done twice, trying again may help.
    retry: bool,
    /// Only a kept connection was dead: the backend itself may be well.
    stale: bool,
}

async fn attempt(
    connection: &Connection,
    backend: &BackendStats,
    request: &mut Outgoing<'_>,
    exchange: &Exchange,
) -> Result<(Response<Option<Incoming>>, Lease), Failed> {
    let l7 = connection.l7();
    let key = Key {
        site: connection.loaded.number,
        backend: backend.address,
    };
    let bad = |reason| Refusal::new(StatusCode::BAD_GATEWAY, Side::Backend, reason);
    let taken = Lease::take(
        key,
        l7.protocol,
        &connection.loaded,
        connection.limits.connect,
    )
    .await;
    let (mut lease, connect) = match taken {
        Ok(taken) => taken,
        Err(error) => {
            return Err(Failed {
                refusal: match error {
                    ConnectError::Local => {
                        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Side::Proxy, error.reason())
                    }
                    _ => bad(error.reason()),
                },
                retry: true,
                stale: false,
            });
        }
    };
    if let Some(took) = connect {
        backend.connections.fetch_add(1, Relaxed);
        connection.route.stats.connect.observe(took);
        exchange.connected(took);
    }
    let limit = l7.response_timeout.unwrap_or(RESPONSE_TIMEOUT);
    let sending = lease.send(&request.parts, request.authority, &mut request.body);
    match timeout(limit, sending).await {
        Ok(Ok(response)) => {
            exchange.responded(response.status());
            if gateway_failed(response.status()) {
                connection.route.failed(backend, "backend_gateway_status");
            }
            Ok((response, lease))
        }
        Ok(Err(error)) => {
            tracing::debug!(backend = %backend.address, %error, "a request failed");
            Err(Failed {
                refusal: bad(error.reason()),
                retry: !error.is_malformed(),
                stale: !error.is_malformed() && lease.stale(),
            })
        }
        Err(_) => Err(Failed {
            refusal: Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                Side::Backend,
                "response_timeout",
            ),
            retry: false,
            stale: false,
        }),
    }
}

/// As the backend's protocol writes it.
fn to_backend(parts: &mut Parts, protocol: Protocol, authority: &Authority) -> Result<(), Refusal> {
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
