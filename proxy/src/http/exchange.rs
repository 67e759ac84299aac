//! One request and its response: what became of it, for the log, the counters and the health of the backend.
//!
//! It is told by whoever learns something, and told to others when the last of them lets go.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode, Version, http::uri::Authority};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Connection,
    body::{BodyError, add},
    headers,
};
use crate::{
    router::LiveRoute,
    sources::Counted,
    stats::{Active, BackendGauge},
};

/// Of the access log's lines.
pub(super) const ACCESS: &str = "mc_proxy::access";
/// A call's time, which its client said, is over.
pub(super) const GRPC_DEADLINE: &str = "grpc_deadline";

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
    /// A limit or a rule of the route.
    Proxy,
}

impl Side {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Proxy => "proxy",
        }
    }
}

/// What went wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) side: Side,
    pub(super) reason: &'static str,
}

impl Fault {
    pub(super) const fn of(side: Side, reason: &'static str) -> Self {
        Self { side, reason }
    }
}

/// What came of a request whose response has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A backend had it.
    Answered,
    /// None had.
    Refused,
    /// The time was over that its client gave it.
    Expired,
}

/// What is written when it is over.
#[derive(Debug, Default)]
struct Outcome {
    status: Option<StatusCode>,
    fault: Option<Fault>,
    delivered: bool,
    address: Option<SocketAddr>,
    attempts: u32,
    connect: Option<Duration>,
    response: Option<Duration>,
    /// The backend that has it now.
    backend: Option<Active<BackendGauge>>,
    /// Its place among the requests of its client.
    place: Option<Counted>,
    /// It is among those of its connection.
    open: Option<TaskTrackerToken>,
    /// Fields of the request that imitated ours.
    imitations: Option<usize>,
}

/// One request and its response.
pub(super) struct Exchange {
    connection: Arc<Connection>,
    method: Method,
    authority: Option<Authority>,
    path: String,
    version: Version,
    started: Instant,
    logged: bool,
    from_client: AtomicU64,
    to_client: AtomicU64,
    outcome: Mutex<Outcome>,
}

impl Exchange {
    pub(super) fn begin(
        connection: &Arc<Connection>,
        request: &hyper::http::request::Parts,
        authority: Option<Authority>,
    ) -> Arc<Self> {
        let http = &connection.route.stats.http;
        let logged = is_logged(connection, http.requests.fetch_add(1, Relaxed));
        http.budget.pay_in();
        Arc::new(Self {
            connection: Arc::clone(connection),
            method: request.method.clone(),
            authority,
            // Without the query, which often carries secrets.
            path: if logged {
                request.uri.path().to_owned()
            } else {
                String::new()
            },
            version: request.version,
            started: Instant::now(),
            logged,
            from_client: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            outcome: Mutex::default(),
        })
    }

    fn route(&self) -> &LiveRoute {
        &self.connection.route
    }

    /// The host that is asked, if the request tells one.
    pub(super) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a place among the requests of its client, to its end.
    pub(super) fn hold(&self, place: Counted) {
        self.outcome().place = Some(place);
    }

    /// Is under way at its connection, to its end.
    pub(super) fn hold_open(&self, token: TaskTrackerToken) {
        self.outcome().open = Some(token);
    }

    /// Fields were dropped that imitated ours.
    pub(super) fn imitated(&self, fields: usize) {
        self.outcome().imitations = Some(fields);
    }

    /// An attempt at a backend.
    pub(super) fn attempt(&self, backend: Active<BackendGauge>) {
        let mut outcome = self.outcome();
        outcome.address = Some(backend.of().0.address);
        outcome.backend = Some(backend);
        outcome.attempts += 1;
    }

    /// The attempt came to nothing; `why` if that was the backend's fault.
    pub(super) fn attempt_failed(&self, why: Option<&'static str>) {
        let backend = self.outcome().backend.take();
        if let (Some(backend), Some(why)) = (backend, why) {
            self.route().failed(&backend.of().0, why);
        }
    }

    /// A connection was made for it.
    pub(super) fn connected(&self, took: Duration) {
        self.outcome().connect = Some(took);
    }

    /// The response's head is there.
    pub(super) fn responded(&self, status: StatusCode) {
        let took = self.started.elapsed();
        self.route().stats.http.response.observe(took);
        let mut outcome = self.outcome();
        outcome.response = Some(took);
        outcome.status = Some(status);
    }

