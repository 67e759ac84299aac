//! Packet bytes -> what the rules judge. Every walk is bounded; what it does not understand is an error with its reason,
//! and the `unparsed` policy decides.
//!
//! A header counts as there only if it lies within both the frame and the IP packet: Ethernet padding after a tiny first
//! fragment is the sender's choice and must not be read as TCP flags.

use aya_ebpf::programs::XdpContext;
use mc_edge_common::{
    decide::{Class, NO_PORT, Packet, Source},
    firewall::Reason,
};

/// VLAN tags (802.1Q, 802.1ad, and what came before it) that are walked; hardware and the kernel rarely see more than 2.
const MAX_TAGS: usize = 4;
/// IPv6 extension headers that are walked (RFC 8200 §4.1 lists 6, destination options twice).
const MAX_EXTENSIONS: usize = 7;

/// No header that is read starts beyond.
pub(super) const MAX_OFFSET: u32 = 0x7fff;

const ETHERNET: usize = 14;
const PPPOE_SESSION: u16 = 0x8864;
/// Header of a PPPoE session, and the PPP protocol.
const PPPOE: usize = 8;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
const IPV6: usize = 40;
/// TCP header without options.
const TCP: usize = 20;

const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_ICMPV6: u8 = 58;

/// What a frame holds: all integers and always whole, as it passes through a map (see `tables::forget`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// The source address' upper half; 0 for IPv4.
    high: u64,
    /// The source address' lower half, or the IPv4 address.
    low: u64,
    /// As in [`Packet`].
    port: u32,
    /// [`SYN`] …
    class: u16,
    /// [`NOT_IP`], 4 or 6.
    pub(super) version: u16,
    /// Header of the PPPoE session that it is in, or 0.
    pub(super) session: u32,
    /// IP header; offsets are from the start of the frame.
    pub(super) network: u32,
    /// TCP header, if the class is a TCP one.
    pub(super) transport: u32,
    /// End of the IP packet by its own length.
    pub(super) end: u32,
}

/// Version of what is not for us.
pub(super) const NOT_IP: u16 = 0;
const SYN: u16 = 0;
const ESTABLISHED: u16 = 1;
const OTHER: u16 = 2;
const NEIGHBOUR: u16 = 3;

impl Found {
    /// What the rules judge.
    #[inline(always)]
    pub(super) fn packet(&self, length: u32) -> Packet {
        let source = if self.version == 4 {
            Source::V4(self.low as u32)
        } else {
            Source::from_v6(self.high, self.low)
        };
        let class = match self.class {
            SYN => Class::Syn,
            ESTABLISHED => Class::Established,
            NEIGHBOUR => Class::NeighbourDiscovery,
            _ => Class::Other,
        };
        Packet {
            source,
            class,
            port: self.port,
            length,
        }
    }
}

/// Where the payload is, as the walk finds it.
struct Layout {
    network: usize,
    transport: usize,
    end: usize,
}

/// Bytes of the frame.
#[inline(always)]
pub(super) fn read<const N: usize>(ctx: &XdpContext, offset: usize) -> Result<&[u8; N], Reason> {
    let start = ctx.data() + offset;
    if start + N > ctx.data_end() {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the frame, checked above; bytes have no alignment.
    Ok(unsafe { &*(start as *const [u8; N]) })
}

#[inline(always)]
pub(super) fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    // SAFETY: callers pass even offsets into headers, which start at even addresses, and stay within `N`.
    u16::from_be(unsafe { *bytes.as_ptr().add(at).cast::<u16>() })
}

#[inline(always)]
pub(super) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

#[inline(always)]
pub(super) fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

