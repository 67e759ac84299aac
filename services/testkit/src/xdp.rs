//! An XDP program that passes everything, on the far end of a veth pair.
//!
//! veth delivers a frame that the near end sends with `XDP_TX` only if the far end has an XDP program as well: without one nothing
//! polls its ring. A real network card has no such condition.

use std::{
    fs,
    io::{Error, Result as IoResult},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use crate::netns::{self, Namespace};

/// `mov r0, XDP_PASS; exit` (linux/bpf.h: BPF_ALU64|BPF_MOV|BPF_K, BPF_JMP|BPF_EXIT).
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_LINK_DETACH: u32 = 34;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    reserved: [u64; 4],
}

/// Those for BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[allow(unsafe_code)]
fn bpf<T>(command: u32, attributes: &T) -> IoResult<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of attributes, whose pointers the callers keep alive.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(Error::last_os_error()),
    }
}

#[allow(unsafe_code)]
fn load() -> IoResult<OwnedFd> {
    let fd = bpf(
        BPF_PROG_LOAD,
        &Load {
            kind: BPF_PROG_TYPE_XDP,
            count: PROGRAM.len() as u32,
            instructions: PROGRAM.as_ptr() as u64,
            license: c"MIT".as_ptr() as u64,
            reserved: [0; 4],
        },
    )?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the link that is pinned at `pin` off its interface, as `bpftool link detach` does. The pin stays.
///
/// # Errors
/// If there is none, or the kernel refuses.
#[allow(unsafe_code)]
pub fn detach_link(pin: &Path) -> Result<()> {
    let path = std::ffi::CString::new(pin.as_os_str().as_bytes())?;
    let attributes = Pin {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &attributes)
        .with_context(|| format!("cannot open the link {}", pin.display()))?;
    // SAFETY: BPF_OBJ_GET returned a new descriptor, which nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    bpf(BPF_LINK_DETACH, &(link.as_raw_fd() as u32)).context("cannot detach the link")?;
    Ok(())
}

/// Puts the passing program on `interface`, until that is deleted.
///
/// # Errors
/// If there is no bpffs, or the kernel or `ip` refuses.
pub fn pass(namespace: &Namespace, interface: &str) -> Result<()> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let program = load().context("cannot load a passing XDP program")?;
    let pin = format!("/sys/fs/bpf/mc-testkit-{}-{n}", std::process::id());
    // Of a process that was killed and had this one's id.
    let _ = fs::remove_file(&pin);
    let path = std::ffi::CString::new(pin.as_str()).context("a path without NUL")?;
    let attributes = Pin {
        path: path.as_ptr() as u64,
        fd: program.as_raw_fd() as u32,
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &attributes)
        .with_context(|| format!("cannot pin {pin}; is bpffs mounted?"))?;
    // Not `ip -n`, which mounts a fresh /sys without bpffs.
    let attached = netns::checked(
        namespace
            .command("ip")
            .args(["link", "set", "dev", interface, "xdpdrv", "pinned", &pin]),
    );
    fs::remove_file(Path::new(&pin)).with_context(|| format!("cannot remove {pin}"))?;
    attached
}
