//! Which interface a pinned link is on: `BPF_OBJ_GET_INFO_BY_FD`, of which aya gives out neither the interface nor the
//! descriptor to ask by.
//!
//! Rejected: `/proc/self/fdinfo`, which tells it too, but without the descriptor's number only after a search through all of them.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_TYPE_XDP: u32 = 6;

/// `bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, whose union is aligned to 8 bytes.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
}

/// The index of the interface that the link pinned at `path` filters; 0 = none any more.
pub(super) fn link_interface(path: &Path) -> io::Result<u32> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        path: name.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: `name` outlives the call, which only reads it.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut get)? };
    // SAFETY: the kernel has just made the descriptor (with CLOEXEC), and nobody else knows of it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = LinkInfo::default();
    let mut get = GetInfo {
        fd: link.as_raw_fd().cast_unsigned(),
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is plain integers.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut get)? };
    if info.kind != BPF_LINK_TYPE_XDP {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(info.interface)
}

/// # Safety
/// `attributes` are those of `command`, and what they point to is good for what the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the caller's; the kernel takes attributes shorter than its own as followed by zeros.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as RawFd)
}
