//! HTTP with clients: hyper, and when a connection is to end.

use std::{convert::Infallible, error::Error as _, io, sync::Arc, time::Duration};

use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::SetOnce,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{
    Connection, body, exchange, flow, guard, proxy, replayed::Replayed, resets, seldom::Seldom,
};

/// Between HTTP/2 pings: a client that does not answer is gone.
const PING: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const MAX_HEADERS: usize = 64 * 1024;
/// Header fields of a request.
const MAX_FIELDS: usize = 128;
/// Default of `max_streams`.
const MAX_STREAMS: u32 = 128;
/// Streams that a client may have reset before they were answered: rapid reset (CVE-2023-44487) ends the connection.
const MAX_RESET: usize = 64;
/// Streams that may be reset for what their clients sent: an upload that was refused may go on, and what they take back has an account of its
/// own (`resets`).
const MAX_ERRORS: usize = 1024;
/// How long a connection with too many resets goes on for the responses that it waits for, and then for what of them is on its way.
const ANSWERS: Duration = Duration::from_secs(600);
const TAKEN_BACK: Duration = Duration::from_secs(10);
/// How long a connection that is to end waits for a last request, whose response says so.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(5);
/// Receive window of a stream, bytes: what a client may send that no backend has taken.
const WINDOW: u32 = 256 * 1024;
/// The same of the connection. h2 also takes half of it for what small frames cost beyond that (256 bytes for each, less its payload) and ends a connection
/// that needs more: so a client may make us hold 6 MiB, and messages of 32 bytes may fill a stream that no backend takes.
const CONNECTION_WINDOW: u32 = 16 * WINDOW;
/// Bytes of a stream's response beyond which no more is taken from its body: what a client that reads nothing can make us hold, times
/// [`MAX_STREAMS`], and one frame of a body each.
const SEND_BUFFER: usize = 32 * 1024;
/// Serves HTTP/1.1 until the connection ends, or is to.
///
/// # Errors
/// A label for counters.
pub(super) fn http1(
    stream: TlsStream<Replayed>,
    connection: Arc<Connection>,
    bodies: Arc<flow::Flow>,
    drain: CancellationToken,
) -> impl Future<Output = Result<(), &'static str>> {
    let (of, told) = (Arc::clone(&connection), Arc::clone(&connection));
    let gate = Arc::new(guard::Gate::default());
    let stream = guard::Guarded::new(stream, Arc::clone(&gate));
    let ours = Arc::clone(&gate);
    let service = service_fn(move |request: Request<Incoming>| {
        let (gate, connection) = (Arc::clone(&ours), Arc::clone(&connection));
        let bodies = Arc::clone(&bodies);
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            let busy = gate.busy();
            let upgrade = parts.extensions.get::<OnUpgrade>().is_some();
            let mut response = proxy::answer(&connection, &mut parts, body).await;
            let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if upgrade {
                gate.decide(tunnel);
            }
            if gate.is_last() && !tunnel {
                let close = HeaderValue::from_static("close");
                (response.headers_mut()).insert(header::CONNECTION, close);
            }
            response.body_mut().follow(bodies.begin(), Some(busy));
            Ok::<_, Infallible>(response)
        })
    });
    let serving = http1::Builder::new()
        // The guard has its own timeouts.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADERS)
        // The buffer may grow beyond what it is told.
        .max_header_size(MAX_HEADERS)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = Box::pin(serving);
    async move {
        let enough = Seldom::new(enough(drain, of));
        let served = tokio::select! {
            biased;
            served = &mut serving => served,
            () = enough => {
                // Not hyper's `graceful_shutdown`: it closes what is idle, or has not asked yet, while a request may be on its way.
                gate.last();
                serving.await
            }
        };
        served.map_err(|error| match unread(&error, &gate) {
            Some((status, reason)) => {
                exchange::unread(&told, status, reason);
                reason
            }
            None => reason(&error),
        })
    }
}

