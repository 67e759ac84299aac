//! The PROXY protocol, versions 1 and 2 in, version 2 out (PROXY protocol specification of HAProxy, sections 2.1
//! and 2.2).
//!
//! Strict where the specification lets a receiver be: the header comes from a configured, trusted proxy, so whatever is
//! odd about it is an attack or a mistake.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::hostname::Hostname;

/// Longest header that is read: a v2 header of 16 bytes, addresses and TLVs. Senders in use stay below 600.
pub const MAX_HEADER: usize = 4096;
/// Longest v1 line with CRLF (section 2.1).
const MAX_V1: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEADER: usize = 16;
const PP2_TYPE_ALPN: u8 = 0x01;
const PP2_TYPE_AUTHORITY: u8 = 0x02;
const PP2_TYPE_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself (health checks), or for a client without an IP address: use the
    /// connection's own addresses.
    Local,
    /// The proxy speaks for a client.
    Proxied {
        /// The client. An IPv4-mapped address is IPv4 here, so that rules for IPv4 apply.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
        /// PP2_TYPE_AUTHORITY: the SNI that the proxy saw.
        authority: Option<Hostname>,
        /// PP2_TYPE_ALPN.
        alpn: Option<Box<[u8]>>,
    },
}

/// Bytes that cannot become a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither signature.
    #[error("no PROXY header")]
    Missing,
    /// Begins like one and is none.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
    /// Above [`MAX_HEADER`], or a v1 line above 107 bytes.
    #[error("a PROXY header above its bound")]
    TooLong,
}

impl ProxyError {
    /// A label for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "proxy_header_missing",
            Self::Malformed(_) => "proxy_header_malformed",
            Self::TooLong => "proxy_header_too_long",
        }
    }
}

/// Reads a header from the start of `buf`: `None` wants more bytes; else the header and its length in bytes.
///
/// # Errors
/// [`ProxyError`] as soon as the bytes cannot become a header.
pub fn parse(buf: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let starts = |signature: &[u8]| {
        let n = buf.len().min(signature.len());
        buf[..n] == signature[..n]
    };
    if starts(b"PROXY ") {
        parse_v1(buf)
    } else if starts(SIGNATURE) {
        parse_v2(buf)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_v1(buf: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let window = &buf[..buf.len().min(MAX_V1)];
    let Some(end) = window.windows(2).position(|w| w == b"\r\n") else {
        return if buf.len() >= MAX_V1 {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    };
    // "The receiver must ignore anything presented before the CRLF": it need not be text.
    if let Some([] | [b' ', ..]) = window[..end].strip_prefix(b"PROXY UNKNOWN") {
        return Ok(Some((Header::Local, end + 2)));
    }
    let line =
        std::str::from_utf8(&window[..end]).map_err(|_| ProxyError::Malformed("not ASCII"))?;
    let header = parse_line(line)?;
    Ok(Some((header, end + 2)))
}

fn parse_line(line: &str) -> Result<Header, ProxyError> {
    let mut words = line.split(' ').skip(1);
    let mut next = |what| words.next().ok_or(ProxyError::Malformed(what));
    let family = next("family")?;
    let (source, destination) = (next("source")?, next("destination")?);
    let (source_port, destination_port) = (
        port(next("source port")?)?,
        port(next("destination port")?)?,
    );
    if words.next().is_some() {
        return Err(ProxyError::Malformed("words behind the ports"));
    }
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6),
            _ => return Err(ProxyError::Malformed("family")),
        }
        .map_err(|_| ProxyError::Malformed("address"))
    };
    Ok(proxied(
        address(source)?,
        source_port,
        address(destination)?,
        destination_port,
    ))
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| canonical && digits)
        .ok_or(ProxyError::Malformed("port"))
}

