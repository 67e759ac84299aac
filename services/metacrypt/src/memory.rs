//! Memory that has keys in it: it is not dumped, not swapped out, and, by the allocator of `main.rs`, overwritten when it is given back.

use std::{fs, io};

use nix::sys::{
    mman::{MlockAllFlags, mlockall},
    prctl,
    resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

/// Pages are locked as they are first used, not as they are reserved: stacks are large and mostly never used. nix has no name for it.
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
/// CAP_IPC_LOCK (capabilities(7)).
const IPC_LOCK: u64 = 1 << 14;

/// Of the largest block that is kept for the next who needs one: several times what a request makes of itself.
const KEPT: usize = 8 << 20;

/// Has what large requests used be used again, rather than be given back to the system and asked for again, page by page, by each of them. glibc gives back what is
/// freed at once above a size, and learns it from the largest block that was freed (mallopt(3), M_MMAP_THRESHOLD).
pub(crate) fn used_again() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT)));
}

/// No core dumps, and no ptrace by other processes of the user.
///
/// # Errors
/// What the system says.
pub(crate) fn undumped() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

/// No swap.
///
/// # Errors
/// If it is not allowed, or for some memory alone: all beyond that could not be had any more.
pub(crate) fn unswapped() -> io::Result<()> {
    let (some, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if some != RLIM_INFINITY && !may_lock()? {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT)?;
    Ok(())
}

/// Whether this process has CAP_IPC_LOCK.
fn may_lock() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    Ok(effective.is_some_and(|set| set & IPC_LOCK != 0))
}
