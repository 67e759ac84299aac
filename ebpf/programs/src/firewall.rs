//! XDP: the firewall.
use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Judges one packet.
#[xdp]
pub fn firewall(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
