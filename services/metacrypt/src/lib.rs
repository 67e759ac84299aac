//! Metacrypt: certificates and secrets behind a seal.

mod account;
mod api;
pub mod barrier;
mod core;
mod engine;
mod entered;
mod gate;
mod http;
mod jobs;
mod log;
mod memory;
mod pages;
pub mod password;
mod past;
mod policy;
mod program;
mod restore;
mod start;
#[cfg(test)]
mod testing;
mod tool;

pub use program::program;
pub use start::{Config, SERVICE, start, start_by};

/// That of the program, for the tests that look for keys in memory.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
