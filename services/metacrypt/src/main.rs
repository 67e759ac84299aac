//! The daemon, and what is done to it and its files.

use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Overwrites what is freed, so that no buffer on its way leaves a secret behind.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    metacrypt::program()
}