/// Parses a frame.
#[inline(always)]
pub(super) fn parse(ctx: &XdpContext) -> Result<Found, Reason> {
    let mut ether_type = u16::from_be_bytes(*read(ctx, ETHERNET - 2)?);
    let mut offset = ETHERNET;
    let mut tags = 0;
    while matches!(ether_type, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
        if tags == MAX_TAGS {
            return Err(Reason::TooManyTags);
        }
        ether_type = u16::from_be_bytes(*read(ctx, offset + 2)?);
        offset += 4;
        tags += 1;
    }
    let mut session = 0;
    if ether_type == PPPOE_SESSION {
        let header: &[u8; PPPOE] = read(ctx, offset)?;
        // RFC 2516 §4; the lowest bit of a PPP protocol's first byte is 0, unless the byte was left out (RFC 1661 §6.5), which is
        // not for PPPoE (RFC 2516 §7) but understood by Linux.
        if u16_at(header, 0) != 0x1100 || header[6] & 1 != 0 {
            return Err(Reason::BadHeader);
        }
        // Also what is no IP, but would be as an Ethernet type.
        ether_type = match u16_at(header, 6) {
            PPP_IPV4 => 0x0800,
            PPP_IPV6 => 0x86dd,
            _ => 0,
        };
        session = offset as u32;
        offset += PPPOE;
    }
    let found = match ether_type {
        0x0800 => ipv4(ctx, offset)?,
        0x86dd => ipv6(ctx, offset)?,
        _ => Found {
            high: 0,
            low: 0,
            port: NO_PORT,
            class: OTHER,
            version: NOT_IP,
            session: 0,
            network: 0,
            transport: 0,
            end: 0,
        },
    };
    Ok(Found { session, ..found })
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, network: usize) -> Result<Found, Reason> {
    let header: &[u8; 20] = read(ctx, network)?;
    let header_length = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16_at(header, 2));
    if header[0] >> 4 != 4 || header_length < 20 || total < header_length {
        return Err(Reason::BadHeader);
    }
    let fragment = u16_at(header, 6);
    let upper = Upper {
        protocol: header[9],
        more: fragment & 0x2000 != 0,
        offset: fragment & 0x1fff,
        hop_limit: 0,
        v6: false,
    };
    let layout = Layout {
        network,
        transport: network + header_length,
        end: network + total,
    };
    let (class, port) = upper.classify(ctx, &layout)?;
    Ok(layout.found(4, (0, u64::from(u32_at(header, 12))), class, port))
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, network: usize) -> Result<Found, Reason> {
    let header: &[u8; 24] = read(ctx, network)?;
    if header[0] >> 4 != 6 {
        return Err(Reason::BadHeader);
    }
    let end = network + IPV6 + usize::from(u16_at(header, 4));
    let mut upper = Upper {
        protocol: header[6],
        more: false,
        offset: 0,
        hop_limit: header[7],
        v6: true,
    };
    let mut transport = network + IPV6;
    let mut walked = 0;
    // Hop-by-hop, routing, fragment, AH, destination options: what the kernel's own walk knows.
    while matches!(upper.protocol, 0 | 43 | 44 | 51 | 60) {
        if walked == MAX_EXTENSIONS {
            return Err(Reason::TooManyExtensions);
        }
        walked += 1;
        let extension: &[u8; 4] = read(ctx, transport)?;
        let units = usize::from(extension[1]);
        let size = match upper.protocol {
            44 => 8,
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if transport + size > end {
            return Err(if upper.more {
                Reason::TinyFragment
            } else {
                Reason::Truncated
            });
        }
        if upper.protocol == 44 {
            let fragment = u16_at(extension, 2);
            upper.more = fragment & 1 != 0;
            upper.offset = fragment >> 3;
        }
        upper.protocol = extension[0];
        transport += size;
        if upper.offset != 0 {
            break; // what follows is the middle of something
        }
    }
    // Mobility, HIP, shim6, experiments: extension headers that no host behind us expects.
    if upper.offset == 0 && matches!(upper.protocol, 135 | 139 | 140 | 253 | 254) {
        return Err(Reason::UnknownExtension);
    }
    let layout = Layout {
        network,
        transport,
        end,
    };
    let (class, port) = upper.classify(ctx, &layout)?;
    Ok(layout.found(6, (u64_at(header, 8), u64_at(header, 16)), class, port))
}

impl Layout {
    #[inline(always)]
    fn found(&self, version: u16, (high, low): (u64, u64), class: u16, port: u32) -> Found {
        let (network, transport, end) =
            (self.network as u32, self.transport as u32, self.end as u32);
        Found {
            high,
            low,
            port,
            class,
            version,
            session: 0,
            network,
            transport,
            end,
        }
    }
}

/// What the IP header says of its payload.
struct Upper {
    protocol: u8,
    /// More fragments follow.
    more: bool,
    /// Fragment offset, units of 8 bytes.
    offset: u16,
    hop_limit: u8,
    v6: bool,
}

impl Upper {
    #[inline(always)]
    fn classify(&self, ctx: &XdpContext, layout: &Layout) -> Result<(u16, u32), Reason> {
        if self.offset != 0 {
            // RFC 3128: a fragment at offset 8 would overwrite the flags that the first one was judged by.
            if self.protocol == PROTO_TCP && self.offset == 1 {
                return Err(Reason::OverlappingFragment);
            }
            return Ok((OTHER, NO_PORT));
        }
        let at = layout.transport;
        let short = if self.more {
            Reason::TinyFragment
        } else {
            Reason::Truncated
        };
        match self.protocol {
            PROTO_TCP => {
                if at + TCP > layout.end {
                    return Err(short);
                }
                let header: &[u8; TCP] = read(ctx, at)?;
                let class = if header[13] & 0x12 == 0x02 {
                    SYN
                } else {
                    ESTABLISHED
                };
                Ok((class, u32::from(u16_at(header, 2))))
            }
            PROTO_UDP => {
                if at + 8 > layout.end {
                    return Err(short);
                }
                let header: &[u8; 4] = read(ctx, at)?;
                Ok((OTHER, 65_536 + u32::from(u16_at(header, 2))))
            }
            PROTO_ICMPV6 if self.v6 => {
                if at + 4 > layout.end {
                    return Err(short);
                }
                let [kind] = *read(ctx, at)?;
                // RFC 6980: neighbour discovery is never fragmented.
                let neighbour = matches!(kind, 133..=137) && self.hop_limit == 255 && !self.more;
                Ok((if neighbour { NEIGHBOUR } else { OTHER }, NO_PORT))
            }
            _ => Ok((OTHER, NO_PORT)),
        }
    }
}
