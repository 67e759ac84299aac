//! The server behind every relay: consumes a ClientHello, then does what the byte after it says ([`command`]).

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use mc_testkit::netns::Namespace;
use nix::sys::epoll::EpollFlags;

use super::socket::{self, CHUNK, Poller, READY, command};

/// How often the thread looks whether it is to stop.
const TICK_MS: u16 = 100;
/// A TLS record header; the hello is one record.
const RECORD_HEADER: usize = 5;
/// More than any ClientHello of the generator.
const MAX_PREFACE: usize = 8192;
/// Connections taken from a listener at once.
const ACCEPTS: usize = 32;

/// Runs until it is dropped.
pub(super) struct Backend {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Backend {
    /// Listens on `addresses` in `namespace`.
    pub(super) fn start(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Self> {
        let listeners =
            namespace.run(|| addresses.iter().map(listen).collect::<Result<Vec<_>>>())??;
        let (stop, open) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut server = Server::new(listeners, Arc::clone(&open))?;
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let result = server.run(&stopped);
            if let Err(error) = &result {
                eprintln!("the backend ended: {error:#}");
            }
            result
        });
        Ok(Self {
            stop,
            open,
            thread: Some(thread),
        })
    }

    /// Connections open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its error has been printed; a panic has printed itself.
            let _ = thread.join();
        }
    }
}

fn listen(address: &SocketAddr) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener
        .set_nonblocking(true)
        .context("cannot make a listener non-blocking")?;
    Ok(listener)
}

enum State {
    Preface(Vec<u8>),
    Echo,
    Source,
    Sink,
    Idle,
}

struct Connection {
    stream: TcpStream,
    state: State,
}

struct Server {
    poller: Poller,
    listeners: Vec<TcpListener>,
    /// Index + `listeners.len()` = epoll token.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    open: Arc<AtomicUsize>,
}

impl Server {
    fn new(listeners: Vec<TcpListener>, open: Arc<AtomicUsize>) -> Result<Self> {
        let poller = Poller::new()?;
        for (token, listener) in listeners.iter().enumerate() {
            poller.add(listener, EpollFlags::EPOLLIN, token)?;
        }
        let scratch = vec![0; CHUNK];
        Ok(Self {
            poller,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            scratch,
            open,
        })
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut ready = Vec::new();
        while !stop.load(Relaxed) {
            ready.clear();
            ready.extend(self.poller.wait(TICK_MS)?.map(|(token, _)| token));
            for &token in &ready {
                match token.checked_sub(self.listeners.len()) {
                    None => self.accept(token)?,
                    Some(index) => self.serve(index)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        for _ in 0..ACCEPTS {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot accept"),
            };
            stream
                .set_nonblocking(true)
                .context("cannot make a socket non-blocking")?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poller
                .add(&stream, EpollFlags::EPOLLIN, self.listeners.len() + index)?;
            self.connections[index] = Some(Connection {
                stream,
                state: State::Preface(Vec::new()),
            });
            self.open.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Errors of one connection end that connection: its client has gone.
    fn serve(&mut self, index: usize) -> Result<()> {
        // An event may be older than the connection that now has its index.
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let was_source = matches!(connection.state, State::Source);
        if !matches!(connection.step(&mut self.scratch), Ok(true)) {
            self.connections[index] = None;
            self.free.push(index);
            self.open.fetch_sub(1, Relaxed);
        } else if !was_source && matches!(connection.state, State::Source) {
            let token = self.listeners.len() + index;
            self.poller
                .modify(&connection.stream, EpollFlags::EPOLLOUT, token)?;
        }
        Ok(())
    }
}

impl Connection {
    /// `Ok(false)`: it is over.
    fn step(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let stream = &self.stream;
        match &mut self.state {
            State::Source => {
                socket::write(stream, scratch)?;
            }
            State::Sink => {
                if socket::discard(stream, scratch)? == Some(0) {
                    return Ok(false);
                }
            }
            State::Echo | State::Idle => match socket::read(stream, scratch)? {
                Some(0) => return Ok(false),
                Some(n) => socket::write_whole(stream, &scratch[..n])?,
                None => {}
            },
            State::Preface(seen) => match socket::read(stream, &mut scratch[..MAX_PREFACE])? {
                Some(0) => return Ok(false),
                Some(n) => {
                    seen.extend_from_slice(&scratch[..n]);
                    return self.begin();
                }
                None => {}
            },
        }
        Ok(true)
    }

    fn begin(&mut self) -> io::Result<bool> {
        let State::Preface(seen) = &self.state else {
            return Ok(true);
        };
        let Some(what) = preface(seen)? else {
            return Ok(true);
        };
        socket::write_whole(&self.stream, &[READY])?;
        self.state = match what {
            command::ONCE => return Ok(false),
            command::ECHO => State::Echo,
            command::SOURCE => State::Source,
            command::SINK => State::Sink,
            command::IDLE => State::Idle,
            other => return Err(io::Error::other(format!("unknown command {other}"))),
        };
        Ok(true)
    }
}

/// The command after the ClientHello, once both are there.
fn preface(seen: &[u8]) -> io::Result<Option<u8>> {
    let Some(&[kind, _, _, high, low]) = seen.get(..RECORD_HEADER) else {
        return Ok(None);
    };
    let end = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    if kind != 22 || end >= MAX_PREFACE {
        return Err(io::Error::other("not the generator's ClientHello"));
    }
    Ok(seen.get(end).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefaces() {
        let hello = [22, 3, 1, 0, 3, 1, 2, 3];
        for (what, seen, want) in [
            ("nothing", vec![], Some(None)),
            ("half a header", hello[..3].to_vec(), Some(None)),
            ("no command yet", hello.to_vec(), Some(None)),
            ("whole", [&hello[..], b"E"].concat(), Some(Some(b'E'))),
            ("not TLS", b"GET / HTTP".to_vec(), None),
        ] {
            assert_eq!(preface(&seen).ok(), want, "{what}");
        }
    }
}
