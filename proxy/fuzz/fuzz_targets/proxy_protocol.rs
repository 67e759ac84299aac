//! The PROXY header: every prefix of a header wants more, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::proxy_protocol::{Header, MAX_HEADER, encode_v2, parse};

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&[b"PROXY TCP4 ", data, b"\r\n"].concat());
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes();
    check(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], data].concat());
    check(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x21", &length[..], data].concat());
});

fn check(bytes: &[u8]) {
    let Ok(Some((header, length))) = parse(bytes) else {
        return;
    };
    assert!(length <= bytes.len() && length <= MAX_HEADER);
    for end in 0..length {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {length} bytes");
    }
    let Header::Proxied {
        source,
        destination,
        authority,
        alpn,
    } = &header
    else {
        return;
    };
    let mut written = Vec::new();
    encode_v2(
        *source,
        *destination,
        authority.as_ref().map(|a| a.as_str()),
        alpn.as_deref(),
        &mut written,
    );
    let length = written.len();
    // The copy may be the longer one: `encode_v2` writes mixed families as IPv6.
    if length <= MAX_HEADER {
        assert_eq!(parse(&written), Ok(Some((header, length))));
    }
}
