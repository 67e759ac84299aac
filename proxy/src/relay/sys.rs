//! The socket queries that no crate offers.
//!
//! Rejected for counting what a send queue took: `tcpi_bytes_sent`, which counts a segment as often as the device
//! refused it.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Offset in the kernel's `struct tcp_info` (include/uapi/linux/tcp.h; it only ever grows).
const BYTES_ACKED: usize = 120;
const LEN: usize = 128;
/// Acknowledgements that may come while a send queue is measured.
const TRIES: usize = 1000;

/// Bytes that were ever put into the socket's send queue, plus a constant. What is acknowledged meanwhile is missing:
/// never too many.
pub(super) fn bytes_queued(socket: &impl AsFd) -> io::Result<u64> {
    // In this order, so that an acknowledgement in between is not counted twice.
    Ok(bytes_acked(socket)? + bytes_outstanding(socket)?)
}

/// [`bytes_queued`] with none missing.
pub(super) fn bytes_queued_exactly(socket: &impl AsFd) -> io::Result<u64> {
    for _ in 0..TRIES {
        let acked = bytes_acked(socket)?;
        let queued = acked + bytes_outstanding(socket)?;
        if acked == bytes_acked(socket)? {
            return Ok(queued);
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn bytes_acked(socket: &impl AsFd) -> io::Result<u64> {
    let mut info = [0u8; LEN];
    let mut len = LEN as libc::socklen_t;
    // SAFETY: `info` is valid for `len` bytes, and the kernel writes at most that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < LEN {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let bytes = &info[BYTES_ACKED..BYTES_ACKED + 8];
    Ok(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
}

/// Bytes in the send queue, sent and not acknowledged or not sent.
fn bytes_outstanding(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (= TIOCOUTQ) writes an int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Read without the socket's lock, it may be negative for a moment.
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Runs the verdict on what is queued already, in order: setting `SO_RCVLOWAT` calls the socket's data-ready hook.
pub(super) fn kick(socket: &impl AsFd) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: `one` is a valid int for the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
