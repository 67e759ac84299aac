//! The load generator: one thread in the client's namespace.

use std::{
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    netns::Namespace,
};
use nix::sys::epoll::EpollFlags;
use rustls::ClientConnection;

use super::{
    meter::{Phase, Took, Window},
    socket::{self, CHUNK, Poller, READY, command},
};

/// Nothing happening for so long is a relay that hangs.
const STALL_MS: u16 = 5000;
/// Connections being made at once when many are wanted: well below any accept queue.
const BATCH: usize = 64;
/// Size of a request and of its response.
const REQUEST: usize = 200;

/// Where the load goes.
pub(super) struct Target<'a> {
    pub(super) client: &'a Namespace,
    pub(super) relay: SocketAddr,
    /// A ClientHello with the name to route by.
    pub(super) hello: &'a [u8],
}

/// Things done one after the other on each connection.
pub(super) struct Cycles {
    pub(super) took: Took,
    /// µs each, sorted.
    micros: Vec<u32>,
}

impl Cycles {
    pub(super) fn per_second(&self) -> f64 {
        self.micros.len() as f64 / self.took.seconds
    }

    /// µs below which so many per cent are.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let index = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        self.micros.get(index).copied().map_or(f64::NAN, f64::from)
    }
}

/// The first bytes of a TLS 1.3 client that offers X25519MLKEM768: a ClientHello of two segments.
pub(super) fn client_hello(name: &str) -> Result<Vec<u8>> {
    let config = Ca::new()?.client_config(KeyExchange::PostQuantum)?;
    let name = name
        .to_owned()
        .try_into()
        .with_context(|| format!("{name} is not a hostname"))?;
    let mut hello = Vec::new();
    ClientConnection::new(config, name)?.write_tls(&mut hello)?;
    Ok(hello)
}

impl Target<'_> {
    /// New connections one after the other on each of `concurrency` slots: connect, ClientHello, one byte back, end.
    pub(super) fn connections(&self, concurrency: usize, window: Window) -> Result<Cycles> {
        self.client
            .run(|| self.run_connections(concurrency, window))?
    }

    /// 200 bytes there and back, one after the other on each connection.
    pub(super) fn requests(&self, connections: usize, window: Window) -> Result<Cycles> {
        self.client.run(|| self.run_requests(connections, window))?
    }

    /// As much as goes, on `each` connections down and as many up; bytes of both directions.
    pub(super) fn bulk(&self, each: usize, window: Window) -> Result<(f64, Took)> {
        self.client.run(|| self.run_bulk(each, window))?
    }

    /// Connections that have been relayed one byte and then stay.
    pub(super) fn idle(&self, count: usize) -> Result<Vec<TcpStream>> {
        self.client.run(|| self.establish(count, command::IDLE))?
    }

    fn preface(&self, command: u8) -> Vec<u8> {
        [self.hello, &[command]].concat()
    }

    fn establish(&self, count: usize, command: u8) -> Result<Vec<TcpStream>> {
        let preface = self.preface(command);
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            let n = BATCH.min(count - streams.len());
            streams.extend(self.establish_batch(n, &preface)?);
        }
        Ok(streams)
    }

    fn establish_batch(&self, count: usize, preface: &[u8]) -> Result<Vec<TcpStream>> {
        let mut poller = Poller::new()?;
        let streams = (0..count)
            .map(|_| socket::dial(self.relay))
            .collect::<Result<Vec<_>>>()?;
        for (token, stream) in streams.iter().enumerate() {
            poller.add(stream, EpollFlags::EPOLLOUT, token)?;
        }
        let mut waiting = count;
        while waiting > 0 {
            let ready: Vec<_> = poller.wait(STALL_MS)?.collect();
            ensure!(
                !ready.is_empty(),
                "{waiting} connections through {} hang",
                self.relay
            );
            for (token, flags) in ready {
                let stream = &streams[token];
                if flags.contains(EpollFlags::EPOLLIN) {
                    let mut byte = [0];
                    let got = socket::read(stream, &mut byte).context("a new connection broke")?;
                    ensure!(
                        got == Some(1) && byte == [READY],
                        "a new connection was ended"
                    );
                    poller.modify(stream, EpollFlags::empty(), token)?;
                    waiting -= 1;
                } else {
                    socket::write_whole(stream, preface).context("a new connection broke")?;
                    poller.modify(stream, EpollFlags::EPOLLIN, token)?;
                }
            }
        }
        Ok(streams)
    }

    fn run_connections(&self, concurrency: usize, mut window: Window) -> Result<Cycles> {
        let preface = self.preface(command::ONCE);
        let mut poller = Poller::new()?;
        let mut slots = (0..concurrency)
            .map(|i| Slot::new(&poller, self.relay, i))
            .collect::<Result<Vec<_>>>()?;
        let mut micros = Vec::new();
        let mut ready = Vec::new();
        loop {
            match window.phase(Instant::now())? {
                Phase::Opens => micros.clear(),
                Phase::Over => return finish(micros, &window),
                Phase::WarmUp | Phase::Open => {}
            }
            ready.clear();
            ready.extend(poller.wait(STALL_MS)?);
            ensure!(
                !ready.is_empty(),
                "new connections through {} hang",
                self.relay
            );
            for &(token, flags) in &ready {
                let slot = &mut slots[token];
                if slot
                    .step(flags, &preface)
                    .with_context(|| format!("a new connection through {}", self.relay))?
                {
                    micros.push(since(slot.begun));
                    *slot = Slot::new(&poller, self.relay, token)?;
                }
            }
        }
    }

    fn run_requests(&self, connections: usize, mut window: Window) -> Result<Cycles> {
        let streams = self.establish(connections, command::ECHO)?;
        let mut poller = Poller::new()?;
        let request = [b'x'; REQUEST];
        let mut sent = vec![(Instant::now(), 0); connections];
        for (token, stream) in streams.iter().enumerate() {
            stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
            poller.add(stream, EpollFlags::EPOLLIN, token)?;
            socket::write_whole(stream, &request).context("a request")?;
        }
        let mut micros = Vec::new();
        let mut ready = Vec::new();
        loop {
            match window.phase(Instant::now())? {
                Phase::Opens => micros.clear(),
                Phase::Over => return finish(micros, &window),
                Phase::WarmUp | Phase::Open => {}
            }
            ready.clear();
            ready.extend(poller.wait(STALL_MS)?);
            ensure!(!ready.is_empty(), "requests through {} hang", self.relay);
            for &(token, _) in &ready {
                let (begun, got) = &mut sent[token];
                match socket::read(&streams[token], &mut [0; REQUEST]).context("a response")? {
                    Some(0) => bail!("a connection through {} was ended", self.relay),
                    Some(n) => *got += n,
                    None => {}
                }
                if *got >= REQUEST {
                    micros.push(since(*begun));
                    sent[token] = (Instant::now(), 0);
                    socket::write_whole(&streams[token], &request).context("a request")?;
                }
            }
        }
    }

    fn run_bulk(&self, each: usize, mut window: Window) -> Result<(f64, Took)> {
        let down = self.establish(each, command::SOURCE)?;
        let up = self.establish(each, command::SINK)?;
        let mut poller = Poller::new()?;
        for (token, stream) in down.iter().chain(&up).enumerate() {
            let flags = if token < each {
                EpollFlags::EPOLLIN
            } else {
                EpollFlags::EPOLLOUT
            };
            poller.add(stream, flags, token)?;
        }
        let mut scratch = vec![0; CHUNK];
        let mut bytes = 0_usize;
        let mut ready = Vec::new();
        loop {
            match window.phase(Instant::now())? {
                Phase::Opens => bytes = 0,
                Phase::Over => return Ok((bytes as f64, window.took()?)),
                Phase::WarmUp | Phase::Open => {}
            }
            ready.clear();
            ready.extend(poller.wait(STALL_MS)?);
            ensure!(!ready.is_empty(), "bulk through {} hangs", self.relay);
            for &(token, _) in &ready {
                let moved = match token.checked_sub(each) {
                    None => socket::discard(&down[token], &mut scratch).context("bulk down")?,
                    Some(index) => socket::write(&up[index], &scratch).context("bulk up")?,
                };
                ensure!(
                    moved != Some(0),
                    "a connection through {} was ended",
                    self.relay
                );
                bytes += moved.unwrap_or(0);
            }
        }
    }
}

