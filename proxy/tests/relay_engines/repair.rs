//! A sender whose next segment overlaps what the receiver has, as retransmissions that join segments do.
#![allow(unsafe_code)]

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
};

use libc::c_int;
use socket2::{Domain, Socket, Type};

const RECV_QUEUE: u32 = 1;
const SEND_QUEUE: u32 = 2;
/// Leaves repair mode without a window probe.
const OFF: u32 = u32::MAX;

const TCP_REPAIR_WINDOW: c_int = 29;
const OPTION_MSS: u32 = 2;
const OPTION_WINDOW_SCALE: u32 = 3;
/// Byte of `struct tcp_info` with both window scales.
const SCALES: usize = 6;
/// Not the default of 536, with which the first burst would be short.
const MSS: u32 = 30_000;
/// What the peer is taken to accept. It is the test's business not to send more.
const WINDOW: u32 = 60_000;

/// `N` words, which is what all of the kernel's structs here are.
fn set<const N: usize>(socket: &impl AsRawFd, option: c_int, value: [u32; N]) {
    // SAFETY: `value` is valid for the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    let error = std::io::Error::last_os_error();
    assert_eq!(result, 0, "TCP option {option} = {value:?}: {error}");
}

fn sequence(socket: &impl AsRawFd, queue: u32) -> u32 {
    set(socket, libc::TCP_REPAIR_QUEUE, [queue]);
    let (mut value, mut len) = (0u32, size_of::<u32>() as libc::socklen_t);
    // SAFETY: `value` is valid for `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUEUE_SEQ,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

/// The window scales in the order that `TCP_REPAIR_OPTIONS` takes.
fn scales(socket: &impl AsRawFd) -> u32 {
    let (mut info, mut len) = ([0u8; 8], 8 as libc::socklen_t);
    // SAFETY: `info` is valid for `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    u32::from(info[SCALES] & 15) | u32::from(info[SCALES] >> 4) << 16
}

/// The same connection, of which everything is acknowledged, gone back by `bytes` in what it sends.
pub(crate) fn rewind(stream: TcpStream, bytes: u32) -> TcpStream {
    let (local, peer): (SocketAddr, SocketAddr) =
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    set(&stream, libc::TCP_REPAIR, [1]);
    let sent = sequence(&stream, SEND_QUEUE);
    let received = sequence(&stream, RECV_QUEUE);
    let scales = scales(&stream);
    drop(stream);
    let again = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    set(&again, libc::TCP_REPAIR, [1]);
    for (queue, value) in [
        (SEND_QUEUE, sent.wrapping_sub(bytes)),
        (RECV_QUEUE, received),
    ] {
        set(&again, libc::TCP_REPAIR_QUEUE, [queue]);
        set(&again, libc::TCP_QUEUE_SEQ, [value]);
    }
    again.bind(&local.into()).unwrap();
    again.connect(&peer.into()).unwrap();
    set(&again, libc::TCP_REPAIR_OPTIONS, [OPTION_MSS, MSS]);
    set(
        &again,
        libc::TCP_REPAIR_OPTIONS,
        [OPTION_WINDOW_SCALE, scales],
    );
    let window = [received, WINDOW, WINDOW, WINDOW, received];
    set(&again, TCP_REPAIR_WINDOW, window);
    set(&again, libc::TCP_REPAIR, [OFF]);
    again.into()
}
