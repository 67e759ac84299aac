//! A connection to a backend that speaks HTTP/2, shared by the requests of a worker.
//!
//! Whoever has the request drives its stream, as over HTTP/1.1: it sends the body as far as windows go, and waits for the response's
//! head. Only what is left of a request then is sent by a task of its own, which is told what becomes of the response.
//! The connection itself is a task, since it is nobody's.
//! Rejected: hyper's client, whose task for a body waits for a window that nobody opens, whatever becomes of the request.

mod body;
mod empty;
mod last_word;
#[cfg(test)]
mod tests;
mod tunnel;
mod upload;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Builder, ResponseFuture, SendRequest},
};
use hyper::{
    Method, Request, Response,
    body::Body,
    header::{self, HeaderValue},
    http::request::Parts,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, SetOnce},
    time::{Instant, sleep, timeout},
};

pub(crate) use body::Http2Body;
pub(in crate::http) use tunnel::Http2Tunnel;

use self::{
    empty::WithoutEmpty,
    last_word::LastWord,
    upload::{Upload, UploadError},
};
use super::{IDLE, Patience, Place, STALE, upload::expects_length};
use crate::http::response::{MAX_HEAD, Malformed, length};

/// Receive window of a stream, bytes: what its backend may send that its client has not taken.
const WINDOW: u32 = 128 * 1024;
/// Receive window of the connection: no bound (RFC 9113 §6.9.1), or clients that take nothing would keep all others from their responses. What is held is
/// bounded by streams, of which `max_requests` bounds the number.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What frames of less than 256 bytes may cost beyond their payload while no client takes them, bytes: h2 holds some 256 for each, whatever is in it. Beyond
/// that it ends the connection. Its own bound would be half the connection's window, 1 GiB.
const FRAMES: usize = 32 * 1024 * 1024;
/// Streams of a connection at once, whatever its backend takes: as many end with it.
const MAX_STREAMS: usize = 100;
/// Bytes of a stream that wait for the socket: no more than a client's window lets come.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams before the backend has said how many (RFC 9113 §6.5.2 wants no fewer than that of it).
const FIRST_STREAMS: usize = 100;
/// Streams that were reset and may still get frames, and for how long: a backend may have sent them before it reads of the reset.
const MAX_RESET: usize = 1024;
const RESET: Duration = Duration::from_secs(30);
/// A backend that does not answer a PING for so long is gone.
const PONG: Duration = Duration::from_secs(20);
/// Between PINGs while nothing else comes: gRPC's servers end connections that have more.
const SELDOM: Duration = Duration::from_secs(5 * 60);

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the backend's response is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the backend did not answer in time")]
    TimedOut,
    /// RFC 8441 §3: what it has not enabled it must not be asked for.
    #[error("the backend takes no extended CONNECT")]
    NoTunnels,
    /// The client's; its exchange knows why.
    #[error("the request's body was broken off")]
    Request,
}

/// What the streams of a connection share.
#[derive(Default)]
struct Shared {
    /// Those that live.
    streams: AtomicU32,
    /// Grows with what comes.
    heard: AtomicU64,
    /// Somebody waits for the backend's SETTINGS.
    asked: Notify,
    /// They came, or never will.
    settled: SetOnce<Settled>,
    /// Among the connections, to its end.
    place: OnceLock<Place>,
}

/// What a backend's first word was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Settings,
    /// No frame, or one of such a length as HTTP/1.1's status line and TLS's records give.
    NoFrame,
    Nothing,
}

/// A stream of the connection, as long as anybody wants something of it. Clones are of the same.
#[derive(Clone)]
struct Live(Arc<Stream>);

struct Stream(Arc<Shared>);

