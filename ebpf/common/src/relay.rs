//! The sockmap relay's per-direction state. Keys are socket cookies.

use crate::map_types;

/// Sockets in the relay's maps: two per connection. Hash maps are not preallocated.
pub const MAX_SOCKETS: u32 = 131_072;
/// What may be redirected and not yet taken by the destination's send buffer, in charged bytes: what a stalled reader
/// holds of kernel memory beyond socket buffers.
pub const CAP: u64 = 4 * 1024 * 1024;
/// Charged per skb on top of its bytes, so that one-byte segments cannot hold gigabytes in headers.
pub const SKB_CHARGE: u64 = 1024;

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
}

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

map_types!(Flow = 32, Credit = 24);
