//! One redirected connection, seen from userland.

use std::{
    io,
    net::Shutdown,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use mc_edge_common::relay::{CAP, Credit, Flow};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    super::{
        Deadlines, End, Job, Side, pending_error,
        pool::{BufferPool, Pending},
        reset_on_close, sys,
    },
    MAX_TICK, MIN_TICK,
    maps::{Pair, Tables},
};

/// Reads of a direction before other tasks get their turn.
const ROUNDS: usize = 16;

/// Relays `job`, whose sockets are in the maps.
pub(super) async fn run(job: Job, pair: Pair, pool: BufferPool) -> End {
    let Job {
        client,
        backend,
        limits,
        traffic,
        cancel,
    } = job;
    let mut up = Direction::new(pair.client, pair.backend, pair.base.1);
    let mut down = Direction::new(pair.backend, pair.client, pair.base.0);
    up.redirecting = pair.start(pair.client, &client);
    down.redirecting = pair.start(pair.backend, &backend);
    let mut deadlines = Deadlines::new(limits);
    let mut cancelled = pin!(cancel.cancelled());
    let mut tick = MIN_TICK;
    let mut timer = pin!(sleep_until(Instant::now() + tick));
    let end = std::future::poll_fn(|cx| {
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cancelled);
        }
        loop {
            let mut moved = false;
            let tables = &*pair.tables;
            let mut ends = Ends {
                tables,
                pool: &pool,
                from: &client,
                to: &backend,
                sides: (Side::Client, Side::Backend),
                counter: &traffic.from_client,
            };
            let first = up.poll(cx, &ends, &mut moved);
            ends = Ends {
                tables,
                pool: &pool,
                from: &backend,
                to: &client,
                sides: (Side::Backend, Side::Client),
                counter: &traffic.to_client,
            };
            let second = down.poll(cx, &ends, &mut moved);
            match (first, second) {
                (Err(end), _) | (_, Err(end)) => return Poll::Ready(end),
                (Ok(true), Ok(true)) => return Poll::Ready(End::Closed),
                _ => {}
            }
            let now = Instant::now();
            let waiting = up.waiting() || down.waiting();
            if moved {
                deadlines.active = now;
                tick = MIN_TICK;
            }
            if (moved || waiting) && timer.deadline() > now + tick {
                timer.as_mut().reset(now + tick);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(end) = deadlines
                .expired(now)
                .or_else(|| pending_error(&client, &backend))
            {
                return Poll::Ready(end);
            }
            tick = (tick * 2).min(longest_tick(waiting, now - deadlines.active));
            timer
                .as_mut()
                .reset((now + tick).min(deadlines.next(now)).max(now + MIN_TICK));
        }
    })
    .await;
    if end != End::Closed {
        reset_on_close(&client);
        reset_on_close(&backend);
    }
    up.pending.clear(&pool);
    down.pending.clear(&pool);
    // Before the sockets close, which would make their removal the kernel's business.
    drop(pair);
    end
}

/// How seldom a connection may be polled in which nothing has moved for so long. What waits for a peer that takes nothing is
/// noticed late by a part of that time: thousands that are stalled on purpose must not keep the workers busy.
fn longest_tick(waiting: bool, silent: Duration) -> Duration {
    if waiting {
        (silent / 8).clamp(MIN_TICK * 32, MAX_TICK)
    } else {
        MAX_TICK
    }
}

struct Ends<'a> {
    tables: &'a Tables,
    pool: &'a BufferPool,
    from: &'a TcpStream,
    to: &'a TcpStream,
    sides: (Side, Side),
    counter: &'a AtomicU64,
}

struct Direction {
    source: u64,
    peer: u64,
    redirecting: bool,
    /// Bytes in the destination's send queue that are none of this direction's.
    base: u64,
    /// Bytes userland has read and written.
    read: u64,
    written: u64,
    flow: Flow,
    /// Destination's send queue took everything redirected. Holds until userland lets the program resume.
    flushed: bool,
    resume_at: u64,
    limit: u64,
    /// (redirected, charged): once the former is in the send queue, the latter is no more in flight.
    mark: (u64, u64),
    pending: Pending,
    eof: bool,
    done: bool,
}

impl Direction {
    fn new(source: u64, peer: u64, base: u64) -> Self {
        Self {
            source,
            peer,
            redirecting: false,
            base,
            read: 0,
            written: 0,
            flow: Flow::default(),
            flushed: false,
            resume_at: 0,
            limit: CAP,
            mark: (0, 0),
            pending: Pending::default(),
            eof: false,
            done: false,
        }
    }

    /// Something is to happen that no waker reports.
    fn waiting(&self) -> bool {
        !self.done
            && (self.eof
                || !self.pending.is_empty()
                || self.mark.0 < self.flow.redirected
                || self.read < self.flow.passed)
    }

