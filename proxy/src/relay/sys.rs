//! The one socket query that no crate offers: `TCP_INFO` up to `tcpi_bytes_retrans`.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Offsets in the kernel's `struct tcp_info` (include/uapi/linux/tcp.h; it only ever grows).
const NOTSENT_BYTES: usize = 144;
const BYTES_SENT: usize = 200;
const BYTES_RETRANS: usize = 208;
const LEN: usize = 216;

/// Bytes that were ever put into the socket's send queue.
pub(super) fn bytes_queued(socket: &impl AsFd) -> io::Result<u64> {
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
    let u64_at = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"));
    let notsent = u32::from_ne_bytes(
        info[NOTSENT_BYTES..NOTSENT_BYTES + 4]
            .try_into()
            .expect("four bytes"),
    );
    Ok(u64_at(BYTES_SENT) - u64_at(BYTES_RETRANS) + u64::from(notsent))
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
