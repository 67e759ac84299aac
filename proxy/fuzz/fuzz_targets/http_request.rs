//! The guard of HTTP/1.1: however a stream is cut, the verdict is the same; and what passes is framed by httparse as we frame it.
#![no_main]

use httparse::{EMPTY_HEADER, Request, Status};
use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::http_strict::{MAX_FIELDS, Step, Validator};

fuzz_target!(|data: &[u8]| {
    check(data);
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&[chunked, data].concat());
    check(&[b"GET / HTTP/1.1\r\nHost: a\r\n", data].concat());
});

fn check(bytes: &[u8]) {
    let (passed, heads) = run(bytes, bytes.len().max(1));
    for size in [1, 5] {
        assert_eq!(run(bytes, size), (passed, heads), "{size} bytes at a time");
    }
    assert_eq!(heads_by_httparse(&bytes[..passed]), heads);
}

/// How much passed, and how many heads; a request to upgrade is not granted.
fn run(bytes: &[u8], size: usize) -> (usize, u64) {
    let mut validator = Validator::default();
    let mut passed = 0;
    while passed < bytes.len() {
        let end = bytes.len().min(passed + size);
        match validator.advance(&bytes[passed..end]) {
            Step::All => passed = end,
            Step::Held(at) => {
                passed += at;
                validator.resume(false);
            }
            Step::Refused(at, _) => return (passed + at, validator.heads()),
        }
    }
    (passed, validator.heads())
}

fn heads_by_httparse(mut bytes: &[u8]) -> u64 {
    let mut heads = 0;
    loop {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = Request::new(&mut fields);
        let Status::Complete(length) = request.parse(bytes).expect("what passes is parsed") else {
            return heads;
        };
        heads += 1;
        bytes = &bytes[length..];
        let mut framing = request.headers.iter().filter(|h| {
            h.name.eq_ignore_ascii_case("content-length")
                || h.name.eq_ignore_ascii_case("transfer-encoding")
        });
        let rest = match framing.next() {
            None => Some(0),
            Some(h) if h.value.eq_ignore_ascii_case(b"chunked") => chunks(bytes),
            Some(h) => std::str::from_utf8(h.value)
                .ok()
                .and_then(|l| l.parse().ok()),
        };
        assert!(framing.next().is_none(), "the body has one length");
        match rest {
            Some(n) if n <= bytes.len() => bytes = &bytes[n..],
            _ => return heads,
        }
    }
}

/// Where a chunked body ends, if it does.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let parsed = httparse::parse_chunk_size(bytes.get(at..)?).expect("a chunk's size");
        let Status::Complete((n, size)) = parsed else {
            return None;
        };
        at += n;
        if size == 0 {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            return match httparse::parse_headers(&bytes[at..], &mut fields).expect("trailers") {
                Status::Complete((length, _)) => Some(at + length),
                Status::Partial => None,
            };
        }
        at = at
            .checked_add(usize::try_from(size).ok()?)?
            .checked_add(2)?;
        assert_eq!(bytes.get(at - 2..at)?, b"\r\n");
    }
}
