//! That cuts do not matter, and that httparse frames what passes as we do.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    MAX_FIELDS,
    tests::{HOST, Verdict, feed, whole},
};

/// A request that is well formed: its bytes, where its head ends, and its body as a receiver has it.
fn request() -> impl Strategy<Value = (Vec<u8>, usize, Vec<u8>)> {
    let name = "[A-Za-z][A-Za-z0-9-]{0,10}".prop_map(|name| format!("X-{name}"));
    let fields = vec((name, "[ -~\t]{0,20}"), 0..5);
    let pieces = vec(vec(any::<u8>(), 1..40), 0..4);
    let method = select(vec!["GET", "POST", "PUT", "M-SEARCH"]);
    (
        method,
        "/[!-\"$-~]{0,20}",
        fields,
        pieces,
        0..3_u8,
        any::<bool>(),
    )
        .prop_map(|(method, target, fields, pieces, kind, early)| {
            let mut head = format!("{method} {target} HTTP/1.1\r\n");
            let framing = match kind {
                0 => String::new(),
                1 => format!("Content-Length: {}\r\n", pieces.concat().len()),
                _ => "Transfer-Encoding: chunked\r\n".to_owned(),
            };
            if early {
                head += &framing;
            }
            head += HOST;
            for (name, value) in &fields {
                head += &format!("{name}: {value}\r\n");
            }
            if !early {
                head += &framing;
            }
            head += "\r\n";
            let mut bytes = head.clone().into_bytes();
            let body = if kind == 0 {
                Vec::new()
            } else {
                pieces.concat()
            };
            if kind == 1 {
                bytes.extend(&body);
            } else if kind == 2 {
                for piece in pieces {
                    bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
                    bytes.extend(piece);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
            (bytes, head.len(), body)
        })
}

/// Streams near the rules: pieces of requests, in any order.
fn near() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.0\r\n",
        "GET / HTTP/11",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Content-Length:",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:",
        " chunked",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "0",
        "3\r\n",
        "abc",
        ";x=y",
        "X: y\r\n",
        ":",
        "\0",
        "Upgrade: x\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
    ]);
    vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes())
}

/// How httparse reads what passed: the heads, their framing, and nothing left over.
fn as_httparse_reads(mut bytes: &[u8]) -> Result<u64, String> {
    let mut heads = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request
            .parse(bytes)
            .map_err(|e| format!("head {heads}: {e}"))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(heads);
        };
        heads += 1;
        let all = |wanted: &str| -> Vec<&[u8]> {
            (request.headers.iter())
                .filter(|h| h.name.eq_ignore_ascii_case(wanted))
                .map(|h| h.value)
                .collect()
        };
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        bytes = &bytes[length..];
        let rest = match (&lengths[..], &codings[..]) {
            ([], []) => Some(0),
            ([length], []) => std::str::from_utf8(length)
                .ok()
                .and_then(|l| l.parse().ok()),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunks(bytes)?,
            _ => return Err(format!("framing {lengths:?} {codings:?}")),
        };
        match rest {
            Some(n) if n <= bytes.len() => bytes = &bytes[n..],
            _ => return Ok(heads),
        }
    }
}

/// Where a chunked body ends.
fn chunks(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(&bytes[at..]) {
            Err(_) => return Err(format!("chunk at {at}")),
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((n, 0))) => {
                let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
                return match httparse::parse_headers(&bytes[at + n..], &mut fields) {
                    Ok(httparse::Status::Complete((length, _))) => Ok(Some(at + n + length)),
                    Ok(httparse::Status::Partial) => Ok(None),
                    Err(e) => Err(format!("trailers: {e}")),
                };
            }
            Ok(httparse::Status::Complete((n, size))) => {
                at += n + usize::try_from(size).unwrap_or(usize::MAX / 2) + 2;
                if at > bytes.len() {
                    return Ok(None);
                }
                if &bytes[at - 2..at] != b"\r\n" {
                    return Err(format!("no CRLF at {at}"));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn well_formed_requests_pass_whole(requests in vec(request(), 1..4)) {
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
        let (verdict, validator) = whole(&bytes);
        prop_assert_eq!(verdict, Verdict { passed: bytes.len(), refused: None, held: false });
        prop_assert_eq!(validator.heads(), requests.len() as u64);
        prop_assert!(validator.between());
        prop_assert_eq!(as_httparse_reads(&bytes), Ok(requests.len() as u64));
    }

    #[test]
    fn cuts_do_not_matter(bytes in prop_oneof![near(), request().prop_map(|r| r.0)], flip in any::<(u16, u8)>(), cuts in vec(1..20_usize, 0..200)) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.get_mut(usize::from(flip.0)) {
            *byte = flip.1;
        }
        prop_assert_eq!(whole(&bytes).0, feed(&bytes, cuts.into_iter()).0);
        prop_assert_eq!(whole(&bytes).0, feed(&bytes, std::iter::repeat(1)).0);
    }

    #[test]
    fn httparse_frames_what_passes_alike(bytes in prop_oneof![near(), request().prop_map(|r| r.0)], flip in any::<(u16, u8)>()) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.get_mut(usize::from(flip.0) % 300) {
            *byte = flip.1;
        }
        let (verdict, validator) = whole(&bytes);
        prop_assert_eq!(as_httparse_reads(&bytes[..verdict.passed]), Ok(validator.heads()));
    }
}
