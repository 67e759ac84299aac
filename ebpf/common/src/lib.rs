//! What the eBPF programs and the daemon must agree on: map keys, map values and the firewall's
//! decision, each defined once. `no_std`, depends on nothing; the feature `user` adds `aya::Pod`.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod decide;
pub mod firewall;
pub mod geo;
pub mod relay;
pub mod route;

/// Version of every layout in this crate. It is part of the pin path, so that a daemon never takes
/// over maps whose layout it does not know. Raise it when a key or value changes.
pub const LAYOUT_VERSION: u32 = 2;

/// Implements `aya::Pod` for `#[repr(C)]` types without padding or invalid bit patterns, and asserts
/// their size on both sides.
macro_rules! map_types {
    ($($ty:ty = $size:expr),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$ty>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: the type is `#[repr(C)]`, `Copy`, made of integers only, and the size assertion
        // above leaves no room for implicit padding.
        #[allow(unsafe_code)]
        unsafe impl aya::Pod for $ty {}
    )+};
}
pub(crate) use map_types;
