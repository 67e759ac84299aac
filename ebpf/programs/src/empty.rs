//! XDP: passes everything. What `cargo xtask bench edge` subtracts in thought from every other figure; the daemon never loads it.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Passes.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
