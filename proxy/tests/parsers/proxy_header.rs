//! PROXY headers against the `ppp` crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mc_proxy::proxy_protocol::{Header, MAX_HEADER, ProxyError, encode_v2, parse};
use ppp::{v1, v2};
use proptest::{prelude::*, sample::Index};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Words of a v1 line, right ones and nearly right ones.
fn words() -> impl Strategy<Value = Vec<String>> {
    let family = prop_oneof![4 => "TCP4|TCP6", 1 => "UNKNOWN|UNKNOWNX|TCP|tcp4|"];
    let address = prop_oneof![
        4 => any::<Ipv4Addr>().prop_map(|a| a.to_string()),
        4 => any::<Ipv6Addr>().prop_map(|a| a.to_string()),
        1 => any::<Ipv4Addr>().prop_map(|a| a.to_ipv6_mapped().to_string()),
        1 => "01\\.2\\.3\\.4|1\\.2\\.3|::1%lo|1\\.2\\.3\\.4\\.|:::|",
    ];
    let port = prop_oneof![8 => any::<u16>().prop_map(|p| p.to_string()), 1 => "65536|00|01|\\+1|-1||80\\r|0x50"];
    (
        family,
        address.clone(),
        address,
        port.clone(),
        port,
        prop::option::weighted(0.1, "x| "),
    )
        .prop_map(|(family, a, b, p, q, more)| {
            [family, a, b, p, q].into_iter().chain(more).collect()
        })
}

/// v2 headers: addresses, TLVs, sometimes with fields that do not fit.
fn v2_headers() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![8 => Just(0x21_u8), 2 => Just(0x20), 1 => any::<u8>()];
    let family = prop_oneof![
        8 => prop::sample::select(vec![0x11_u8, 0x21]),
        2 => prop::sample::select(vec![0, 0x12, 0x22, 0x31, 0x32, 0x01, 0x10]),
        1 => any::<u8>(),
    ];
    let kind = prop_oneof![
        prop::sample::select(vec![1_u8, 2, 4, 5, 0x20, 0x30]),
        any::<u8>()
    ];
    let value = prop_oneof![
        crate::wire::names().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let tlvs = prop::collection::vec((kind, value), 0..5);
    (
        command,
        family,
        prop::array::uniform32(any::<u8>()),
        tlvs,
        prop::collection::vec(any::<u8>(), 0..4),
    )
        .prop_map(|(command, family, addresses, tlvs, garbage)| {
            let size = match family >> 4 {
                1 => 12,
                2 => 36,
                3 => 216,
                _ => 0,
            };
            let mut body: Vec<u8> = addresses.iter().copied().cycle().take(size).collect();
            for (kind, value) in tlvs {
                body.extend(tlv(kind, &value));
            }
            // Mostly nothing: garbage makes a cut TLV.
            if garbage.len() == 3 {
                body.extend(garbage);
            }
            header(command, family, &body)
        })
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [
        SIGNATURE,
        &[command, family],
        &(body.len() as u16).to_be_bytes(),
        body,
    ]
    .concat()
}

fn canonical(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into().to_canonical(), port)
}

/// Both ends as `ppp` sees them, made canonical as here; `None` for UNKNOWN.
fn ends_v1(addresses: v1::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(a) => Some((
            canonical(a.source_address, a.source_port),
            canonical(a.destination_address, a.destination_port),
        )),
        v1::Addresses::Tcp6(a) => Some((
            canonical(a.source_address, a.source_port),
            canonical(a.destination_address, a.destination_port),
        )),
    }
}

fn ends(header: &Header) -> Option<(SocketAddr, SocketAddr)> {
    match header {
        Header::Local => None,
        Header::Proxied {
            source,
            destination,
            ..
        } => Some((*source, *destination)),
    }
}

