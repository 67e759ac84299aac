//! The sockmap relay's per-direction state. Keys are socket cookies.

use crate::map_types;

/// Sockets in the relay's maps: two per connection. Hash maps are not preallocated.
pub const MAX_SOCKETS: u32 = 131_072;
/// What may be redirected and not yet taken by the destination's send buffer, in charged bytes: what a stalled reader
/// holds of kernel memory beyond socket buffers.
pub const CAP: u64 = 4 * 1024 * 1024;
/// Charged per skb on top of its bytes, so that one-byte segments cannot hold gigabytes in headers.
pub const SKB_CHARGE: u64 = 1024;

/// Stands for an offset in a kernel struct that is not known.
pub const NO_OFFSET: u32 = u32::MAX;

/// Value of `RELAY_FLOWS`: written by the program only.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Bytes redirected to the peer.
    pub redirected: u64,
    /// The same plus [`SKB_CHARGE`] per skb.
    pub charged: u64,
    /// Bytes left to userland.
    pub passed: u64,
    /// 1 = everything goes to userland until [`Credit::resume_at`] equals `passed`.
    pub paused: u64,
    /// [`STARTED`] plus the sequence number after the last byte seen; 0 before the first.
    pub next: u64,
    /// 1 = the program met what it cannot relay and dropped it: the connection must be reset.
    pub broken: u64,
}

/// See [`Flow::next`].
pub const STARTED: u64 = 1 << 32;

/// Value of `RELAY_CREDITS`: written by userland only.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    /// Cookie of the destination.
    pub peer: u64,
    /// Redirect only while [`Flow::charged`] stays at or below.
    pub limit: u64,
    /// Passed bytes that userland has delivered. Redirecting goes on only if nothing was passed since, so that no byte
    /// overtakes another.
    pub resume_at: u64,
}

map_types!(Flow = 48, Credit = 24);