/// Serves HTTP/2 until the connection ends, or is to.
///
/// # Errors
/// A label for counters.
pub(super) fn http2(
    stream: TlsStream<Replayed>,
    connection: Arc<Connection>,
    bodies: Arc<flow::Flow>,
    drain: CancellationToken,
) -> impl Future<Output = Result<(), &'static str>> {
    let of = Arc::clone(&connection);
    let streams = connection.l7().max_streams.unwrap_or(MAX_STREAMS);
    let resets = Arc::new(resets::Resets::new(connection.requests.clone()));
    let account = Arc::clone(&resets);
    let asked = Arc::new(SetOnce::new());
    let asks = Arc::clone(&asked);
    let bodies_of = Arc::clone(&bodies);
    let service = service_fn(move |request: Request<Incoming>| {
        let (account, connection) = (Arc::clone(&account), Arc::clone(&connection));
        let bodies = Arc::clone(&bodies);
        if !asks.initialized() {
            // Fails only if it is set, by another stream.
            let _ = asks.set(());
        }
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            let pending = account.pending();
            let mut response = proxy::answer(&connection, &mut parts, body).await;
            response.body_mut().answers(pending);
            response.body_mut().follow(bodies.begin(), None);
            response.body_mut().split(body::DATA);
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(MAX_HEADERS as u32)
        .max_pending_accept_reset_streams(MAX_RESET)
        .max_local_error_reset_streams(MAX_ERRORS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .enable_connect_protocol();
    let mut serving = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    async move {
        let ends = Seldom::new(ends(drain, &of, &bodies_of, &asked, &resets));
        let goes = tokio::select! {
            biased;
            served = &mut serving => return served.map_err(|e| reason(&e)),
            goes = ends => goes,
        };
        serving.as_mut().graceful_shutdown();
        if goes {
            tokio::select! {
                served = &mut serving => return served.map_err(|e| reason(&e)),
                () = resets.exceeded() => {}
                () = leaves(&of, &asked) => return Err("deaf_to_goaway"),
            }
        }
        // As by a drain, but not for ever.
        let answered = async {
            drop(timeout(ANSWERS, of.requests.wait()).await);
            sleep(TAKEN_BACK).await;
        };
        tokio::select! {
            _ = &mut serving => {}
            () = answered => {}
        }
        Err("too_many_resets")
    }
}

/// Until an HTTP/2 connection is to end. False: for too many resets.
async fn ends(
    drain: CancellationToken,
    connection: &Arc<Connection>,
    bodies: &flow::Flow,
    asked: &SetOnce<()>,
    resets: &resets::Resets,
) -> bool {
    let goes = async {
        tokio::select! {
            () = enough(drain, Arc::clone(connection)) => {}
            () = unused(connection, bodies) => return,
        }
        // One that came just now asks at once, and would have come in vain.
        drop(timeout(LAST_REQUEST, asked.wait()).await);
    };
    tokio::select! {
        () = resets.exceeded() => false,
        () = goes => true,
    }
}

/// Returns once there was no request for some time.
async fn unused(connection: &Connection, bodies: &flow::Flow) {
    loop {
        let before = bodies.moves();
        sleep(guard::IDLE.min(connection.limits.idle)).await;
        if connection.requests.is_empty() && bodies.moves() == before {
            return;
        }
    }
}

/// Until drain, a change of the route, or the connection's age says that it is enough.
async fn enough(drain: CancellationToken, connection: Arc<Connection>) {
    let told = async {
        tokio::select! {
            () = drain.cancelled() => {}
            () = connection.outdated() => {}
        }
    };
    match connection.limits.max_age {
        Some(age) => drop(timeout(age, told).await),
        None => told.await,
    }
}

/// For a client that was told to go and may be deaf to it: h2 takes its streams until it has answered the PING that comes with
/// GOAWAY. It must not go on asking by what is no longer in force, or for ever. Returns once it has had the time to take all its
/// responses.
async fn leaves(connection: &Connection, asked: &SetOnce<()>) {
    sleep(LAST_REQUEST).await;
    connection.requests.close();
    connection.requests.wait().await;
    // Of the last one some may still be on its way.
    if asked.initialized() {
        sleep(connection.limits.idle).await;
    }
}

/// What the client was told, and why, if a connection over HTTP/1.1 has ended with a head that is none, or took too long.
pub(super) fn unread(
    error: &hyper::Error,
    gate: &guard::Gate,
) -> Option<(StatusCode, &'static str)> {
    if gate.is_slow() {
        Some((StatusCode::REQUEST_TIMEOUT, "request_header_timeout"))
    } else if error.is_parse_too_large() {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Some((status, "malformed_request"))
    } else if error.is_parse() {
        Some((StatusCode::BAD_REQUEST, "malformed_request"))
    } else {
        None
    }
}

fn reason(error: &hyper::Error) -> &'static str {
    let timed_out = (error.source())
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
    if timed_out {
        "request_header_timeout"
    } else if error.is_parse() {
        "malformed_request"
    } else {
        "client_reset"
    }
}
