//! For tests and the demo only: network namespaces, a test CA, child processes, small disks, waiting for a condition, and
//! a generator of GeoIP databases.
//!
//! Everything is real: namespaces of this kernel, TLS of rustls, processes. Everything that is made here is undone when it is
//! dropped, so that a test which panics leaves nothing behind. Namespaces are made with `ip` and not
//! over netlink: a failing test shows the command that a person can type again.

#[cfg(feature = "browser")]
pub mod browser;
pub mod ca;
pub mod clock;
pub mod disk;
pub mod grpc;
pub mod mmdb;
pub mod netns;
pub mod port;
pub mod process;
pub mod sshd;
pub mod unit;
mod wait;
pub mod xdp;

pub use wait::{DEADLINE, wait_for, wait_for_async};
