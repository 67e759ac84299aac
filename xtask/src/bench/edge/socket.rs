//! Non-blocking sockets under one epoll: what generator and backend share.
//!
//! One thread each, since both cores belong to the relay under test; and epoll rather than tokio, so that an unoptimised dependency never sets
//! the pace.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn},
    },
};

/// Bytes of one bulk read or write.
pub(super) const CHUNK: usize = 256 << 10;
/// Events taken at once.
const EVENTS: usize = 256;

/// What follows the ClientHello: the byte that tells the backend what to do. It answers every one with [`READY`].
pub(super) mod command {
    /// Answer and close.
    pub(in super::super) const ONCE: u8 = b'1';
    /// Send back what comes.
    pub(in super::super) const ECHO: u8 = b'E';
    /// Send without end.
    pub(in super::super) const SOURCE: u8 = b'D';
    /// Take without end.
    pub(in super::super) const SINK: u8 = b'U';
    /// Nothing more.
    pub(in super::super) const IDLE: u8 = b'I';
}

/// The backend's answer to a preface.
pub(super) const READY: u8 = b'+';

/// Epoll with its buffer.
pub(super) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    pub(super) fn add(&self, fd: impl AsFd, flags: EpollFlags, token: usize) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(flags, token as u64))
            .context("cannot watch a socket")
    }

    pub(super) fn modify(&self, fd: impl AsFd, flags: EpollFlags, token: usize) -> Result<()> {
        self.epoll
            .modify(fd, &mut EpollEvent::new(flags, token as u64))
            .context("cannot watch a socket")
    }

    /// Tokens with their events; none after `timeout` milliseconds.
    pub(super) fn wait(
        &mut self,
        timeout: u16,
    ) -> Result<impl Iterator<Item = (usize, EpollFlags)>> {
        let n = match self.epoll.wait(&mut self.events, timeout) {
            Err(Errno::EINTR) => 0,
            other => other.context("cannot wait for sockets")?,
        };
        Ok(self.events[..n]
            .iter()
            .map(|event| (event.data() as usize, event.events())))
    }
}

/// Starts a connection without waiting for it.
pub(super) fn dial(to: SocketAddr) -> Result<TcpStream> {
    let SocketAddr::V4(v4) = to else {
        bail!("the namespaces have IPv4 only, not {to}")
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)
        .context("cannot make a socket")?;
    match socket::connect(fd.as_raw_fd(), &sockaddr(v4)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error).with_context(|| format!("cannot connect to {to}")),
    }
}

fn sockaddr(address: SocketAddrV4) -> SockaddrIn {
    SockaddrIn::from(address)
}

/// One read. `Ok(None)`: nothing there; `Ok(Some(0))`: the end.
pub(super) fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    would_block(stream.read(buffer))
}

/// One write. `Ok(None)`: no room.
pub(super) fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    would_block(stream.write(bytes))
}

/// Writes what surely fits into an empty send buffer.
pub(super) fn write_whole(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match write(stream, bytes)? {
        Some(n) if n == bytes.len() => Ok(()),
        other => Err(io::Error::other(format!(
            "{other:?} of {} bytes fit into the send buffer",
            bytes.len()
        ))),
    }
}

/// Takes up to [`CHUNK`] bytes without copying them (TCP's `MSG_TRUNC`), so that the reader never sets the pace.
pub(super) fn discard(stream: &TcpStream, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    would_block(
        socket::recv(stream.as_raw_fd(), scratch, MsgFlags::MSG_TRUNC).map_err(io::Error::from),
    )
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
