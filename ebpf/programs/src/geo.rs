//! GeoIP tables.

/// Country index of an IPv4 address (host order); 0 = unknown.
#[inline(always)]
pub(crate) fn country4(_address: u32) -> u8 {
    0
}

/// Country index of an IPv6 /64 (host order); 0 = unknown.
#[inline(always)]
pub(crate) fn country6(_prefix: u64) -> u8 {
    0
}
