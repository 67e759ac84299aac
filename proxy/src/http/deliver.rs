//! A request on its way to a backend: which, how often, and what may be sent again.
//!
//! What never left may go to any backend, whatever it is. What a backend may have seen is sent again if that may be done twice, or if
//! the backend says that it has not begun with it (RFC 9113 §8.7); and only as far as the route's budget goes. Nothing is once a
//! response has begun.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    http::request::Parts,
};
use tokio::time::timeout;

use super::{
    Connection,
    body::{Replay, RequestBody},
    exchange::{Exchange, Side, gateway_failed},
    headers,
    proxy::Refusal,
    upstream::{ConnectError, Key, Lease, has_not_begun},
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

/// What a request is sent again from.
pub(super) struct Again {
    parts: Parts,
    body: Option<Replay>,
    /// It may be done twice.
    repeatable: bool,
}

impl Again {
    /// `None` if there is no case for it.
    pub(super) fn of(
        parts: &Parts,
        body: &RequestBody,
        protocol: Protocol,
        tunnel: bool,
    ) -> Option<Self> {
        let empty = body.is_end_stream();
        // A body that a backend has begun to read is kept for HTTP/2 alone, whose backends can say that they did nothing.
        let repeatable = headers::repeatable(&parts.method) && empty && !tunnel;
        (repeatable || protocol != Protocol::Http1).then(|| Self {
            parts: parts.clone(),
            body: (!empty).then(|| body.record()).flatten(),
            repeatable,
        })
    }

    fn request(&self, not_begun: bool) -> Option<Request<RequestBody>> {
        if !not_begun && !self.repeatable {
            return None;
        }
        let body = match &self.body {
            None => RequestBody::empty(),
            Some(replay) => replay.again()?,
        };
        Some(Request::from_parts(self.parts.clone(), body))
    }
}

/// Sends it to one backend after the other until one responds.
pub(super) async fn deliver(
    connection: &Connection,
    request: Request<RequestBody>,
    again: Option<Again>,
    exchange: &Exchange,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let (route, l7) = (&connection.route, connection.l7());
    let most = u64::from(l7.max_requests.unwrap_or(MAX_REQUESTS));
    share(connection, most, exchange)?;
    let (mut left, mut stale) = (l7.retries.unwrap_or(RETRIES) + 1, MAX_STALE);
    let (mut request, mut tried) = (request, Vec::new());
    let mut last = None;
    loop {
        let backend = match route.take(&tried, most) {
            Ok(backend) => backend,
            Err(none) => return Err(last.unwrap_or(unavailable(none))),
        };
        let stats = Arc::clone(&backend.of().0);
        exchange.attempt(backend);
        let failed = match attempt(connection, &stats, request, exchange).await {
            Ok(sent) => {
                if let Some(body) = again.as_ref().and_then(|again| again.body.as_ref()) {
                    body.stop();
                }
                return Ok(sent);
            }
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
        let free = failed.stale && stale > 0;
        if free {
            stale -= 1;
            exchange.attempt_failed(None);
        } else {
            left -= 1;
            let fault = failed.refusal.fault;
            exchange.attempt_failed((fault.side == Side::Backend).then_some(fault.reason));
            // Where there is no other, another connection to it may do.
            if !failed.not_begun || tried.len() + 1 < route.backends.len() {
                tried.push(stats.address);
            }
        }
        last = Some(failed.refusal);
        let next = match failed.unsent {
            Some(unsent) => Some(unsent),
            None if failed.retry => again.as_ref().and_then(|a| a.request(failed.not_begun)),
            None => None,
        }
        .filter(|_| left > 0);
        let (Some(next), sent) = (next, failed.sent) else {
            return Err(failed.refusal);
        };
        if sent && !free && !within_budget(connection) {
            return Err(failed.refusal);
        }
        request = next;
    }
}

/// A place for one more request of the client: it may have as many under way as are free, so that there are always some for others,
/// however many are greedy (dynamic thresholds, Choudhury and Hahne 1998).
fn share(connection: &Connection, most: u64, exchange: &Exchange) -> Result<(), Refusal> {
    let route = &connection.route;
    let limit = match route.free(most) {
        // The choice of a backend knows more of it.
        0 => u32::MAX,
        free => u32::try_from(free + 1).unwrap_or(u32::MAX),
    };
    let clients = &route.stats.http.clients;
    let place = clients.count_below(connection.client.ip(), limit);
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Side::Proxy, "client_share");
    exchange.hold(place.ok_or(refusal)?);
    Ok(())
}

fn within_budget(connection: &Connection) -> bool {
    let http = &connection.route.stats.http;
    let drawn = http.budget.draw();
    let counter = if drawn {
        &http.retries
    } else {
        &http.retries_denied
    };
    counter.fetch_add(1, Relaxed);
    drawn
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
    /// It never left: any backend may have it.
    unsent: Option<Request<RequestBody>>,
    /// A backend may have seen it.
    sent: bool,
    /// The backend has seen it and says that it did nothing.
    not_begun: bool,
    /// If it may be done twice, trying again may help.
    retry: bool,
    /// Only a kept connection was dead: the backend itself may be well.
    stale: bool,
}

async fn attempt(
    connection: &Connection,
    backend: &BackendStats,
    request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<(Response<Incoming>, Lease), Failed> {
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
                unsent: Some(request),
                sent: false,
                not_begun: false,
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
    match timeout(limit, lease.send(request)).await {
        Ok(Ok(response)) => {
            exchange.responded(response.status());
            if gateway_failed(response.status()) {
                connection.route.failed(backend, "backend_gateway_status");
            }
            Ok((response, lease))
        }
        Ok(Err(mut error)) => {
            let unsent = error.take_message();
            let error = error.into_error();
            tracing::debug!(backend = %backend.address, %error, "a request failed");
            let not_begun = has_not_begun(&error);
            if not_begun {
                lease.retire();
            }
            let reason = if error.is_parse_too_large() {
                "backend_head_too_large"
            } else if error.is_parse() {
                "backend_malformed"
            } else if not_begun {
                "backend_not_begun"
            } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
                "backend_closed"
            } else {
                "backend_reset"
            };
            Err(Failed {
                refusal: bad(reason),
                sent: unsent.is_none(),
                unsent,
                not_begun,
                retry: !error.is_parse(),
                stale: !error.is_parse() && lease.stale(),
            })
        }
        Err(_) => Err(Failed {
            refusal: Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                Side::Backend,
                "response_timeout",
            ),
            unsent: None,
            sent: true,
            not_begun: false,
            retry: false,
            stale: false,
        }),
    }
}
