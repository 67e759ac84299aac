//! Userland copy: always available, always correct.
//!
//! One task per connection polls both directions. Bytes go through a scratch buffer of the worker thread straight into the
//! other socket; only what a full socket does not take is kept, in a buffer of its own, and nothing more is read until it is
//! gone. So an idle connection owns no buffer, and one whose reader stalls owns at most one per direction.
//!
//! Rejected: tokio's `copy_bidirectional` (two buffers per connection for ever), splice(2) (two pipes per connection, slower
//! than copying on the measured kernel).

use std::{
    cell::RefCell,
    future::Future,
    io::{self, ErrorKind},
    net::Shutdown,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{End, Engine, Job, Limits, Outcome, Side};

/// Bytes moved by one read: larger does not get faster, smaller costs calls.
const CHUNK: usize = 128 * 1024;
/// Chunks of one direction before other connections have their turn.
const BUDGET: usize = 8;
/// A deadline that never comes: thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// The copy engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copy;

impl Engine for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn relay(&self, job: Job) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let end = Relay::new(job).await;
            Outcome { end, engine: "copy", fallback: None }
        })
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    state: State,
    /// Read and not yet written: at most [`CHUNK`] bytes.
    rest: Vec<u8>,
    /// Of `rest`, written.
    written: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The source has sent its FIN; `rest` is still to be written.
    Ended,
    /// And the destination got ours.
    Closed,
}

/// A failed read or write, and whose socket it was.
struct Failed {
    side: Side,
    error: io::Error,
}

/// The relay of one connection.
struct Relay {
    job: Job,
    up: Direction,
    down: Direction,
    limits: Limits,
    started: Instant,
    active: Instant,
    timer: Pin<Box<Sleep>>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Relay {
    fn new(job: Job) -> Self {
        let now = Instant::now();
        let mut relay = Self {
            limits: job.limits,
            cancelled: Box::pin(job.cancel.clone().cancelled_owned()),
            job,
            up: Direction::default(),
            down: Direction::default(),
            started: now,
            active: now,
            timer: Box::pin(sleep_until(now)),
        };
        let deadline = relay.deadline().0;
        relay.timer.as_mut().reset(deadline);
        relay
    }

    /// When the next limit is reached, and which it is.
    fn deadline(&self) -> (Instant, End) {
        let idle = self.active + self.limits.idle.unwrap_or(NEVER);
        let age = self.started + self.limits.max_age.unwrap_or(NEVER);
        if age < idle { (age, End::MaxAge) } else { (idle, End::Idle) }
    }

    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Cancelled);
        }
        // The timer is not moved with every byte: when it fires, the deadline may have moved on.
        while self.timer.as_mut().poll(context).is_ready() {
            let (deadline, end) = self.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(end);
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Ends with an RST to whoever is still there.
    fn reset(&self) {
        for stream in [&self.job.client, &self.job.backend] {
            // Fails only on a socket that is gone already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Future for Relay {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        let Job { client, backend, traffic, .. } = &this.job;
        let mut moved = false;
        let up = this.up.poll(context, (Side::Client, client), (Side::Backend, backend), &traffic.from_client, &mut moved);
        let down = this.down.poll(context, (Side::Backend, backend), (Side::Client, client), &traffic.to_client, &mut moved);
        if moved {
            this.active = Instant::now();
        }
        for direction in [up, down] {
            if let Poll::Ready(Err(Failed { side, error })) = direction {
                this.reset();
                return Poll::Ready(End::failed(side, &error));
            }
        }
        if this.up.state == State::Closed && this.down.state == State::Closed {
            return Poll::Ready(End::Closed);
        }
        let end = ready!(this.poll_limits(context));
        this.reset();
        Poll::Ready(end)
    }
}

impl Direction {
    /// Moves what can be moved. Ready when the direction is closed or has failed.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        (from_side, from): (Side, &TcpStream),
        (to_side, to): (Side, &TcpStream),
        count: &AtomicU64,
        moved: &mut bool,
    ) -> Poll<Result<(), Failed>> {
        let failed = |side| move |error| Failed { side, error };
        for _ in 0..BUDGET {
            if !self.rest.is_empty() {
                ready!(self.poll_rest(context, to, moved)).map_err(failed(to_side))?;
            }
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Ended => {
                    self.state = State::Closed;
                    return Poll::Ready(close(to).map_err(failed(to_side)));
                }
                State::Open => {}
            }
            ready!(from.poll_read_ready(context)).map_err(failed(from_side))?;
            SCRATCH.with_borrow_mut(|scratch| match from.try_read(scratch) {
                Ok(0) => {
                    self.state = State::Ended;
                    Ok(())
                }
                Ok(n) => {
                    *moved = true;
                    count.fetch_add(n as u64, Relaxed);
                    self.write(&scratch[..n], to).map_err(failed(to_side))
                }
                Err(e) if retry(&e) => Ok(()),
                Err(e) => Err(failed(from_side)(e)),
            })?;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes, and keeps what the socket does not take.
    fn write(&mut self, mut bytes: &[u8], to: &TcpStream) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.rest.extend_from_slice(bytes);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn poll_rest(&mut self, context: &mut Context<'_>, to: &TcpStream, moved: &mut bool) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            ready!(to.poll_write_ready(context))?;
            match to.try_write(&self.rest[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    *moved = true;
                }
                Err(e) if retry(&e) => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        self.written = 0;
        // Frees it: an idle connection owns no buffer.
        self.rest = Vec::new();
        Poll::Ready(Ok(()))
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Sends a FIN. A peer that has closed altogether no longer cares.
fn close(stream: &TcpStream) -> io::Result<()> {
    match SockRef::from(stream).shutdown(Shutdown::Write) {
        Err(e) if e.kind() != ErrorKind::NotConnected => Err(e),
        _ => Ok(()),
    }
}
