//! sk_skb stream verdict: the sockmap relay. See `proxy/src/relay/sockmap.rs`.
//!
//! The kernel hands the verdict whole skbs, whatever of them the reader has had: the tail of one that userland read in
//! part (it peeked at a ClientHello), or a retransmission that overlaps what arrived. So the program keeps the sequence number
//! it expects and cuts off what lies before.
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_NO_PREALLOC, sk_action},
    helpers::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::{map, stream_verdict},
    maps::{HashMap, SockHash},
    programs::SkBuffContext,
};
use mc_edge_common::relay::{Credit, Flow, MAX_SOCKETS, NO_OFFSET, SKB_CHARGE, STARTED};

/// Of `copied_seq` in the kernel's `struct tcp_sock`, set by the loader. No `aya_ebpf::Global`, whose name the kernel's BTF
/// checks refuse.
#[unsafe(no_mangle)]
static COPIED_SEQ_OFFSET: u32 = NO_OFFSET;
/// The most that `bpf_skb_adjust_room` takes off at once.
const MAX_CUT: u32 = 0xfff;
/// Cuts per skb: 1 MiB, more than a socket's skb holds.
const MAX_CUTS: u32 = 256;

/// Sources: the verdict is attached to this one.
#[map]
static RELAY_SRC: SockHash<u64> = SockHash::with_max_entries(MAX_SOCKETS, 0);
/// Redirect targets.
#[map]
static RELAY_DST: SockHash<u64> = SockHash::with_max_entries(MAX_SOCKETS, 0);
/// Source cookie -> counters.
#[map]
static RELAY_FLOWS: HashMap<u64, Flow> = HashMap::with_max_entries(MAX_SOCKETS, BPF_F_NO_PREALLOC);
/// Source cookie -> what userland allows.
#[map]
static RELAY_CREDITS: HashMap<u64, Credit> =
    HashMap::with_max_entries(MAX_SOCKETS, BPF_F_NO_PREALLOC);

/// Redirects what a socket receives into its peer, within the credit; beyond it, leaves it to userland.
#[stream_verdict]
pub fn relay(ctx: SkBuffContext) -> u32 {
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(flow) = RELAY_FLOWS.get_ptr_mut(cookie) else {
        return sk_action::SK_PASS;
    };
    // SAFETY: the entry outlives the program run (RCU), and the socket's lock makes this its only writer.
    let flow = unsafe { &mut *flow };
    if flow.broken != 0 || cut(&ctx, flow).is_none() {
        flow.broken = 1;
        return sk_action::SK_DROP;
    }
    let len = u64::from(ctx.len());
    if len == 0 {
        // A bare FIN, which TCP has acted on. Redirected, it would be sent after userland's shutdown and leave
        // EPIPE on the peer.
        return sk_action::SK_DROP;
    }
    // SAFETY: userland replaces the entry as a whole; an old one stays readable for this run.
    if let Some(credit) = unsafe { RELAY_CREDITS.get(cookie) } {
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

/// Cuts off the bytes that were seen before. `None`: bytes are missing, or the kernel is not as this was written for.
fn cut(ctx: &SkBuffContext, flow: &mut Flow) -> Option<()> {
    // The first words of TCP's control block: the first sequence number, and the one after the last.
    let (first, end) = (*ctx.cb().first()?, *ctx.cb().get(1)?);
    let len = ctx.len();
    let fin = end.wrapping_sub(first).wrapping_sub(len);
    let next = match flow.next {
        0 => copied_seq(ctx)?,
        next => next as u32,
    };
    let seen = next.wrapping_sub(first);
    if fin > 1 || seen > len + fin {
        return None;
    }
    let mut left = seen.min(len);
    flow.next = STARTED | u64::from(next.wrapping_add(len - left));
    for _ in 0..MAX_CUTS {
        if left == 0 {
            return Some(());
        }
        let step = left.min(MAX_CUT);
        ctx.adjust_room(-(step as i32), 0, 0).ok()?;
        left -= step;
    }
    None
}

/// Sequence number of the first byte that userland has not read.
fn copied_seq(ctx: &SkBuffContext) -> Option<u32> {
    // SAFETY: the context is the program's own, and the verifier checks the helper's argument and the field read.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let tcp = bpf_skc_to_tcp_sock(sk.cast());
        if tcp.is_null() {
            return None;
        }
        let offset = core::ptr::read_volatile(&raw const COPIED_SEQ_OFFSET);
        Some(*tcp.cast::<u32>().byte_add(offset as usize))
    }
}
