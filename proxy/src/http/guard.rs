//! A client's HTTP/1.1 connection as hyper may read it: checked (see `strict`), and with a deadline while a head is waited for.
//!
//! What is refused in a head is replaced by bytes that hyper refuses itself, so that it answers 400 in order, after the responses to
//! earlier requests, and closes. A head that took too long is refused alike, and 408 written where hyper writes 400. In a body it is an
//! error, which breaks the request off. In all cases nothing after it is read.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    downstream::LAST_REQUEST,
    strict::{Refusal, Step, Validator, Violation},
};

/// A head, from its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// No request at all.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// NUL stands nowhere in a head (httparse checks each byte against the classes of RFC 9110). hyper looks at a head that came in
/// pieces only when it sees its end: the empty line.
const POISON: &[u8] = b"\0\n\n";
/// How hyper's answer to it begins.
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\n";
/// What the client gets instead if its head took too long (RFC 9110 §15.5.9).
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n";
/// Bytes that are read while it is open whose they are: only to see the client's end.
const AHEAD: usize = 64;

const OPEN: u8 = 0;
const REQUEST: u8 = 1;
const TUNNEL: u8 = 2;

/// What the connection's service tells the reader.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Requests whose responses are not at their end.
    busy: AtomicU32,
    /// What comes after a request to upgrade.
    next: AtomicU8,
    reader: AtomicWaker,
    /// Since when the connection is to end.
    last: OnceLock<Instant>,
    /// A head took too long.
    slow: AtomicBool,
}

/// A request that is being answered: until it is, its connection is not idle.
pub(super) struct Busy(Arc<Gate>);

impl Gate {
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, AcqRel);
        Busy(Arc::clone(self))
    }

    /// The connection is to end: with the response to the next request, which is to say so, or unless one comes soon. To be called
    /// by whoever drives the connection, before it is polled again.
    pub(super) fn last(&self) {
        self.last.get_or_init(Instant::now);
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.get().is_some()
    }

    /// Whether the connection has ended with a head that took too long.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Relaxed)
    }

    /// The answer to a request to upgrade. To be called for each, even if it is refused: nothing is read before.
    pub(super) fn decide(&self, tunnel: bool) {
        let next = if tunnel { TUNNEL } else { REQUEST };
        self.next.store(next, Release);
        self.reader.wake();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, AcqRel);
    }
}

