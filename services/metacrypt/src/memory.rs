//! Memory that has keys in it: it is not swapped out, not dumped, and overwritten when it is given back.

use std::io;

use nix::sys::{
    mman::{MlockAllFlags, mlockall},
    prctl,
    resource::{Resource, setrlimit},
};
use zeroizing_alloc::ZeroAlloc;

/// Overwrites what is freed, so that no buffer on its way leaves a secret behind.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

/// Pages are locked as they are first used, not as they are reserved: stacks are large and mostly never used. nix has no name for it.
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);

/// No core dumps, no ptrace by other processes of the user, and, if `lock`, no swap.
///
/// # Errors
/// What the system says.
pub(crate) fn protect(lock: bool) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    if lock {
        mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT)?;
    }
    Ok(())
}
