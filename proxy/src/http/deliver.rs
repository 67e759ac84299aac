//! A request on its way to a backend: which, how often, and what may be sent again.
//!
//! What never left may go to any backend, whatever it is. What a backend may have seen is sent again if that may be done twice, or if
//! the backend says that it has not begun with it (RFC 9113 §8.7); and only as far as the route's budget goes. Nothing is once a
//! response has begun.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{Response, StatusCode, body::Body as _, http::request::Parts};

use super::{
    Connection,
    body::{Replay, RequestBody},
    exchange::{Exchange, Side, gateway_failed},
    headers::{self, Told},
    proxy::Refusal,
    upstream::{ConnectError, Http2Body, Lease},
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

/// A request as a backend may have it.
pub(super) struct Outgoing<'a> {
    parts: &'a Parts,
    told: Arc<Told>,
    /// `None`: it left.
    body: Option<RequestBody>,
    /// What another body is made from.
    replay: Option<Replay>,
    empty: bool,
    /// It may be done twice.
    repeatable: bool,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        told: Arc<Told>,
        body: RequestBody,
        protocol: Protocol,
        tunnel: bool,
    ) -> Self {
        let empty = body.is_end_stream();
        // A body that a backend has begun to read is kept for HTTP/2 alone, whose backends can say that they did nothing.
        let keeps = !empty && protocol != Protocol::Http1;
        Self {
            repeatable: headers::repeatable(&parts.method) && empty && !tunnel,
            parts,
            told,
            replay: keeps.then(|| body.record()).flatten(),
            body: Some(body),
            empty,
        }
    }

    /// Makes it ready to be sent again, if that may be.
    fn renew(&mut self, not_begun: bool) -> bool {
        if self.body.is_none() && (not_begun || self.repeatable) {
            self.body = match &self.replay {
                None => self.empty.then(RequestBody::empty),
                Some(replay) => replay.again(),
            };
        }
        self.body.is_some()
    }
}

/// Sends it to one backend after the other until one responds.
pub(super) async fn deliver(
    connection: &Connection,
    request: &mut Outgoing<'_>,
    exchange: &Exchange,
) -> Result<(Response<Option<Http2Body>>, Lease), Refusal> {
    let (route, l7) = (&connection.route, connection.l7());
    let most = u64::from(l7.max_requests.unwrap_or(MAX_REQUESTS));
    share(connection, most, exchange)?;
    let (mut left, mut stale) = (l7.retries.unwrap_or(RETRIES) + 1, MAX_STALE);
    let (mut tried, mut last) = (Vec::new(), None);
    loop {
        let backend = match route.take(&tried, most) {
            Ok(backend) => backend,
            Err(none) => return Err(last.unwrap_or(unavailable(none))),
        };
        let stats = Arc::clone(&backend.of().0);
        exchange.attempt(backend);
        let failed = match attempt(connection, &stats, request, exchange).await {
            Ok(sent) => {
                if let Some(body) = &request.replay {
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
        let sent = request.body.is_none();
        let goes_on = left > 0 && failed.retry && request.renew(failed.not_begun);
        if !goes_on || (sent && !free && !within_budget(connection)) {
            return Err(failed.refusal);
        }
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
    let place = connection.source.count_below(limit);
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
    request: &mut Outgoing<'_>,
    exchange: &Exchange,
) -> Result<(Response<Option<Http2Body>>, Lease), Failed> {
    let l7 = connection.l7();
    let bad = |reason| Refusal::new(StatusCode::BAD_GATEWAY, Side::Backend, reason);
    let (mut lease, connect) = match Lease::take(connection, backend.address).await {
        Ok(taken) => taken,
        Err(error) => {
            let (route, backend) = (&connection.route, backend.address);
            connection
                .context
                .failure_log
                .failed(route, backend, &error);
            return Err(Failed {
                refusal: match error {
                    ConnectError::Local => {
                        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Side::Proxy, error.reason())
                    }
                    _ => bad(error.reason()),
                },
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
    let (parts, body) = (request.parts, &mut request.body);
    let sent = lease.send(parts, &request.told.lines, body, limit);
    match sent.await {
        Ok(response) => {
            exchange.responded(response.status());
            if gateway_failed(response.status()) {
                connection.route.failed(backend, "backend_gateway_status");
            }
            Ok((response, lease))
        }
        Err(error) if error.is_timeout() => Err(Failed {
            refusal: Refusal::new(StatusCode::GATEWAY_TIMEOUT, Side::Backend, error.reason()),
            not_begun: false,
            retry: false,
            stale: false,
        }),
        Err(error) if error.is_no_tunnel() => Err(Failed {
            refusal: Refusal::new(StatusCode::BAD_GATEWAY, Side::Proxy, error.reason()),
            not_begun: false,
            retry: false,
            stale: false,
        }),
        Err(error) => {
            tracing::debug!(backend = %backend.address, %error, "a request failed");
            if error.is_protocol() {
                let (route, backend) = (&connection.route, backend.address);
                (connection.context.failure_log).failed(route, backend, &error);
            }
            let not_begun = error.has_not_begun();
            if not_begun {
                lease.retire();
            }
            let may_be_stale = !error.is_malformed() && !error.is_of_client();
            Err(Failed {
                refusal: bad(error.reason()),
                not_begun,
                retry: !error.is_malformed(),
                stale: may_be_stale && lease.stale(),
            })
        }
    }
}