impl Live {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.streams.fetch_add(1, Relaxed);
        Self(Arc::new(Stream(Arc::clone(shared))))
    }

    fn heard(&self) {
        self.0.0.heard.fetch_add(1, Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// A handle to the connection, for one request at a time. The connection ends with the last of them and of the streams.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    shared: Arc<Shared>,
    /// Of this handle's request.
    live: Option<Live>,
    /// When that left.
    sent: Option<Instant>,
}

impl Http2 {
    pub(super) async fn new<T>(io: T) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::with_pings(io, IDLE, PONG).await
    }

    async fn with_pings<T>(io: T, interval: Duration, limit: Duration) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(FRAMES)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_concurrent_reset_streams(MAX_RESET)
            .reset_stream_duration(RESET)
            // The backend is the operator's. What comes later still is an error of a stream that nobody has.
            .max_local_error_reset_streams(None)
            .handshake(WithoutEmpty::new(LastWord::new(io)))
            .await?;
        let shared = Arc::<Shared>::default();
        let (pings, of) = (connection.ping_pong(), Arc::clone(&shared));
        tokio::spawn(async move {
            let mut first = Settled::Nothing;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a backend's connection broke");
                    if error.is_library() && error.reason() == Some(h2::Reason::FRAME_SIZE_ERROR) {
                        first = Settled::NoFrame;
                    }
                },
                () = silent(&of, pings, interval, limit) => tracing::debug!("a backend answers no PING"),
            }
            // Fails only if it is set.
            let _ = of.settled.set(first);
        });
        Ok(Self {
            sender,
            shared,
            live: None,
            sent: None,
        })
    }

    /// Waits until the backend has said what it takes, or has ended the connection. False: what it said is not HTTP/2.
    pub(crate) async fn settled(&self) -> bool {
        self.shared.asked.notify_one();
        *self.shared.settled.wait().await != Settled::NoFrame
    }

    /// A handle for one more request, if the backend takes one more. What h2 is given beyond that it queues without a bound, and sends
    /// even if it is reset meanwhile.
    pub(crate) fn lend(&self) -> Option<Self> {
        let streams = self.shared.streams.load(Relaxed) as usize;
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        (streams < most).then(|| Self {
            sender: self.sender.clone(),
            shared: Arc::clone(&self.shared),
            live: Some(Live::new(&self.shared)),
            sent: None,
        })
    }

    /// No request is under way.
    pub(super) fn idle(&self) -> bool {
        self.shared.streams.load(Relaxed) == 0
    }

    /// Whether both are handles of one connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Has a place among the connections, to its end.
    pub(super) fn hold(&self, place: Place) {
        // Fails only if it has one.
        let _ = self.shared.place.set(place);
    }

    /// No further request may begin on it.
    pub(super) fn closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // Of a clone, which waits for no stream of its own.
        matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// After a failure: the connection was dead before the request came, which says nothing of the backend.
    pub(super) fn stale(&self) -> bool {
        self.closed() && self.sent.is_none_or(|sent| sent.elapsed() < STALE)
    }

    /// Sends a request and returns the response. `body` stays where it is if nothing left. `limit` is for the backend: from when it was
    /// last given something of the request.
    pub(crate) async fn send<B>(
        &mut self,
        parts: &Parts,
        body: &mut Option<B>,
        limit: Duration,
    ) -> Result<Response<Http2Body>, Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let live = self.live.take().unwrap_or_else(|| Live::new(&self.shared));
        let (mut answer, mut upload) = self.open(parts, body, live.clone()).await?;
        let timer = pin!(sleep(limit));
        let mut patience = Patience::new(limit, timer);
        let response = poll_fn(|cx| {
            if upload.is_pending() {
                let before = upload.given();
                // What resets the stream is the response's to tell, which may have come before.
                if let Poll::Ready(Err(UploadError::Request)) = upload.poll(cx) {
                    return Poll::Ready(Err(Error::Request));
                }
                // The body has a timeout of its own for the client.
                if upload.waits_for_client() || upload.given() != before {
                    patience.given();
                }
            }
            match Pin::new(&mut answer).poll(cx) {
                Poll::Ready(response) => Poll::Ready(response.map_err(Error::from)),
                Poll::Pending if patience.is_over(cx) => Poll::Ready(Err(Error::TimedOut)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let length = length(response.headers())?;
        live.heard();
        let keeps = parts.method == Method::CONNECT;
        Ok(response.map(|stream| Http2Body::new(stream, length, upload, keeps, live)))
    }

    /// Opens a stream for a request.
    async fn open<B>(
        &mut self,
        parts: &Parts,
        body: &mut Option<B>,
        live: Live,
    ) -> Result<(ResponseFuture, Upload<B>), Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let connect = parts.method == Method::CONNECT;
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        if connect && !self.sender.is_extended_connect_protocol_enabled() {
            return Err(Error::NoTunnels);
        }
        let ended = !connect && body.as_ref().is_none_or(Body::is_end_stream);
        let request = head(parts, body.as_ref());
        let (answer, stream) = self.sender.send_request(request, ended)?;
        self.sent = Some(Instant::now());
        let body = body.take().filter(|_| !ended && !connect);
        Ok((answer, Upload::new(stream, body, live)))
    }
}

/// The head as h2 takes it.
fn head<B: Body>(parts: &Parts, body: Option<&B>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    // It is said below, and once.
    request.headers_mut().remove(header::CONTENT_LENGTH);
    if parts.method == Method::CONNECT {
        if let Some(protocol) = parts.extensions.get::<hyper::ext::Protocol>() {
            let protocol = h2::ext::Protocol::from(protocol.as_str());
            request.extensions_mut().insert(protocol);
        }
        return request;
    }
    let length = body.map_or(Some(0), |body| body.size_hint().exact());
    if let Some(length) = length
        && (length > 0 || expects_length(&parts.method))
    {
        let length = HeaderValue::from(length);
        (request.headers_mut()).insert(header::CONTENT_LENGTH, length);
    }
    request
}

/// Returns when the backend answers no PING. Those are sent only while streams wait, one as soon as nothing comes and then seldom, since
/// servers count them; and where its SETTINGS are waited for, which come before its answer.
async fn silent(shared: &Shared, pings: Option<PingPong>, interval: Duration, limit: Duration) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    let (mut before, mut quiet_since_ping) = (0, None::<Instant>);
    loop {
        tokio::select! {
            () = sleep(interval) => {
                let heard = shared.heard.load(Relaxed);
                if std::mem::replace(&mut before, heard) != heard {
                    quiet_since_ping = None;
                    continue;
                }
                if shared.streams.load(Relaxed) == 0
                    || quiet_since_ping.is_some_and(|ping| ping.elapsed() < SELDOM)
                {
                    continue;
                }
                quiet_since_ping = Some(Instant::now());
            }
            () = shared.asked.notified(), if !shared.settled.initialized() => {}
        }
        match timeout(limit, pings.ping(Ping::opaque())).await {
            // Fails only if it is set.
            Ok(Ok(_)) => drop(shared.settled.set(Settled::Settings)),
            // The connection ends, and tells why.
            Ok(Err(_)) => return sleep(limit).await,
            Err(_) => return,
        }
    }
}
