//! Metacrypt: certificates and secrets behind a seal.

mod api;
pub mod barrier;
mod core;
mod engine;
mod entered;
mod memory;
pub mod password;
mod policy;
mod program;
mod start;

pub use program::program;
pub use start::{Config, SERVICE, start, start_by};

/// That of the program, for the tests that look for keys in memory.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
