//! TCP packets as an interface receives them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// TCP flags (RFC 9293 §3.1).
pub(crate) const SYN: u8 = 0x02;
/// Of an established flow.
pub(crate) const ACK: u8 = 0x10;

/// The listener's port, which country and rate rules guard.
pub(crate) const PORT: u16 = 443;

/// The node's addresses; nothing judges them.
const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const DESTINATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

pub(crate) fn v4(source: Ipv4Addr, flags: u8) -> Vec<u8> {
    let mut packet = ethernet(0x0800);
    // Version 4, header of 20 bytes, total length 40, TTL 64, TCP; checksums are the kernel's business.
    packet.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(source.octets());
    packet.extend(DESTINATION.octets());
    tcp(packet, flags)
}

pub(crate) fn v6(source: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut packet = ethernet(0x86dd);
    packet.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    packet.extend(source.octets());
    packet.extend(DESTINATION6.octets());
    tcp(packet, flags)
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    packet.extend(ethertype.to_be_bytes());
    packet
}

fn tcp(mut packet: Vec<u8>, flags: u8) -> Vec<u8> {
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.resize(packet.len().max(60), 0);
    packet
}
