//! A backend's HTTP/1.1: however the stream is cut, what is read of it is the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mc_proxy_fuzz::http_response::{Asked, Malformed, Piece, Reader};

fuzz_target!(|data: &[u8]| {
    check(data);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&[chunked, data].concat());
    check(&[b"HTTP/1.1 200 OK\r\n", data].concat());
});

fn check(bytes: &[u8]) {
    for head in [false, true] {
        let whole = read(Asked { head }, bytes, bytes.len().max(1));
        for size in [1, 5] {
            assert_eq!(
                read(Asked { head }, bytes, size),
                whole,
                "{size} bytes at a time"
            );
        }
    }
}

/// What is told of a response: pieces, joined.
#[derive(Debug, Default, PartialEq)]
struct Read {
    status: Option<u16>,
    body: Vec<u8>,
    trailers: usize,
    left: Vec<u8>,
    whole: bool,
    closes: bool,
}

fn read(asked: Asked, bytes: &[u8], size: usize) -> Result<Read, Malformed> {
    let (mut reader, mut input) = (Reader::new(asked), BytesMut::new());
    let mut read = Read::default();
    for some in bytes.chunks(size) {
        input.extend_from_slice(some);
        if read.status.is_none() {
            read.status = reader.head(&mut input)?.map(|head| head.status().as_u16());
        }
        while read.status.is_some() && !reader.ended() {
            match reader.body(&mut input)? {
                None => break,
                Some(Piece::Data(data)) => {
                    assert!(!data.is_empty(), "a piece has bytes");
                    read.body.extend_from_slice(&data);
                }
                Some(Piece::Trailers(trailers)) => read.trailers = trailers.len(),
                Some(Piece::End) => {}
            }
        }
    }
    read.left = input.to_vec();
    read.whole = reader.closed();
    read.closes = reader.closes();
    Ok(read)
}
