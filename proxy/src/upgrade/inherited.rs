//! What a daemon finds open when it starts: from its predecessor, or sockets from systemd.
//!
//! Nothing is labelled. A socket is known by the address that it listens on, a lock by the file that it locks, so that
//! names need not agree between versions, units and configurations.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr as UnixAddr, UnixListener},
        },
    },
    path::Path,
};

use nix::sys::stat::{SFlag, fstat};
use socket2::{SockRef, Type};

use super::channel::owned;

/// Open locks and listening sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    locks: Vec<File>,
    unix: Vec<UnixListener>,
    tcp: Vec<TcpListener>,
    /// The operator took the firewall off the predecessor's interfaces.
    pub(crate) detached: bool,
}

impl Inherited {
    /// What systemd has passed (LISTEN_FDS). Call it once.
    ///
    /// # Errors
    /// If the variables do not make sense.
    pub fn from_systemd() -> io::Result<Self> {
        let mut inherited = Self::default();
        for descriptor in sd_notify::listen_fds()? {
            inherited.add(owned(descriptor));
        }
        Ok(inherited)
    }

    /// Sorts one in; one of no use is closed.
    pub(crate) fn add(&mut self, descriptor: OwnedFd) {
        let kind = fstat(&descriptor).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT);
        if kind != Ok(SFlag::S_IFSOCK) {
            self.locks.push(descriptor.into());
            return;
        }
        let socket = SockRef::from(&descriptor);
        let listens = socket.is_listener().unwrap_or(false)
            && socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        let address = socket.local_addr();
        match address {
            Ok(address) if listens && address.is_unix() => self.unix.push(descriptor.into()),
            Ok(address) if listens && address.as_socket().is_some() => {
                self.tcp.push(descriptor.into());
            }
            _ => tracing::warn!(
                ?address,
                "an inherited socket does not listen for streams and is closed"
            ),
        }
    }

    /// The lock of this file or directory.
    pub fn lock(&mut self, path: &Path) -> Option<File> {
        let wanted = std::fs::metadata(path).ok()?;
        let found = self.locks.iter().position(|lock| {
            lock.metadata()
                .is_ok_and(|m| (m.dev(), m.ino()) == (wanted.dev(), wanted.ino()))
        })?;
        Some(self.locks.swap_remove(found))
    }

    /// The Unix socket of this path.
    pub fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let found = self.unix.iter().position(|socket| {
            let address = socket.local_addr();
            address.is_ok_and(|a: UnixAddr| a.as_pathname() == Some(path))
        })?;
        Some(self.unix.swap_remove(found))
    }

    /// Whether there is a TCP socket of this address.
    pub fn has_tcp(&self, address: SocketAddr) -> bool {
        let of = |socket: &TcpListener| socket.local_addr().is_ok_and(|a| a == address);
        self.tcp.iter().any(of)
    }

    /// The TCP socket of this address.
    pub fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self
            .tcp
            .iter()
            .position(|socket| socket.local_addr().is_ok_and(|a| a == address))?;
        Some(self.tcp.swap_remove(found))
    }

    /// Closes what nobody has taken, with a warning, and removes the files of such Unix sockets.
    pub fn close(&mut self) {
        for socket in self.tcp.drain(..) {
            let address = socket.local_addr().map(|a| a.to_string());
            tracing::warn!(
                address = address.as_deref().unwrap_or("?"),
                "nothing is declared for an inherited socket: it is closed; see `mcproxyctl listener add`"
            );
        }
        for socket in self.unix.drain(..) {
            let address = socket.local_addr();
            let path = address.as_ref().ok().and_then(UnixAddr::as_pathname);
            tracing::warn!(
                ?path,
                "the admin socket is elsewhere now: the inherited one is closed"
            );
            if let Some(path) = path {
                // Gone already is as good.
                let _ = std::fs::remove_file(path);
            }
        }
        self.locks.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn everything_is_found_by_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (tcp, other) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let (address, left) = (tcp.local_addr().unwrap(), other.local_addr().unwrap());
        let mut inherited = Inherited::default();
        for descriptor in [
            UnixListener::bind(&path).unwrap().into(),
            OwnedFd::from(File::open(dir.path()).unwrap()),
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            other.into(),
            tcp.as_fd().try_clone_to_owned().unwrap(),
        ] {
            inherited.add(descriptor);
        }
        assert!(inherited.lock(Path::new("/")).is_none());
        assert!(inherited.lock(dir.path()).is_some());
        assert!(inherited.lock(dir.path()).is_none(), "once");
        assert!(inherited.unix(dir.path()).is_none());
        assert!(inherited.unix(&path).is_some());
        assert!(inherited.tcp(address).is_some());
        assert!(inherited.tcp(address).is_none(), "once");
        assert_eq!(inherited.tcp.len(), 1, "not the UDP socket");
        inherited.close();
        let again = TcpListener::bind(left);
        assert!(again.is_ok(), "closed: {again:?}");
    }
}