fn proxied(source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Header {
    Header::Proxied {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
        authority: None,
        alpn: None,
    }
}

fn parse_v2(buf: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some((head, rest)) = buf.split_at_checked(V2_HEADER) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if V2_HEADER + length > MAX_HEADER {
        return Err(ProxyError::TooLong);
    }
    let command = match head[12] {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Err(ProxyError::Malformed("version or command")),
    };
    let addresses = match head[13] {
        // "Discard the protocol block including the family which is ignored."
        _ if command == Command::Local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(ProxyError::Malformed("family or protocol")),
    };
    if length < addresses {
        return Err(ProxyError::Malformed("addresses are cut"));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let consumed = V2_HEADER + length;
    // Datagrams and Unix sockets do not arrive on a TCP listener; UNSPEC carries no address.
    if command == Command::Local || !matches!(head[13], 0x11 | 0x21) {
        return Ok(Some((Header::Local, consumed)));
    }
    let (addresses, tlvs) = body.split_at(addresses);
    let header = with_tlvs(read_addresses(addresses), &buf[..consumed], tlvs)?;
    Ok(Some((header, consumed)))
}

#[derive(PartialEq)]
enum Command {
    Local,
    Proxy,
}

/// 12 bytes of IPv4 or 36 of IPv6 addresses and ports.
fn read_addresses(bytes: &[u8]) -> Header {
    let size = (bytes.len() - 4) / 2;
    let address = |at: usize| -> IpAddr {
        let bytes = &bytes[at..at + size];
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => Ipv4Addr::from(v4).into(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default()).into(),
        }
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    proxied(
        address(0),
        port(2 * size),
        address(size),
        port(2 * size + 2),
    )
}

fn with_tlvs(mut header: Header, whole: &[u8], mut tlvs: &[u8]) -> Result<Header, ProxyError> {
    let Header::Proxied {
        authority, alpn, ..
    } = &mut header
    else {
        return Ok(header);
    };
    while !tlvs.is_empty() {
        let cut = ProxyError::Malformed("a TLV is cut");
        let (head, rest) = tlvs.split_at_checked(3).ok_or(cut)?;
        let (value, rest) = rest
            .split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))
            .ok_or(cut)?;
        match head[0] {
            PP2_TYPE_AUTHORITY => {
                let name =
                    Hostname::from_bytes(value).map_err(|_| ProxyError::Malformed("authority"))?;
                *authority = Some(name);
            }
            // One protocol name (RFC 7301 §3.1).
            PP2_TYPE_ALPN if value.len() > 255 => return Err(ProxyError::Malformed("ALPN")),
            PP2_TYPE_ALPN => *alpn = Some(value.into()),
            PP2_TYPE_CRC32C => check_crc(whole, value)?,
            _ => {}
        }
        tlvs = rest;
    }
    Ok(header)
}

/// Section 2.2.3: over the whole header, the checksum's own bytes taken as zero.
fn check_crc(whole: &[u8], value: &[u8]) -> Result<(), ProxyError> {
    let wrong = ProxyError::Malformed("CRC32c");
    let stated = u32::from_be_bytes(value.try_into().map_err(|_| wrong)?);
    let at = value.as_ptr() as usize - whole.as_ptr() as usize;
    let zeroed = whole
        .iter()
        .enumerate()
        .map(|(i, b)| if (at..at + 4).contains(&i) { 0 } else { *b });
    if crc32c(zeroed) == stated {
        Ok(())
    } else {
        Err(wrong)
    }
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4, bit by bit: headers are short and rare.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// Appends a v2 header. Addresses of different families are both written as IPv6. An authority or a protocol name
/// above 255 bytes is left out: there are none.
pub fn encode_v2(
    source: SocketAddr,
    destination: SocketAddr,
    authority: Option<&str>,
    alpn: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend([0x11, 0, 0]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        (source, destination) => {
            out.extend([0x21, 0, 0]);
            out.extend(v6(source).octets());
            out.extend(v6(destination).octets());
        }
    }
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    let tlvs = [
        (PP2_TYPE_AUTHORITY, authority.map(str::as_bytes)),
        (PP2_TYPE_ALPN, alpn),
    ];
    for (kind, value) in tlvs {
        // A hostname has at most 253 bytes, a protocol name 255: what is longer is neither, and must not reach the
        // header's own length of 16 bits.
        if let Some((value, length)) = value.and_then(|v| Some((v, u8::try_from(v.len()).ok()?))) {
            out.push(kind);
            out.extend(u16::from(length).to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    let length = (out.len() - start - V2_HEADER) as u16;
    out[start + 14..start + V2_HEADER].copy_from_slice(&length.to_be_bytes());
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests;
