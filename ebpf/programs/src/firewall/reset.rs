//! The verdict `reset`: turns the frame into the RST that answers it (RFC 9293 §3.10.7.1). VLAN tags and
//! the PPPoE session stay, IP options and extension headers go, and the frame shrinks to the answer.
//!
//! Headers are rewritten where they lie, 16 bits at a time: copies would not fit on the 512 bytes of stack.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_adjust_tail, programs::XdpContext};

use super::parse::{Found, read, u16_at, u32_at};

const TCP: usize = 20;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const HOP_LIMIT: u16 = 64;
const PROTO_TCP: u16 = 6;

/// Makes the frame the answer. `false`: there is none (an RST, a group address), and the frame is to be dropped.
#[inline(always)]
pub(super) fn build(ctx: &XdpContext, found: &Found, length: u32) -> bool {
    let (ctx, network, transport, end) = (
        ctx.as_ptr(),
        found.network as usize,
        found.transport as usize,
        found.end as usize,
    );
    let built = if found.version == 6 {
        build6(ctx, network, transport, end, length)
    } else {
        build4(ctx, network, transport, end, length)
    };
    built != 0 && session(ctx, found)
}

/// Writes the answer's length into the header of the PPPoE session (RFC 2516 §4), if it is in one.
#[inline(always)]
fn session(ctx: *mut c_void, found: &Found) -> bool {
    if found.session == 0 {
        return true;
    }
    let header: u16 = if found.version == 6 { 40 } else { 20 };
    let ctx = XdpContext::new(ctx.cast());
    let Some(length) = words::<1>(&ctx, found.session as usize + 4) else {
        return false;
    };
    // The PPP protocol counts.
    length[0] = (2 + header + TCP as u16).to_be();
    true
}

/// What the answer takes from the segment, as the words of its header.
struct Answer {
    ports: [u16; 2],
    sequence: u32,
    acknowledge: u32,
    flags: u8,
}

/// RFC 9293 §3.10.7.1: `<SEQ=SEG.ACK><CTL=RST>` to a segment with ACK, else `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
#[inline(always)]
fn answer(ctx: &XdpContext, transport: usize, end: usize) -> Option<Answer> {
    let macs = read::<2>(ctx, 0).ok()?;
    let tcp = read::<TCP>(ctx, transport).ok()?;
    let flags = tcp[13];
    // RFC 1122 §4.2.3.10: nothing sent to a group is answered.
    if flags & RST != 0 || macs[0] & 1 != 0 {
        return None;
    }
    let ports = [u16_at(tcp, 2), u16_at(tcp, 0)];
    if flags & ACK != 0 {
        return Some(Answer {
            ports,
            sequence: u32_at(tcp, 8),
            acknowledge: 0,
            flags: RST,
        });
    }
    let header = usize::from(tcp[12] >> 4) * 4;
    let payload = end.saturating_sub(transport + header) as u32;
    let length = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    Some(Answer {
        ports,
        sequence: 0,
        acknowledge: u32_at(tcp, 4).wrapping_add(length),
        flags: RST | ACK,
    })
}

/// `N` bytes of the frame, as words in network order.
#[allow(clippy::mut_from_ref)] // of the frame, to which the context only points
#[inline(always)]
fn words<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<&mut [u16; N]> {
    let start = ctx.data() + offset;
    if start + 2 * N > ctx.data_end() {
        return None;
    }
    // SAFETY: within the frame, checked above; a frame starts at an even address, and so do all its headers. One
    // reference is used at a time.
    Some(unsafe { &mut *(start as *mut [u16; N]) })
}

/// Swaps two ranges of `N` words and returns their sum.
#[inline(always)]
fn swap<const M: usize>(words: &mut [u16; M], a: usize, b: usize, n: usize) -> u32 {
    let mut total = 0;
    let mut i = 0;
    while i < n {
        let (x, y) = (words[a + i], words[b + i]);
        words[a + i] = y;
        words[b + i] = x;
        total += u32::from(u16::from_be(x)) + u32::from(u16::from_be(y));
        i += 1;
    }
    total
}

