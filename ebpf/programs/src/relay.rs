//! sk_skb stream verdict: the sockmap relay. See `proxy/src/relay/sockmap.rs`.
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_NO_PREALLOC, sk_action},
    helpers::bpf_get_socket_cookie,
    macros::{map, stream_verdict},
    maps::{HashMap, SockHash},
    programs::SkBuffContext,
};
use mc_edge_common::relay::{Credit, Flow, MAX_SOCKETS, SKB_CHARGE};

/// Sources: the verdict is attached to this one.
#[map]
static RELAY_SRC: SockHash<u64> = SockHash::with_max_entries(MAX_SOCKETS, 0);
/// Redirect targets.
#[map]
static RELAY_DST: SockHash<u64> = SockHash::with_max_entries(MAX_SOCKETS, 0);
/// Source cookie -> counters.
#[map]
static RELAY_FLOWS: HashMap<u64, Flow> =
    HashMap::with_max_entries(MAX_SOCKETS, BPF_F_NO_PREALLOC);
/// Source cookie -> what userland allows.
#[map]
static RELAY_CREDITS: HashMap<u64, Credit> =
    HashMap::with_max_entries(MAX_SOCKETS, BPF_F_NO_PREALLOC);

/// Redirects what a socket receives into its peer, within the credit; beyond it, leaves it to userland.
#[stream_verdict]
pub fn relay(ctx: SkBuffContext) -> u32 {
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(flow) = RELAY_FLOWS.get_ptr_mut(&cookie) else {
        return sk_action::SK_PASS;
    };
    // SAFETY: the entry outlives the program run (RCU), and the socket's lock makes this its only writer.
    let flow = unsafe { &mut *flow };
    let len = u64::from(ctx.len());
    if len == 0 {
        // A bare FIN, which TCP has acted on. Redirected, it would be sent after userland's shutdown and leave
        // EPIPE on the peer.
        return sk_action::SK_DROP;
    }
    // SAFETY: userland replaces the entry as a whole; an old one stays readable for this run.
    if let Some(credit) = unsafe { RELAY_CREDITS.get(&cookie) } {
        let resumed = flow.paused == 0 || credit.resume_at == flow.passed;
        let charged = flow.charged + len + SKB_CHARGE;
        if resumed
            && charged <= credit.limit
            && RELAY_DST.redirect_skb(&ctx, credit.peer, 0) == i64::from(sk_action::SK_PASS)
        {
            flow.charged = charged;
            flow.redirected += len;
            flow.paused = 0;
            return sk_action::SK_PASS;
        }
    }
    flow.paused = 1;
    flow.passed += len;
    sk_action::SK_PASS
}