    /// `Ok(true)` = FIN delivered.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ends: &Ends<'_>,
        moved: &mut bool,
    ) -> Result<bool, End> {
        if self.done {
            return Ok(true);
        }
        self.account(ends, moved)?;
        for _ in 0..ROUNDS {
            if !self.pending.is_empty() {
                if !self.flush(ends)? || !self.write(cx, ends, moved)? {
                    return Ok(false);
                }
                continue;
            }
            if self.eof {
                return self.finish(ends);
            }
            if !self.read(cx, ends)? {
                self.resume(ends);
                return Ok(false);
            }
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Reads the program's counters and renews the credit.
    fn account(&mut self, ends: &Ends<'_>, moved: &mut bool) -> Result<(), End> {
        if !self.redirecting {
            return Ok(());
        }
        let before = self.flow.redirected;
        let flow = self.load(ends)?;
        *moved |= flow.redirected > before;
        if self.mark.0 < flow.redirected || self.limit < flow.charged + CAP {
            let drained = self.drained(ends)?;
            if drained >= self.mark.0 && self.limit < self.mark.1 + CAP {
                self.limit = self.mark.1 + CAP;
                self.grant(ends);
            }
            if drained >= self.mark.0 {
                self.mark = (flow.redirected, flow.charged);
            }
            if drained >= flow.redirected && self.limit < flow.charged + CAP {
                self.limit = flow.charged + CAP;
                self.grant(ends);
            }
        }
        Ok(())
    }

    /// Reads the program's counters, and counts.
    fn load(&mut self, ends: &Ends<'_>) -> Result<Flow, End> {
        let before = self.flow.redirected;
        self.flow = ends.tables.flow(self.source);
        let grown = self.flow.redirected.saturating_sub(before);
        ends.counter.fetch_add(grown, Relaxed);
        if self.flow.broken != 0 {
            return Err(End::Error(ends.sides.0, io::ErrorKind::InvalidData));
        }
        Ok(self.flow)
    }

    fn grant(&self, ends: &Ends<'_>) {
        let credit = Credit {
            peer: self.peer,
            limit: self.limit,
            resume_at: self.resume_at,
        };
        ends.tables.set_credit(self.source, credit);
    }

    /// Redirected bytes that the destination's send queue has taken.
    fn drained(&self, ends: &Ends<'_>) -> Result<u64, End> {
        let queued = sys::bytes_queued(ends.to).map_err(|e| End::from_error(ends.sides.1, &e))?;
        Ok(queued.saturating_sub(self.base + self.written))
    }

    fn flush(&mut self, ends: &Ends<'_>) -> Result<bool, End> {
        if self.redirecting && !self.flushed {
            self.load(ends)?;
            self.flushed = self.drained(ends)? >= self.flow.redirected;
        }
        Ok(self.flushed || !self.redirecting)
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        ends: &Ends<'_>,
        moved: &mut bool,
    ) -> Result<bool, End> {
        let failed = |e: &io::Error| End::from_error(ends.sides.1, e);
        while !self.pending.is_empty() {
            match ends.to.poll_write_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready.map_err(|e| failed(&e))?,
            }
            match ends.to.try_write(self.pending.bytes()) {
                Ok(n) => {
                    self.pending.advance(n, ends.pool);
                    self.written += n as u64;
                    ends.counter.fetch_add(n as u64, Relaxed);
                    *moved = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(failed(&e)),
            }
        }
        Ok(true)
    }

    /// `false`: nothing to read now.
    fn read(&mut self, cx: &mut Context<'_>, ends: &Ends<'_>) -> Result<bool, End> {
        let failed = |e: &io::Error| End::from_error(ends.sides.0, e);
        loop {
            match ends.from.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready.map_err(|e| failed(&e))?,
            }
            let mut buffer = ends.pool.take();
            let result = match ends.from.try_read(&mut buffer) {
                // The psock's receive says this, without an error pending, of a socket on which both FINs were exchanged.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(0),
                result => result,
            };
            match result {
                Ok(0) => {
                    ends.pool.give(buffer);
                    if self.redirecting {
                        self.load(ends)?;
                    }
                    // FIN may be seen while passed bytes are on their way to the receive queue.
                    self.eof = self.read >= self.flow.passed;
                    return Ok(self.eof);
                }
                Ok(n) => {
                    self.pending.fill(buffer, n);
                    self.read += n as u64;
                    return Ok(true);
                }
                Err(e) => {
                    ends.pool.give(buffer);
                    if e.kind() != io::ErrorKind::WouldBlock {
                        return Err(failed(&e));
                    }
                }
            }
        }
    }

    /// Lets the program redirect again, if it passed nothing since the last byte that was delivered. What
    /// it redirected has been flushed, and it redirects nothing while paused, so `flow` is exact.
    fn resume(&mut self, ends: &Ends<'_>) {
        if self.redirecting && self.read > self.resume_at {
            self.resume_at = self.read;
            self.flushed = false;
            self.mark = (self.flow.redirected, self.flow.charged);
            self.limit = self.flow.charged + CAP;
            self.grant(ends);
        }
    }

    fn finish(&mut self, ends: &Ends<'_>) -> Result<bool, End> {
        if self.redirecting {
            self.load(ends)?;
            if self.drained(ends)? < self.flow.redirected {
                return Ok(false);
            }
        }
        socket2::SockRef::from(ends.to)
            .shutdown(Shutdown::Write)
            .map_err(|e| End::from_error(ends.sides.1, &e))?;
        self.done = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_connection_is_polled_ever_more_seldom() {
        let polls = |silent| 1.0 / longest_tick(true, Duration::from_secs(silent)).as_secs_f64();
        assert!(polls(0) > 30.0, "what is busy is looked after");
        assert!(polls(1) <= 8.0);
        assert!(polls(60) <= 0.25);
        assert_eq!(longest_tick(false, Duration::ZERO), MAX_TICK);
    }
}
