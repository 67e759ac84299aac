//! The verdict `reset`: turns the frame into the RST that answers it (RFC 9293 §3.10.7.1). VLAN tags stay, IP options and
//! extension headers go, and the frame shrinks to the answer.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_adjust_tail, programs::XdpContext};

use super::parse::{Layout, read, u16_at, u32_at};

const TCP: usize = 20;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const HOP_LIMIT: u8 = 64;

/// Writes the answer into the frame. `false`: there is none (an RST, a group address, a truncated header), and the
/// frame is to be dropped.
#[inline(always)]
pub(super) fn build(ctx: &XdpContext, layout: &Layout) -> bool {
    let (ctx, l) = (ctx.as_ptr(), layout);
    let built = if l.v6 {
        build6(ctx, l.network, l.transport, l.end)
    } else {
        build4(ctx, l.network, l.transport, l.end)
    };
    built != 0
}

// Functions of their own, so that what they keep on the stack is not in the packet path's 512 bytes.
#[inline(never)]
fn build4(ctx: *mut c_void, network: usize, transport: usize, end: usize) -> u32 {
    let ctx = XdpContext::new(ctx.cast());
    u32::from(prepare(&ctx, transport, end).is_some_and(|(macs, tcp)| ipv4(&ctx, network, &macs, tcp)))
}

#[inline(never)]
fn build6(ctx: *mut c_void, network: usize, transport: usize, end: usize) -> u32 {
    let ctx = XdpContext::new(ctx.cast());
    u32::from(prepare(&ctx, transport, end).is_some_and(|(macs, tcp)| ipv6(&ctx, network, &macs, tcp)))
}

/// The frame's MAC addresses and the answer's TCP header.
#[inline(always)]
fn prepare(ctx: &XdpContext, transport: usize, end: usize) -> Option<([u8; 12], [u8; TCP])> {
    let macs = read::<12>(ctx, 0).ok()?;
    let tcp = read::<TCP>(ctx, transport).ok()?;
    // RFC 1122 §4.2.3.10: nothing sent to a group is answered.
    if tcp[13] & RST != 0 || macs[0] & 1 != 0 {
        return None;
    }
    Some((macs, answer(&tcp, transport, end)))
}

/// The TCP header of the answer, checksum 0.
#[inline(always)]
fn answer(tcp: &[u8; TCP], transport: usize, end: usize) -> [u8; TCP] {
    let flags = tcp[13];
    let (sequence, acknowledge, answer_flags) = if flags & ACK != 0 {
        (u32_at(tcp, 8), 0, RST)
    } else {
        let header = usize::from(tcp[12] >> 4) * 4;
        let payload = end.saturating_sub(transport + header) as u32;
        let length = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, u32_at(tcp, 4).wrapping_add(length), RST | ACK)
    };
    let (s, a) = (sequence.to_be_bytes(), acknowledge.to_be_bytes());
    [
        tcp[2],
        tcp[3],
        tcp[0],
        tcp[1],
        s[0],
        s[1],
        s[2],
        s[3],
        a[0],
        a[1],
        a[2],
        a[3],
        5 << 4,
        answer_flags,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// Sums 16-bit words.
#[inline(always)]
fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    let mut total = 0;
    let mut i = 0;
    while i < N {
        total += u32::from(u16_at(bytes, i));
        i += 2;
    }
    total
}

/// The Internet checksum of a sum (RFC 1071).
#[inline(always)]
fn fold(mut sum: u32) -> [u8; 2] {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

/// Cuts the frame to `length`, swaps the MAC addresses, and writes the headers at `offset`.
#[inline(always)]
fn write<const N: usize>(
    ctx: &XdpContext,
    offset: usize,
    macs: &[u8; 12],
    ip: &[u8; N],
    tcp: &[u8; TCP],
) -> bool {
    let length = offset + N + TCP;
    let delta = length as i64 - (ctx.data_end() - ctx.data()) as i64;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta as i32) } != 0 {
        return false;
    }
    let start = ctx.data();
    if start + 12 > ctx.data_end() {
        return false;
    }
    let network = start + offset;
    if network + N + TCP > ctx.data_end() {
        return false;
    }
    // SAFETY: both ranges are within the frame, checked above; bytes have no alignment.
    unsafe {
        let m = macs;
        *(start as *mut [u8; 12]) = [
            m[6], m[7], m[8], m[9], m[10], m[11], m[0], m[1], m[2], m[3], m[4], m[5],
        ];
        *(network as *mut [u8; N]) = *ip;
        *((network + N) as *mut [u8; TCP]) = *tcp;
    }
    true
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, network: usize, macs: &[u8; 12], mut tcp: [u8; TCP]) -> bool {
    let Ok(old) = read::<20>(ctx, network) else {
        return false;
    };
    if old[16] >= 224 {
        return false; // to a group
    }
    let mut ip = [
        0x45, 0, 0, 40, 0, 0, 0x40, 0, HOP_LIMIT, 6, 0, 0, old[16], old[17], old[18], old[19],
        old[12], old[13], old[14], old[15],
    ];
    [ip[10], ip[11]] = fold(sum(&ip));
    let addresses = [
        old[16], old[17], old[18], old[19], old[12], old[13], old[14], old[15],
    ];
    [tcp[16], tcp[17]] = fold(sum(&addresses) + sum(&tcp) + 6 + TCP as u32);
    write(ctx, network, macs, &ip, &tcp)
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, network: usize, macs: &[u8; 12], mut tcp: [u8; TCP]) -> bool {
    let (Ok(source), Ok(destination)) =
        (read::<16>(ctx, network + 8), read::<16>(ctx, network + 24))
    else {
        return false;
    };
    if destination[0] == 0xff {
        return false; // to a group
    }
    let mut ip = [0u8; 40];
    ip[0] = 0x60;
    ip[5] = TCP as u8;
    ip[6] = 6;
    ip[7] = HOP_LIMIT;
    let mut i = 0;
    while i < 16 {
        ip[8 + i] = destination[i];
        ip[24 + i] = source[i];
        i += 1;
    }
    [tcp[16], tcp[17]] = fold(sum(&source) + sum(&destination) + sum(&tcp) + 6 + TCP as u32);
    write(ctx, network, macs, &ip, &tcp)
}
