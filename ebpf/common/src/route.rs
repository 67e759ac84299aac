//! The route table's key and value.

use crate::map_types;

/// Capacity of the route table. Not preallocated, so the bound costs nothing until it is used.
pub const MAX_ROUTES: u32 = 65_536;
/// Backends of one route. The value is replaced whole, so that a change of backends is atomic.
pub const MAX_BACKENDS: usize = 16;
/// Longest hostname in presentation form without the trailing dot (RFC 1035 §2.3.4).
pub const MAX_HOSTNAME: usize = 253;

/// Key: a listener port and a lower-cased hostname, or `*.` and a parent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteKey {
    /// Listener port, host byte order.
    pub port: u16,
    /// Bytes of `name` in use.
    pub len: u8,
    /// The hostname, zero-padded (the padding is part of the hash key).
    pub name: [u8; MAX_HOSTNAME],
}

/// One backend's socket address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendAddr {
    /// IPv6 address; an IPv4 address is IPv4-mapped (RFC 4291 §2.5.5.2).
    pub addr: [u8; 16],
    /// Host byte order.
    pub port: u16,
    /// Always zero.
    pub reserved: u16,
}

/// Relay mode of a route.
pub mod mode {
    /// Relay of bytes chosen by SNI, TLS untouched.
    pub const L4: u8 = 1;
    /// TLS ends at the proxy, which speaks HTTP with the backends.
    pub const L7: u8 = 2;
}

/// Relay engine of a route.
pub mod engine {
    /// The daemon's default.
    pub const DEFAULT: u8 = 0;
    /// Userland copy.
    pub const COPY: u8 = 1;
    /// sk_skb redirect.
    pub const SOCKMAP: u8 = 2;
}

/// Value: what to do with a connection.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteValue {
    /// The route's id in SQLite.
    pub route_id: u64,
    /// One of [`mode`].
    pub mode: u8,
    /// One of [`engine`].
    pub engine: u8,
    /// 1 = enabled. A disabled route denies; it does not fall through to a wildcard.
    pub enabled: u8,
    /// Backends in use.
    pub backend_count: u8,
    /// Always zero.
    pub reserved: u32,
    /// The first `backend_count` are in use.
    pub backends: [BackendAddr; MAX_BACKENDS],
}

map_types!(RouteKey = 256, BackendAddr = 20, RouteValue = 336);