    /// Whether no response with that status has a body.
    pub(super) fn is_bodiless(&self, status: StatusCode) -> bool {
        self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The client got another status than the backend gave: each side has its own for a tunnel.
    pub(super) fn answered(&self, status: StatusCode) {
        self.outcome().status = Some(status);
    }

    /// Refused or failed before there was a response.
    pub(super) fn failed(&self, status: StatusCode, fault: Fault) {
        let mut outcome = self.outcome();
        outcome.status = Some(status);
        outcome.fault = Some(fault);
    }

    pub(super) fn request_failed(&self, error: BodyError) {
        let reason = match error {
            BodyError::Idle => "request_body_timeout",
            BodyError::TooLarge => "request_body_too_large",
            BodyError::Broken => "request_body_broken",
        };
        self.blame(Fault::of(Side::Client, reason));
    }

    pub(super) fn response_failed(&self, error: BodyError) {
        let reason = match error {
            BodyError::Idle => "response_body_timeout",
            _ => "response_body_broken",
        };
        let fault = Fault::of(Side::Backend, reason);
        let mut outcome = self.outcome();
        let first = *outcome.fault.get_or_insert(fault) == fault;
        // A stream may be silent for long where all is well.
        if first
            && error == BodyError::Broken
            && let Some(backend) = &outcome.backend
        {
            self.route().failed(&backend.of().0, reason);
        }
    }

    /// The first to go wrong is the cause of the rest.
    pub(super) fn blame(&self, fault: Fault) {
        self.outcome().fault.get_or_insert(fault);
    }

    /// What came of it, once there is a response.
    pub(super) fn end(&self) -> End {
        let outcome = self.outcome();
        match outcome.fault {
            Some(fault) if fault.reason == GRPC_DEADLINE => End::Expired,
            _ if outcome.attempts == 0 => End::Refused,
            _ => End::Answered,
        }
    }

    /// What is known to have gone wrong.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.outcome().fault
    }

    /// Bytes of the request's body that went on to the backend.
    pub(super) fn uploaded(&self) -> u64 {
        self.from_client.load(Relaxed)
    }

    pub(super) fn received(&self, bytes: u64) {
        add(&self.from_client, bytes);
        add(&self.route().stats.traffic.from_client, bytes);
    }

    pub(super) fn sent(&self, bytes: u64) {
        add(&self.to_client, bytes);
        add(&self.route().stats.traffic.to_client, bytes);
    }

    /// The whole response went out. Only then the backend has succeeded: one that breaks off its bodies is no better than one that
    /// answers nothing.
    pub(super) fn delivered(&self) {
        let mut outcome = self.outcome();
        outcome.delivered = true;
        if outcome.fault.is_none()
            && !outcome.status.is_some_and(gateway_failed)
            && let Some(backend) = &outcome.backend
        {
            backend.of().0.health.succeeded();
        }
    }
}

/// Whether a request is among those that are logged, by its number.
fn is_logged(connection: &Connection, number: u64) -> bool {
    let sample = connection.l7().access_log;
    sample > 0 && number.is_multiple_of(u64::from(sample))
}

/// A head that came to no request, and was answered with `status`: counted, and logged, as requests are. Its connection counts the reason.
pub(super) fn unread(connection: &Connection, status: StatusCode, reason: &'static str) {
    let http = &connection.route.stats.http;
    let number = http.requests.fetch_add(1, Relaxed);
    http.count(Some(status.as_u16()));
    if is_logged(connection, number) {
        tracing::info!(
            target: ACCESS,
            client = %connection.client,
            route = %connection.route.route.key.hostname,
            port = connection.route.route.key.port,
            status = status.as_u16(),
            side = Side::Client.name(),
            reason,
        );
    }
}

/// Whether a backend says that it cannot answer.
pub(super) fn gateway_failed(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let outcome = std::mem::take(&mut *self.outcome());
        let fault = outcome
            .fault
            .or_else(|| (!outcome.delivered).then_some(Fault::of(Side::Client, "client_gone")));
        let stats = &self.route().stats;
        stats.http.count(outcome.status.map(|s| s.as_u16()));
        if let Some(fault) = fault {
            stats.errors.count(fault.reason);
        }
        if !self.logged {
            return;
        }
        let micros = |d: Option<Duration>| d.map(|d| d.as_micros() as u64);
        tracing::info!(
            target: ACCESS,
            client = %self.connection.client,
            route = %self.route().route.key.hostname,
            port = self.route().route.key.port,
            method = self.method.as_str(),
            host = self.authority.as_ref().map_or("-", Authority::as_str),
            path = self.path,
            version = headers::version(self.version),
            status = outcome.status.map_or(0, |s| s.as_u16()),
            backend = outcome.address.map(tracing::field::display),
            attempts = outcome.attempts,
            from_client = self.from_client.load(Relaxed),
            to_client = self.to_client.load(Relaxed),
            connect_us = micros(outcome.connect),
            response_us = micros(outcome.response),
            total_us = self.started.elapsed().as_micros() as u64,
            imitations = outcome.imitations,
            side = fault.map(|f| f.side.name()),
            reason = fault.map(|f| f.reason),
        );
    }
}
