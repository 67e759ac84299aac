//! What an interface carries, which XDP program is on it, and how: `RTM_GETLINK` over rtnetlink. BPF links do not tell their mode.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its packets begin with an Ethernet header.
    pub(super) ethernet: bool,
    pub(super) xdp: Option<Attached>,
}

/// An attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// Its id.
    pub(super) program: u32,
    /// It runs in generic mode.
    pub(super) generic: bool,
}

const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;
const IFINFO: usize = 16;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
/// An answer is about 2 KiB; virtual functions can make it longer.
const BUFFER: usize = 32 * 1024;

/// Asks the kernel about an interface.
pub(super) fn interface(index: u32) -> io::Result<Interface> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let mut request = Vec::with_capacity(HEADER + IFINFO);
    request.extend(((HEADER + IFINFO) as u32).to_ne_bytes());
    request.extend(RTM_GETLINK.to_ne_bytes());
    request.extend(1u16.to_ne_bytes()); // NLM_F_REQUEST
    request.extend([0; 8]); // sequence, port
    request.extend([0; 4]); // family, type
    request.extend(index.to_ne_bytes());
    request.extend([0; 8]); // flags, change mask
    sendto(
        socket.as_raw_fd(),
        &request,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut buffer = vec![0; BUFFER];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    parse(&buffer[..length])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn parse(message: &[u8]) -> io::Result<Interface> {
    if u16_at(message, 4) == Some(NLMSG_ERROR) {
        let code = u32_at(message, HEADER).map_or(libc::EIO, |c| -c.cast_signed());
        return Err(io::Error::from_raw_os_error(code));
    }
    let kind = u16_at(message, HEADER + 2);
    let attributes = message.get(HEADER + IFINFO..).unwrap_or_default();
    Ok(Interface {
        ethernet: matches!(kind, Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK)),
        xdp: attribute(attributes, IFLA_XDP).and_then(attached),
    })
}

fn attached(xdp: &[u8]) -> Option<Attached> {
    let mode = *attribute(xdp, IFLA_XDP_ATTACHED)?.first()?;
    let program = attribute(xdp, IFLA_XDP_PROG_ID)
        .and_then(|v| u32_at(v, 0))
        .unwrap_or(0);
    (mode != 0).then_some(Attached {
        program,
        generic: mode == XDP_ATTACHED_SKB,
    })
}

/// The value of the first attribute of a type.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..length)?;
        if u16_at(bytes, 2)? & 0x3fff == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}