fn finish(mut micros: Vec<u32>, window: &Window) -> Result<Cycles> {
    let took = window.took()?;
    micros.sort_unstable();
    Ok(Cycles { took, micros })
}

fn since(begun: Instant) -> u32 {
    begun.elapsed().as_micros().try_into().unwrap_or(u32::MAX)
}

/// One of the concurrent new connections.
struct Slot {
    stream: TcpStream,
    begun: Instant,
    sent: bool,
    answered: bool,
}

impl Slot {
    fn new(poller: &Poller, relay: SocketAddr, token: usize) -> Result<Self> {
        let begun = Instant::now();
        let stream = socket::dial(relay)?;
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        poller.add(&stream, flags, token)?;
        Ok(Self {
            stream,
            begun,
            sent: false,
            answered: false,
        })
    }

    /// Whether it has come to its end.
    fn step(&mut self, flags: EpollFlags, preface: &[u8]) -> Result<bool> {
        if !self.sent && flags.contains(EpollFlags::EPOLLOUT) {
            socket::write_whole(&self.stream, preface).context("cannot send the ClientHello")?;
            self.sent = true;
        }
        let mut buffer = [0; 16];
        while self.sent {
            match socket::read(&self.stream, &mut buffer).context("cannot read the answer")? {
                None => break,
                Some(0) if self.answered => return Ok(true),
                Some(0) => bail!("it was ended without an answer"),
                Some(_) => self.answered = true,
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_is_one_record_of_two_segments() {
        let hello = client_hello("bench.example.org").unwrap();
        assert_eq!(hello[0], 22);
        assert_eq!(
            hello.len(),
            5 + usize::from(u16::from_be_bytes([hello[3], hello[4]]))
        );
        assert!(hello.len() > 1500 && hello.len() < 2500, "{}", hello.len());
    }

    #[test]
    fn percentiles() {
        let took = Took {
            seconds: 2.0,
            busy: 0.0,
        };
        let cycles = Cycles {
            took,
            micros: (1..=200).collect(),
        };
        assert_eq!(cycles.per_second(), 100.0);
        assert_eq!(cycles.percentile(50), 101.0);
        assert_eq!(cycles.percentile(99), 199.0);
        assert!(
            Cycles {
                took,
                micros: vec![]
            }
            .percentile(50)
            .is_nan()
        );
    }
}
