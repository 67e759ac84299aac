//! Packets as an interface receives them.

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const RST: u8 = 0x04;

pub(crate) fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let mut t = vec![0; 20];
    t[..2].copy_from_slice(&40_000u16.to_be_bytes());
    t[2..4].copy_from_slice(&port.to_be_bytes());
    t[4..8].copy_from_slice(&1000u32.to_be_bytes());
    t[8..12].copy_from_slice(&2000u32.to_be_bytes());
    t[12] = 5 << 4;
    t[13] = flags;
    t
}

pub(crate) fn udp(port: u16) -> Vec<u8> {
    let mut u = vec![0; 8];
    u[2..4].copy_from_slice(&port.to_be_bytes());
    u[5] = 8;
    u
}

pub(crate) fn frame(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        f.extend(tag.to_be_bytes());
        f.extend([0, 7]);
    }
    f.extend(ether_type.to_be_bytes());
    f.extend(payload);
    f
}

/// A packet within a PPPoE session (RFC 2516), by PPP protocol.
pub(crate) fn pppoe(tags: &[u16], protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut session = vec![0x11, 0, 0, 9];
    session.extend((2 + payload.len() as u16).to_be_bytes());
    session.extend(protocol.to_be_bytes());
    session.extend(payload);
    frame(tags, 0x8864, &session)
}

/// IPv4; `fragment` is the flags-and-offset field.
pub(crate) fn v4(
    source: &str,
    protocol: u8,
    fragment: u16,
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut ip = vec![0; 20 + options];
    ip[0] = 0x40 | ((20 + options) / 4) as u8;
    ip[2..4].copy_from_slice(&((20 + options + payload.len()) as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    ip[8] = 64;
    ip[9] = protocol;
    let source: std::net::Ipv4Addr = source.parse().unwrap();
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&[10, 0, 0, 1]);
    ip.extend(payload);
    ip
}

pub(crate) fn v6(source: &str, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0; 40];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    ip[6] = next;
    ip[7] = hop_limit;
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(
        &"2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    ip.extend(payload);
    ip
}

pub(crate) fn syn4(source: &str, port: u16) -> Vec<u8> {
    frame(&[], 0x0800, &v4(source, 6, 0, 0, &tcp(port, SYN)))
}

pub(crate) fn ack4(source: &str) -> Vec<u8> {
    frame(&[], 0x0800, &v4(source, 6, 0, 0, &tcp(443, ACK)))
}

pub(crate) fn syn6(source: &str) -> Vec<u8> {
    frame(&[], 0x86dd, &v6(source, 6, 64, &tcp(443, SYN)))
}

/// Extension headers of 8 bytes each, then TCP.
pub(crate) fn extended(kinds: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, _) in kinds.iter().enumerate() {
        payload.extend([kinds.get(i + 1).copied().unwrap_or(6), 0, 0, 0, 0, 0, 0, 0]);
    }
    payload.extend(tcp(443, SYN));
    frame(
        &[],
        0x86dd,
        &v6(
            "2001:db8:b::1",
            kinds.first().copied().unwrap_or(6),
            64,
            &payload,
        ),
    )
}
