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