/// The reader's side.
pub(super) struct Guarded<S> {
    stream: S,
    gate: Arc<Gate>,
    validator: Validator,
    /// Read, and not yet known to be what.
    ahead: Vec<u8>,
    refused: Option<Refusal>,
    poison: &'static [u8],
    /// What is to stand for [`MALFORMED`], as far as it was not written.
    status: &'static [u8],
    /// Some of what was written may still be on this side.
    blocked: bool,
    head: Duration,
    idle: Duration,
    /// [`Self::idle`] of a connection that is to end.
    last: Duration,
    /// Bytes last went either way.
    active: Instant,
    /// Since when the rest of a head is waited for.
    waiting: Option<Instant>,
    /// Armed for the earliest deadline, and left alone while that moves away: no timer for a request.
    timer: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, gate: Arc<Gate>) -> Self {
        Self {
            stream,
            gate,
            validator: Validator::default(),
            ahead: Vec::new(),
            refused: None,
            poison: POISON,
            status: b"",
            blocked: false,
            head: HEAD,
            idle: IDLE,
            last: LAST_REQUEST,
            active: Instant::now(),
            waiting: None,
            timer: None,
        }
    }

    /// The same, for a connection on which no request is waited for as long.
    pub(super) fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// A head that took too long is answered, unless the client takes nothing anyway.
    fn too_slow(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        if self.validator.blank() || self.blocked {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.gate.slow.store(true, Relaxed);
        self.status = TOO_SLOW;
        let refusal = Refusal {
            violation: Violation::TooSlow,
            in_head: true,
        };
        self.refused = Some(refusal);
        self.refuse(buf, refusal)
    }

    /// Checks what was read into `buf` after its first `before` bytes.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let heads = self.validator.heads();
        let was_in_head = self.validator.in_head();
        let fresh = &buf.filled()[before..];
        let step = self.validator.advance(fresh);
        match step {
            Step::All => {}
            Step::Held(at) => {
                // As much as one read of hyper's at most.
                self.ahead.splice(..0, fresh[at..].iter().copied());
                buf.set_filled(before + at);
            }
            Step::Refused(at, refusal) => {
                tracing::debug!(violation = %refusal.violation, "a malformed request");
                self.refused = Some(refusal);
                buf.set_filled(before + at);
                if at == 0 || refusal.in_head {
                    return self.refuse(buf, refusal);
                }
            }
        }
        if !was_in_head || self.validator.heads() != heads {
            self.waiting = None;
        }
        Ok(())
    }

    fn refuse(&mut self, buf: &mut ReadBuf<'_>, refusal: Refusal) -> io::Result<()> {
        if !refusal.in_head {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                refusal.violation,
            ));
        }
        let n = self.poison.len().min(buf.remaining());
        let (now, later) = self.poison.split_at(n);
        buf.put_slice(now);
        self.poison = later;
        Ok(())
    }

    /// Nothing came. Whether that has lasted too long.
    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let in_head = self.validator.in_head();
        if !in_head && !self.validator.between() {
            return false;
        }
        let (active, idle) = match self.gate.last.get() {
            Some(since) => (self.active.max(*since), self.last),
            None => (self.active, self.idle),
        };
        let deadline = if in_head {
            *self.waiting.get_or_insert_with(Instant::now) + self.head
        } else {
            active + idle
        };
        let (timer, armed) = self
            .timer
            .get_or_insert_with(|| (Box::pin(sleep_until(deadline)), deadline));
        if *armed > deadline {
            timer.as_mut().reset(deadline);
            *armed = deadline;
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let next = if self.gate.busy.load(Acquire) > 0 {
                now + idle
            } else if now < deadline {
                deadline
            } else {
                return true;
            };
            timer.as_mut().reset(next);
            *armed = next;
        }
        false
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// After a request to upgrade, nothing is read on until it is known what it is: bytes of a tunnel are no request, and would be
    /// refused as one. `true`: go on.
    fn decided(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.gate.reader.register(cx.waker());
        match self.gate.next.swap(OPEN, AcqRel) {
            OPEN => {}
            next => {
                self.validator.resume(next == TUNNEL);
                return Poll::Ready(Ok(true));
            }
        }
        if self.ahead.is_empty() {
            let mut bytes = [0; AHEAD];
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.ahead.extend_from_slice(buf.filled());
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(refusal) = this.refused {
            return Poll::Ready(this.refuse(buf, refusal));
        }
        if this.validator.held() && !ready!(this.decided(cx))? {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            let polled = Pin::new(&mut this.stream).poll_read(cx, buf)?;
            if this.validator.opaque() {
                return polled.map(Ok);
            }
            if polled.is_pending() {
                if !this.expired(cx) {
                    return Poll::Pending;
                }
                // Between requests it is the end as the client might have made it.
                return Poll::Ready(if this.validator.in_head() {
                    this.too_slow(buf)
                } else {
                    Ok(())
                });
            }
        } else {
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..n]);
            this.ahead.drain(..n);
            if this.ahead.is_empty() {
                this.ahead = Vec::new();
            }
        }
        if buf.filled().len() > before {
            this.active = Instant::now();
        }
        Poll::Ready(this.check(buf, before))
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    fn written(&mut self, polled: &Poll<io::Result<usize>>) {
        self.blocked = polled.is_pending();
        if matches!(polled, Poll::Ready(Ok(1..))) && !self.validator.opaque() {
            self.active = Instant::now();
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Writes the right status in the place of hyper's, which `buf` begins with. Says how much of it that was.
    fn replace_status(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while !self.status.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, self.status))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.status = &self.status[n..];
        }
        Poll::Ready(Ok(MALFORMED.len()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.status.is_empty() && buf.starts_with(MALFORMED) {
            return self.replace_status(cx);
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.status.is_empty() && bufs.first().is_some_and(|b| b.starts_with(MALFORMED)) {
            return self.replace_status(cx);
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
