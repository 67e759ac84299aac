//! The ClientHello reader: however the bytes arrive, the answer is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::client_hello::{ClientHello, HelloError, MAX_CLIENT_HELLO, Reader};

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&framed(data));
});

fn check(bytes: &[u8]) {
    let whole = Reader::default().advance(bytes);
    let piecewise = bytewise(bytes);
    match (&whole, &piecewise) {
        // Which of two flaws is told may depend on how much was seen.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, piecewise),
    }
    if bytes.len() > MAX_CLIENT_HELLO {
        assert_ne!(whole, Ok(None), "more than the bound is asked for");
    }
}

fn bytewise(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut reader = Reader::default();
    for end in 0..bytes.len() {
        let answer = reader.advance(&bytes[..end])?;
        if answer.is_some() {
            return Ok(answer);
        }
    }
    reader.advance(bytes)
}

/// As a ClientHello's extensions, all lengths right, in two records.
fn framed(extensions: &[u8]) -> Vec<u8> {
    let extensions = &extensions[..extensions.len().min(8000)];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let (first, second) = message.split_at(message.len() / 2);
    let record = |content: &[u8]| {
        [
            &[22, 3, 1][..],
            &(content.len() as u16).to_be_bytes(),
            content,
        ]
        .concat()
    };
    [record(first), record(second)].concat()
}
