//! Packet bytes -> what the rules judge. Every walk is bounded; what it does not understand is an error with its reason,
//! and the `unparsed` policy decides.
//!
//! A header counts as there only if it lies within both the frame and the IP packet: Ethernet padding after a tiny first
//! fragment is the sender's choice and must not be read as TCP flags.

use aya_ebpf::programs::XdpContext;
use mc_edge_common::{
    decide::{Class, Packet, Source},
    firewall::Reason,
};

/// VLAN tags (802.1Q, 802.1ad) that are walked; hardware and the kernel rarely see more than 2.
const MAX_TAGS: usize = 4;
/// IPv6 extension headers that are walked (RFC 8200 §4.1 lists 6, destination options twice).
const MAX_EXTENSIONS: usize = 7;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// TCP header without options.
const TCP: usize = 20;

const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_ICMPV6: u8 = 58;

/// What a frame holds.
pub(super) enum Parsed {
    /// Not for us.
    NotIp,
    /// IPv4 or IPv6.
    Ip(Packet, Layout),
}

/// Where the headers are; offsets from the start of the frame.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// IP header.
    pub(super) network: usize,
    /// TCP header, if the class is a TCP one.
    pub(super) transport: usize,
    /// End of the IP packet by its own length.
    pub(super) end: usize,
    /// IPv6.
    pub(super) v6: bool,
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
pub(super) fn parse(ctx: &XdpContext, length: u32) -> Result<Parsed, Reason> {
    let mut ether_type = u16::from_be_bytes(*read(ctx, ETHERNET - 2)?);
    let mut offset = ETHERNET;
    let mut tags = 0;
    while matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) {
        if tags == MAX_TAGS {
            return Err(Reason::TooManyTags);
        }
        ether_type = u16::from_be_bytes(*read(ctx, offset + 2)?);
        offset += 4;
        tags += 1;
    }
    match ether_type {
        0x0800 => ipv4(ctx, offset, length),
        0x86dd => ipv6(ctx, offset, length),
        _ => Ok(Parsed::NotIp),
    }
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, network: usize, length: u32) -> Result<Parsed, Reason> {
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
        v6: false,
    };
    let (class, port) = upper.classify(ctx, &layout)?;
    let source = Source::V4(u32_at(header, 12));
    Ok(Parsed::Ip(
        Packet {
            source,
            class,
            port,
            length,
        },
        layout,
    ))
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, network: usize, length: u32) -> Result<Parsed, Reason> {
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
        v6: true,
    };
    let (class, port) = upper.classify(ctx, &layout)?;
    let source = Source::from_v6(u64_at(header, 8), u64_at(header, 16));
    Ok(Parsed::Ip(
        Packet {
            source,
            class,
            port,
            length,
        },
        layout,
    ))
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
    fn classify(&self, ctx: &XdpContext, layout: &Layout) -> Result<(Class, Option<u32>), Reason> {
        if self.offset != 0 {
            // RFC 3128: a fragment at offset 8 would overwrite the flags that the first one was judged by.
            if self.protocol == PROTO_TCP && self.offset == 1 {
                return Err(Reason::OverlappingFragment);
            }
            return Ok((Class::Other, None));
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
                    Class::Syn
                } else {
                    Class::Established
                };
                Ok((class, Some(u32::from(u16_at(header, 2)))))
            }
            PROTO_UDP => {
                if at + 8 > layout.end {
                    return Err(short);
                }
                let header: &[u8; 4] = read(ctx, at)?;
                Ok((Class::Other, Some(65_536 + u32::from(u16_at(header, 2)))))
            }
            PROTO_ICMPV6 if self.v6 => {
                if at + 4 > layout.end {
                    return Err(short);
                }
                let [kind] = *read(ctx, at)?;
                // RFC 6980: neighbour discovery is never fragmented.
                let neighbour = matches!(kind, 133..=137) && self.hop_limit == 255 && !self.more;
                Ok((
                    if neighbour {
                        Class::NeighbourDiscovery
                    } else {
                        Class::Other
                    },
                    None,
                ))
            }
            _ => Ok((Class::Other, None)),
        }
    }
}
