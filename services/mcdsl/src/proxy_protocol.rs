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
mod tests {
    use super::*;

    #[test]
    fn v1_lines() {
        let malformed = Err(ProxyError::Malformed(""));
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 100], b"\r\n"].concat();
        for (description, line, wanted) in [
            (
                "TCP4",
                &b"PROXY TCP4 192.0.2.1 192.0.2.2 65535 443\r\n"[..],
                Ok(Some("192.0.2.1:65535")),
            ),
            (
                "TCP6",
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
                Ok(Some("[2001:db8::1]:1")),
            ),
            (
                "a mapped source is IPv4",
                b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
                Ok(Some("192.0.2.1:1")),
            ),
            ("UNKNOWN", b"PROXY UNKNOWN\r\n", Ok(None)),
            (
                "UNKNOWN with anything",
                b"PROXY UNKNOWN 1 2 x\r\n",
                Ok(None),
            ),
            (
                "UNKNOWN with what is no text",
                b"PROXY UNKNOWN \xff\xfe\r\n",
                Ok(None),
            ),
            ("no family", b"PROXY UNKNOWNS\r\n", malformed),
            (
                "two spaces",
                b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
                malformed,
            ),
            (
                "a leading zero in a port",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
                malformed,
            ),
            (
                "a signed port",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
                malformed,
            ),
            (
                "a port above 65535",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
                malformed,
            ),
            (
                "the wrong family",
                b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
                malformed,
            ),
            (
                "a word too many",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
                malformed,
            ),
            (
                "a port too few",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
                malformed,
            ),
            ("above 107 bytes", &long, Err(ProxyError::TooLong)),
            ("a ClientHello", b"\x16\x03\x01", Err(ProxyError::Missing)),
        ] {
            let got = parse(line).map(|h| match h.expect(description).0 {
                Header::Local => None,
                Header::Proxied { source, .. } => Some(source.to_string()),
            });
            match (got, wanted) {
                (Err(ProxyError::Malformed(_)), Err(ProxyError::Malformed(_))) => {}
                (got, wanted) => assert_eq!(
                    got.as_ref().map(Option::as_deref),
                    wanted.as_ref().map(|w| *w),
                    "{description}"
                ),
            }
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        [
            &SIGNATURE[..],
            &[command, family],
            &(body.len() as u16).to_be_bytes(),
            body,
        ]
        .concat()
    }

    #[test]
    fn v2_headers() {
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187];
        let with = |tlv: &[u8]| v2(0x21, 0x11, &[&addresses[..], tlv].concat());
        assert!(matches!(
            parse(&with(&[])),
            Ok(Some((Header::Proxied { .. }, 28)))
        ));
        assert_eq!(
            parse(&v2(0x20, 0, b"anything")),
            Ok(Some((Header::Local, 24))),
            "LOCAL ignores its body"
        );
        assert_eq!(
            parse(&v2(0x20, 0xff, &[])),
            Ok(Some((Header::Local, 16))),
            "LOCAL ignores its family"
        );
        assert_eq!(
            parse(&v2(0x21, 0x32, &[0; 216])),
            Ok(Some((Header::Local, 232))),
            "Unix datagrams"
        );
        assert_eq!(
            parse(&v2(0x21, 0, &[])),
            Ok(Some((Header::Local, 16))),
            "UNSPEC"
        );
        for (description, bytes) in [
            ("version 1", v2(0x11, 0x11, &addresses)),
            ("command 2", v2(0x22, 0x11, &addresses)),
            ("family 4", v2(0x21, 0x41, &addresses)),
            ("cut addresses", v2(0x21, 0x11, &addresses[..11])),
            ("cut datagram addresses", v2(0x21, 0x12, &addresses[..11])),
            ("cut Unix addresses", v2(0x21, 0x31, &[0; 215])),
            ("a cut TLV header", with(&[1, 0])),
            ("a cut TLV value", with(&[1, 0, 2, 0])),
            ("a wrong checksum", with(&[3, 0, 4, 1, 2, 3, 4])),
            ("a checksum of 3 bytes", with(&[3, 0, 3, 1, 2, 3])),
            (
                "a protocol name above 255 bytes",
                with(&[&[1, 1, 0][..], &[b'a'; 256]].concat()),
            ),
            ("an authority that is no name", with(&[2, 0, 1, b' '])),
        ] {
            assert!(
                matches!(parse(&bytes), Err(ProxyError::Malformed(_))),
                "{description}"
            );
        }
        assert_eq!(
            parse(&v2(0x21, 0x11, &[0; MAX_HEADER])),
            Err(ProxyError::TooLong)
        );
        let mut checked = with(&[3, 0, 4, 0, 0, 0, 0]);
        let crc = crc32c(checked.iter().copied()).to_be_bytes();
        let at = checked.len() - 4;
        checked[at..].copy_from_slice(&crc);
        assert!(parse(&checked).is_ok(), "a right checksum");
    }

    #[test]
    fn what_is_written_is_read_and_every_prefix_wants_more() {
        let mut bytes = Vec::new();
        let (source, destination) = (
            "192.0.2.1:1".parse().unwrap(),
            "[2001:db8::1]:443".parse().unwrap(),
        );
        encode_v2(
            source,
            destination,
            Some("a.example"),
            Some(b"h2"),
            &mut bytes,
        );
        for n in 0..bytes.len() {
            assert_eq!(parse(&bytes[..n]), Ok(None), "{n} bytes");
        }
        let header = Header::Proxied {
            source,
            destination,
            authority: Some("a.example".parse().unwrap()),
            alpn: Some(b"h2"[..].into()),
        };
        assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
    }

    #[test]
    fn what_is_too_long_for_a_name_is_not_written() {
        let (source, destination) = (
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:443".parse().unwrap(),
        );
        let mut bytes = Vec::new();
        encode_v2(
            source,
            destination,
            Some(&"a".repeat(65_535)),
            Some(&[b'a'; 256]),
            &mut bytes,
        );
        let header = Header::Proxied {
            source,
            destination,
            authority: None,
            alpn: None,
        };
        assert_eq!(parse(&bytes), Ok(Some((header, 28))));
    }

    #[test]
    fn crc32c_of_the_rfc() {
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c((0..32).map(|n| n as u8)), 0x46dd_794e);
    }
}
