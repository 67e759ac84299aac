//! Messages with descriptors over a Unix socket pair that keeps their bounds (SOCK_SEQPACKET).
//!
//! JSON, whose unknown fields are ignored: the two ends are different versions.

use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
        getsockopt, recvmsg, sendmsg, socketpair, sockopt::PeerCredentials,
    },
};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

/// What is told of daemons that drain at most: each upgrade adds one, and each ends within its deadline.
const MAX_DRAINING: usize = 64;
/// Descriptors of one message; the kernel's own bound is 253 (SCM_MAX_FD).
pub(super) const MAX_DESCRIPTORS: usize = 250;
/// Bytes of a message: only [`Message::Failed`] is not of a few bytes.
const MAX_MESSAGE: usize = 16 * 1024;
/// Bytes of a reason: even if each became six (JSON's escapes) it would fit.
const MAX_REASON: usize = 2 * 1024;
/// Of a message that is not understood.
const MAX_SHOWN: usize = 64;

/// What the two daemons say.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// The new one runs and its configuration is fine.
    Hello { version: String },
    /// Locks and sockets come with it; their kind and name tell what each is.
    Descriptors {
        last: bool,
        /// The operator took the firewall off, and it stays off.
        #[serde(default)]
        detached: bool,
    },
    /// The new one could serve.
    Ready {
        /// L7 routes for which it could load no certificate.
        #[serde(default)]
        bare: usize,
    },
    /// The new one shall serve.
    Go {},
    /// The new one accepts connections.
    Serving {},
    /// The new one cannot, and ends.
    Failed { reason: String },
    /// What the old one and those before it still hold, told every second while it drains.
    Draining { daemons: Vec<Drains> },
    /// What another version says, as text.
    #[serde(skip)]
    Unknown(String),
}

/// A daemon that was replaced and still has connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drains {
    /// Its process id.
    pub pid: u32,
    /// How many connections; `None` = it has not said yet, or never does (an earlier version).
    pub connections: Option<u64>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(f, "{:?}", &text[..text.len().min(MAX_SHOWN)]),
            message => write!(f, "{message:?}"),
        }
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// This process's end, and the child's.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(ours), theirs))
    }

    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        // Whatever else it may be.
        SockRef::from(&socket).r#type()?;
        Ok(Self(socket))
    }

    /// The process that made the pair, if this is the child's end.
    pub(super) fn maker(&self) -> Option<u32> {
        let credentials = getsockopt(&self.0, PeerCredentials).ok()?;
        u32::try_from(credentials.pid()).ok()
    }

    /// Tells what drains; is not waited for, and is lost if the other end reads nothing.
    pub(super) fn report(&self, mut daemons: Vec<Drains>) {
        daemons.truncate(MAX_DRAINING);
        // The other end is gone, or of a version that does not read it.
        let _ = self.send_with(&Message::Draining { daemons }, &[], MsgFlags::MSG_DONTWAIT);
    }

    pub(super) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, MsgFlags::empty())
    }

    fn send_with(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
        flags: MsgFlags,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let raw: Vec<RawFd> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            rights,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// The next message; `None` once the other end is closed. Without a `limit` it waits for ever.
    pub(super) fn receive(
        &self,
        limit: Option<Duration>,
    ) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        SockRef::from(&self.0).set_read_timeout(limit)?;
        self.receive_with(MsgFlags::empty())
    }

    /// What has come already; [`io::ErrorKind::WouldBlock`] if nothing has.
    pub(super) fn receive_now(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&self, flags: MsgFlags) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = loop {
            let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut descriptors = Vec::new();
        for control in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                descriptors.extend(raw.into_iter().map(owned));
            }
        }
        let length = received.bytes;
        match length {
            0 => Ok(None),
            _ => Ok(Some((understand(&bytes[..length]), descriptors))),
        }
    }
}

fn understand(bytes: &[u8]) -> Message {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Message::Unknown(bytes.escape_ascii().to_string()))
}

/// A reason that fits a message.
pub(super) fn failed(reason: &str) -> Message {
    let end = reason.floor_char_boundary(MAX_REASON);
    Message::Failed {
        reason: reason[..end].to_owned(),
    }
}

/// Takes a descriptor that the kernel has just put into this process for this very purpose.
#[allow(unsafe_code)]
pub(super) fn owned(raw: RawFd) -> OwnedFd {
    // SAFETY: the callers got `raw` from recvmsg(2) or as systemd's LISTEN_FDS: it is open, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::over(b).unwrap();
        let file = File::open("/dev/null").unwrap();
        a.send(&Message::Ready { bare: 2 }, &[]).unwrap();
        let many = vec![file.as_fd(); MAX_DESCRIPTORS];
        let last = || Message::Descriptors {
            last: true,
            detached: false,
        };
        a.send(&last(), &many).unwrap();
        a.send(&failed(&"\u{1}".repeat(1 << 20)), &[]).unwrap();
        drop(a);
        let (message, descriptors) = b.receive(None).unwrap().unwrap();
        assert_eq!(
            (message, descriptors.len()),
            (Message::Ready { bare: 2 }, 0)
        );
        let (message, descriptors) = b.receive(None).unwrap().unwrap();
        assert_eq!(message, last());
        assert_eq!(descriptors.len(), MAX_DESCRIPTORS);
        let (message, _) = b.receive(None).unwrap().unwrap();
        assert!(matches!(message, Message::Failed { reason } if reason.len() == MAX_REASON));
        assert!(b.receive(None).unwrap().is_none(), "the end");
    }

    #[test]
    fn silence_is_a_timeout_and_a_later_version_may_say_more() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::over(b).unwrap();
        let silent = b.receive(Some(Duration::from_millis(1))).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        let later = r#"{"hello":{"version":"9","novelty":[1]}}"#;
        nix::unistd::write(&a.0, later.as_bytes()).unwrap();
        let (message, _) = b.receive(None).unwrap().unwrap();
        let version = "9".to_owned();
        assert_eq!(message, Message::Hello { version });
        nix::unistd::write(&a.0, b"{\"novelty\":{}}").unwrap();
        let (message, _) = b.receive(None).unwrap().unwrap();
        assert!(matches!(message, Message::Unknown(text) if text.contains("novelty")));
    }

    #[test]
    fn what_drains_is_told_without_waiting() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::over(b).unwrap();
        assert_eq!(b.maker(), Some(std::process::id()));
        let daemon = |pid| Drains {
            pid,
            connections: Some(u64::MAX),
        };
        // Far more than a socket holds, and nobody reads.
        for _ in 0..10_000 {
            a.report((0..1000).map(daemon).collect());
        }
        let (message, _) = b.receive_now().unwrap().unwrap();
        let Message::Draining { daemons } = message else {
            panic!("{message}");
        };
        assert_eq!(daemons.len(), MAX_DRAINING);
        // An earlier version does not know of it.
        assert_eq!(
            understand(br#"{"descriptors":{"last":true}}"#),
            Message::Descriptors {
                last: true,
                detached: false
            }
        );
        while b.receive_now().is_ok() {}
        let nothing = b.receive_now().unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let file = File::open("/dev/null").unwrap();
        assert!(Channel::over(file.into()).is_err());
    }
}
