//! Metacrypt: certificates and secrets behind a seal.

mod api;
pub mod barrier;
mod core;
mod memory;
pub mod password;
mod program;
mod start;

pub use program::program;
pub use start::{Config, SERVICE, start};
