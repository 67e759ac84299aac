//! Userland copy: one task, one timer, a pooled buffer per direction only while bytes are in flight.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    Deadlines, ERROR_CHECK, End, Engine, Job, Outcome, Side, Traffic,
    pool::{BufferPool, Pending},
    reset_on_close,
};

/// Buffers a direction moves before other tasks get their turn: 1 MiB.
const ROUNDS: usize = 16;

/// Reads into userland and writes back. Always available.
#[derive(Clone, Debug, Default)]
pub struct CopyEngine {
    pool: BufferPool,
}

impl CopyEngine {
    /// An engine on `pool`; engines may share one.
    #[must_use]
    pub fn new(pool: BufferPool) -> Self {
        Self { pool }
    }
}

impl Engine for CopyEngine {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn relay(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let pool = self.pool.clone();
        Box::pin(async move {
            Outcome {
                end: run(job, pool).await,
                engine_used: "copy",
                fallback: None,
            }
        })
    }
}

/// Relays `job` to its end.
pub(super) async fn run(job: Job, pool: BufferPool) -> End {
    let mut session = Session {
        client: job.client,
        backend: job.backend,
        up: Pipe::default(),
        down: Pipe::default(),
        deadlines: Deadlines::new(job.limits),
        traffic: job.traffic,
        pool,
    };
    let mut cancelled = pin!(job.cancel.cancelled());
    let mut timer = pin!(sleep_until(session.deadlines.next(Instant::now())));
    let end = std::future::poll_fn(|cx| {
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cancelled);
        }
        if let Poll::Ready(end) = session.poll(cx) {
            return Poll::Ready(end);
        }
        if session.deaf() {
            let soon = Instant::now() + ERROR_CHECK;
            if timer.deadline() > soon {
                timer.as_mut().reset(soon);
            }
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(end) = session.deadlines.expired(now) {
                return Poll::Ready(end);
            }
            let mut next = session.deadlines.next(now);
            if session.deaf() {
                if let Some(end) = super::pending_error(&session.client, &session.backend) {
                    return Poll::Ready(end);
                }
                next = next.min(now + ERROR_CHECK);
            }
            timer.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await;
    if end != End::Closed {
        reset_on_close(&session.client);
        reset_on_close(&session.backend);
    }
    end
}

struct Session {
    client: TcpStream,
    backend: TcpStream,
    up: Pipe,
    down: Pipe,
    deadlines: Deadlines,
    traffic: Arc<Traffic>,
    pool: BufferPool,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut moved = false;
        let Self {
            client, backend, ..
        } = self;
        let mut up = Ends {
            from: client,
            to: backend,
            sides: (Side::Client, Side::Backend),
            counter: &self.traffic.from_client,
            pool: &self.pool,
            last: self.down.state == State::Done,
        };
        let first = self.up.poll(cx, &mut up, &mut moved);
        let mut down = Ends {
            from: backend,
            to: client,
            sides: (Side::Backend, Side::Client),
            counter: &self.traffic.to_client,
            pool: &self.pool,
            last: self.up.state == State::Done,
        };
        let second = self.down.poll(cx, &mut down, &mut moved);
        if moved {
            self.deadlines.active = Instant::now();
        }
        // A side that reads no more may have sent its last words before: what it wrote is delivered first.
        match (first, second) {
            (Step::Failed(end), _) | (_, Step::Failed(end)) => Poll::Ready(end),
            (Step::Refused(end), Step::Done | Step::Refused(_))
            | (Step::Done, Step::Refused(end)) => Poll::Ready(end),
            (Step::Done, Step::Done) => Poll::Ready(End::Closed),
            _ => Poll::Pending,
        }
    }

    /// A reset may come that no registered waker would report.
    fn deaf(&self) -> bool {
        [&self.up, &self.down]
            .iter()
            .any(|p| p.state != State::Open || !p.pending.is_empty())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.up.pending.clear(&self.pool);
        self.down.pending.clear(&self.pool);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Open,
    /// EOF read; FIN sent once nothing is pending.
    Eof,
    /// FIN sent.
    Done,
    /// The destination takes no more.
    Refused(End),
}

enum Step {
    Waiting,
    Done,
    /// Writing failed; the other direction may still have bytes.
    Refused(End),
    /// Reading failed: all that could be read was delivered or never will be.
    Failed(End),
}

struct Ends<'a> {
    from: &'a mut TcpStream,
    to: &'a mut TcpStream,
    sides: (Side, Side),
    counter: &'a AtomicU64,
    pool: &'a BufferPool,
    /// The other direction is done: closing the sockets will send the FIN.
    last: bool,
}

#[derive(Default)]
struct Pipe {
    pending: Pending,
    state: State,
}

impl Pipe {
    fn poll(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>, moved: &mut bool) -> Step {
        for _ in 0..ROUNDS {
            match self.state {
                State::Done => return Step::Done,
                State::Refused(end) => return Step::Refused(end),
                State::Open | State::Eof => {}
            }
            while !self.pending.is_empty() {
                match Pin::new(&mut *ends.to).poll_write(cx, self.pending.bytes()) {
                    Poll::Pending => return Step::Waiting,
                    Poll::Ready(Ok(n)) => {
                        self.pending.advance(n, ends.pool);
                        ends.counter.fetch_add(n as u64, Relaxed);
                        *moved = true;
                    }
                    Poll::Ready(Err(e)) => {
                        return self.refuse(End::from_error(ends.sides.1, &e), ends.pool);
                    }
                }
            }
            if self.state == State::Eof && ends.last {
                self.state = State::Done;
                continue;
            }
            if self.state == State::Eof {
                match Pin::new(&mut *ends.to).poll_shutdown(cx) {
                    Poll::Pending => return Step::Waiting,
                    Poll::Ready(Ok(())) => self.state = State::Done,
                    Poll::Ready(Err(e)) => {
                        return self.refuse(End::from_error(ends.sides.1, &e), ends.pool);
                    }
                }
                continue;
            }
            match self.read(cx, ends) {
                Poll::Pending => return Step::Waiting,
                Poll::Ready(Err(e)) => return Step::Failed(End::from_error(ends.sides.0, &e)),
                Poll::Ready(Ok(())) => {}
            }
        }
        cx.waker().wake_by_ref();
        Step::Waiting
    }

    /// Takes a buffer only once there is something to read.
    fn read(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<std::io::Result<()>> {
        match ends.from.poll_read_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) => {}
        }
        let mut buffer = ends.pool.take();
        let mut read = ReadBuf::new(&mut buffer);
        let result = Pin::new(&mut *ends.from).poll_read(cx, &mut read);
        let len = read.filled().len();
        match &result {
            Poll::Ready(Ok(())) if len > 0 => self.pending.fill(buffer, len),
            Poll::Ready(Ok(())) => {
                self.state = State::Eof;
                ends.pool.give(buffer);
            }
            _ => ends.pool.give(buffer),
        }
        result
    }

    fn refuse(&mut self, end: End, pool: &BufferPool) -> Step {
        self.pending.clear(pool);
        self.state = State::Refused(end);
        Step::Refused(end)
    }
}