/// The Internet checksum of a sum (RFC 1071), in network order.
#[inline(always)]
fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be()
}

/// Writes the TCP header at `offset`, given the sum of the addresses, swaps the MAC addresses and cuts the frame there.
#[inline(always)]
fn finish(
    ctx: &XdpContext,
    offset: usize,
    answer: &Answer,
    addresses: u32,
    frame: u32,
) -> Option<()> {
    let tcp = words::<10>(ctx, offset)?;
    let (s, a) = (answer.sequence, answer.acknowledge);
    let flags = 5 << 12 | u16::from(answer.flags);
    let [source, destination] = answer.ports;
    let total = addresses
        + u32::from(PROTO_TCP)
        + TCP as u32
        + u32::from(source)
        + u32::from(destination)
        + (s >> 16)
        + (s & 0xffff)
        + (a >> 16)
        + (a & 0xffff)
        + u32::from(flags);
    tcp[0] = source.to_be();
    tcp[1] = destination.to_be();
    tcp[2] = ((s >> 16) as u16).to_be();
    tcp[3] = (s as u16).to_be();
    tcp[4] = ((a >> 16) as u16).to_be();
    tcp[5] = (a as u16).to_be();
    tcp[6] = flags.to_be();
    tcp[7] = 0;
    tcp[8] = fold(total);
    tcp[9] = 0;
    swap(words::<6>(ctx, 0)?, 0, 3, 3);
    // Not from the packet pointers, which LLVM would subtract in 32 bits.
    let delta = (offset + TCP) as i32 - frame as i32;
    // SAFETY: the context is the program's own.
    let cut = unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta) };
    (cut == 0).then_some(())
}

// Functions of their own, so that what they keep on the stack is not in the packet path's 512 bytes.
#[inline(never)]
fn build4(ctx: *mut c_void, network: usize, transport: usize, end: usize, length: u32) -> u32 {
    u32::from(
        ipv4(
            &XdpContext::new(ctx.cast()),
            network,
            transport,
            end,
            length,
        )
        .is_some(),
    )
}

#[inline(never)]
fn build6(ctx: *mut c_void, network: usize, transport: usize, end: usize, length: u32) -> u32 {
    u32::from(
        ipv6(
            &XdpContext::new(ctx.cast()),
            network,
            transport,
            end,
            length,
        )
        .is_some(),
    )
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, network: usize, transport: usize, end: usize, frame: u32) -> Option<()> {
    let answer = answer(ctx, transport, end)?;
    let ip = words::<10>(ctx, network)?;
    if u16::from_be(ip[8]) >> 8 >= 224 {
        return None; // to a group
    }
    let (first, length, fragment, ttl) = (0x4500u16, 40u16, 0x4000u16, HOP_LIMIT << 8 | PROTO_TCP);
    let addresses = swap(ip, 6, 8, 2);
    ip[0] = first.to_be();
    ip[1] = length.to_be();
    ip[2] = 0;
    ip[3] = fragment.to_be();
    ip[4] = ttl.to_be();
    ip[5] = fold(
        addresses + u32::from(first) + u32::from(length) + u32::from(fragment) + u32::from(ttl),
    );
    finish(ctx, network + 20, &answer, addresses, frame)
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, network: usize, transport: usize, end: usize, frame: u32) -> Option<()> {
    let answer = answer(ctx, transport, end)?;
    let ip = words::<20>(ctx, network)?;
    if u16::from_be(ip[12]) >> 8 == 0xff {
        return None; // to a group
    }
    let addresses = swap(ip, 4, 12, 8);
    ip[0] = 0x6000u16.to_be();
    ip[1] = 0;
    ip[2] = (TCP as u16).to_be();
    ip[3] = (PROTO_TCP << 8 | HOP_LIMIT).to_be();
    finish(ctx, network + 40, &answer, addresses, frame)
}