/// Both ends as `ppp` sees them; `None` where this parser says local.
fn ends_v2(header: &v2::Header<'_>) -> Option<(SocketAddr, SocketAddr)> {
    if header.command == v2::Command::Local || header.protocol != v2::Protocol::Stream {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(a) => Some((
            canonical(a.source_address, a.source_port),
            canonical(a.destination_address, a.destination_port),
        )),
        v2::Addresses::IPv6(a) => Some((
            canonical(a.source_address, a.source_port),
            canonical(a.destination_address, a.destination_port),
        )),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

/// Where this parser is stricter than `ppp` on purpose: `ppp` takes family and protocol bytes that section 2.2 says
/// to reject, leaves TLVs unread (a protocol name has at most 255 bytes, an authority is a hostname), does not verify the checksum, and has no bound below 64 KiB.
fn stricter_v2(theirs: &v2::Header<'_>) -> bool {
    let listed = [0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32].contains(&theirs.header[13]);
    !listed
        || theirs.header.len() > MAX_HEADER
        || theirs.tlvs().any(|tlv| match tlv {
            Err(_) => true,
            Ok(tlv) if tlv.kind == 1 => tlv.value.len() > 255,
            Ok(tlv) => {
                tlv.kind == 3
                    || (tlv.kind == 2
                        && mc_proxy::hostname::Hostname::from_bytes(&tlv.value).is_err())
            }
        })
}

fn check_v2(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (parse(bytes), v2::Header::try_from(bytes)) {
        (Ok(Some((ours, length))), Ok(theirs)) => {
            prop_assert_eq!(length, theirs.len());
            prop_assert_eq!(ends(&ours), ends_v2(&theirs));
            if let Header::Proxied {
                authority, alpn, ..
            } = &ours
            {
                let last = |kind| {
                    theirs
                        .tlvs()
                        .flatten()
                        .filter(|tlv| tlv.kind == kind)
                        .last()
                        .map(|t| t.value.to_vec())
                };
                prop_assert_eq!(alpn.as_ref().map(|a| a.to_vec()), last(1));
                let name = last(2).map(|n| {
                    String::from_utf8(n)
                        .unwrap()
                        .trim_end_matches('.')
                        .to_ascii_lowercase()
                });
                prop_assert_eq!(authority.as_ref().map(|a| a.as_str().to_owned()), name);
            }
        }
        // LOCAL: "discard the protocol block including the family which is ignored"; `ppp` reads it.
        (Ok(Some((ours, _))), Err(_)) => prop_assert!(ours == Header::Local && bytes[12] == 0x20),
        (Ok(None), Ok(_)) => prop_assert!(false, "ppp has enough"),
        (Ok(None), Err(e)) => prop_assert!(
            matches!(
                e,
                v2::ParseError::Incomplete(_) | v2::ParseError::Partial(..)
            ) || bytes.get(12) == Some(&0x20),
            "ppp refuses at once: {e}"
        ),
        (Err(e), Ok(theirs)) => prop_assert!(stricter_v2(&theirs), "{e}, but ppp reads {theirs:?}"),
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn lines_are_read_as_ppp_reads_them(words in words(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let line = format!("PROXY {}\r\n", words.join(" "));
        let bytes = [line.as_bytes(), &behind].concat();
        match (parse(&bytes), v1::Header::try_from(&bytes[..])) {
            (Ok(Some((ours, length))), Ok(theirs)) => {
                prop_assert_eq!(length, line.len());
                prop_assert_eq!(ends(&ours), ends_v1(theirs.addresses));
            }
            // `str::parse` takes a sign, section 2.1 does not ("only digits").
            (Err(ProxyError::Malformed(_)), Ok(_)) => prop_assert!(words.iter().any(|w| w.starts_with('+'))),
            // `ppp` ends at the first CR, which "ignore anything presented before the CRLF" does not.
            (Ok(Some((ours, _))), Err(_)) => {
                prop_assert!(ours == Header::Local && (line.matches('\r').count() > 1 || words.len() > 5), "{line:?}");
            }
            (Err(_), Err(_)) => {}
            other => prop_assert!(false, "{line:?}: {other:?}"),
        }
    }

    #[test]
    fn v2_headers_are_read_as_ppp_reads_them(bytes in v2_headers(), cut in any::<Index>()) {
        check_v2(&bytes)?;
        check_v2(&bytes[..cut.index(bytes.len())])?;
    }

    #[test]
    fn broken_headers_are_read_as_ppp_reads_them(
        mut bytes in v2_headers(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        // What no longer starts with the signature is another test's matter.
        if bytes.starts_with(SIGNATURE) {
            check_v2(&bytes)?;
        }
    }

    #[test]
    fn a_whole_header_is_read_alike_whatever_follows_and_its_prefixes_want_more(
        bytes in prop_oneof![v2_headers(), words().prop_map(|w| format!("PROXY {}\r\n", w.join(" ")).into_bytes())],
        behind in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        if let Ok(Some((header, length))) = parse(&bytes) {
            for end in 0..length {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None), "{} of {}", end, length);
            }
            prop_assert_eq!(parse(&[&bytes[..], &behind].concat()), Ok(Some((header, length))));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..4_usize) {
        let starts: [&[u8]; 4] = [b"", b"PROXY ", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11"];
        let bytes = [starts[start], &bytes].concat();
        if let Ok(Some((_, length))) = parse(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn headers_are_written_as_ppp_writes_them(
        source in any::<SocketAddr>(),
        destination in any::<SocketAddr>(),
        authority in prop::option::of(crate::wire::names()),
        alpn in prop::option::of(prop::collection::vec(any::<u8>(), 1..256)),
    ) {
        let (source, destination) =
            (SocketAddr::new(source.ip(), source.port()), SocketAddr::new(destination.ip(), destination.port()));
        let mut ours = b"kept".to_vec();
        encode_v2(source, destination, authority.as_deref(), alpn.as_deref(), &mut ours);
        // `ppp` writes addresses of different families as unspecified; here both become IPv6.
        if source.is_ipv4() == destination.is_ipv4() {
            let command = v2::Version::Two | v2::Command::Proxy;
            let mut theirs = v2::Builder::with_addresses(command, v2::Protocol::Stream, (source, destination));
            if let Some(authority) = &authority {
                theirs = theirs.write_tlv(v2::Type::Authority, authority.as_bytes()).unwrap();
            }
            if let Some(alpn) = &alpn {
                theirs = theirs.write_tlv(v2::Type::ALPN, alpn).unwrap();
            }
            prop_assert_eq!(&ours[4..], &theirs.build().unwrap());
        }
        let header = Header::Proxied {
            source: canonical(source.ip(), source.port()),
            destination: canonical(destination.ip(), destination.port()),
            authority: authority.map(|a| a.parse().unwrap()),
            alpn: alpn.map(Into::into),
        };
        prop_assert_eq!(parse(&ours[4..]), Ok(Some((header, ours.len() - 4))));
    }

    #[test]
    fn one_wrong_bit_behind_a_checksum_is_refused(
        addresses in prop::array::uniform12(any::<u8>()),
        name in crate::wire::names(),
        bit in any::<Index>(),
    ) {
        let checksum_at = 16 + 12 + 3;
        let body = [&addresses[..], &tlv(3, &[0; 4]), &tlv(2, name.as_bytes())].concat();
        let mut bytes = header(0x21, 0x11, &body);
        let checksum = crc32c(&bytes).to_be_bytes();
        bytes[checksum_at..checksum_at + 4].copy_from_slice(&checksum);
        prop_assert!(parse(&bytes).is_ok());
        // Addresses, the checksum, the name: what is before decides whether there is a checksum at all.
        let places: Vec<usize> = (16..28).chain(checksum_at..checksum_at + 4).chain(bytes.len() - name.len()..bytes.len()).collect();
        let bit = bit.index(places.len() * 8);
        bytes[places[bit / 8]] ^= 1 << (bit % 8);
        prop_assert!(matches!(parse(&bytes), Err(ProxyError::Malformed(_))));
    }
}

/// By table, unlike the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|n| {
            (0..8).fold(n, |c, _| {
                if c & 1 == 1 {
                    c >> 1 ^ 0x82f6_3b78
                } else {
                    c >> 1
                }
            })
        })
        .collect();
    !bytes.iter().fold(!0, |crc, byte| {
        table[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    })
}
