//! The rules of bodies and of what follows them, by example.

use super::{
    tests::{HOST, refused, whole},
    *,
};

#[test]
fn malformed_bodies_are_refused() {
    use Violation::*;
    let chunked = |body: &str| -> String {
        format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}")
    };
    for (description, body, violation) in [
        ("no size", "\r\n", ChunkSize),
        ("a sign", "+5\r\nhello\r\n", ChunkSize),
        ("0x", "0x5\r\nhello\r\n", ChunkSize),
        ("white space before", " 5\r\nhello\r\n", ChunkSize),
        ("white space after", "5 \r\nhello\r\n", ChunkSize),
        ("no hex", "g\r\n", ChunkSize),
        (
            "too many digits",
            "00000000000000005\r\nhello\r\n",
            ChunkSize,
        ),
        ("a bare LF after the size", "5\nhello\r\n", ChunkSize),
        ("a bare CR after the size", "5\rhello\r\n", LineEnd),
        (
            "a bare LF in an extension",
            "5;a\nhello\r\n",
            ChunkExtension,
        ),
        ("NUL in an extension", "5;\0\r\nhello\r\n", ChunkExtension),
        (
            "a long extension",
            &format!("5;{}", "a".repeat(MAX_EXTENSIONS)),
            ChunkExtension,
        ),
        ("data too long", "5\r\nhello!\r\n", LineEnd),
        ("data without CR", "5\r\nhello\n", LineEnd),
        ("data without LF", "5\r\nhello\r0\r\n\r\n", LineEnd),
        ("a bare LF at the end", "0\r\n\n", LineEnd),
        ("a trailer with a bare LF", "0\r\nA: b\n\r\n", LineEnd),
        ("a trailer folded", "0\r\nA: b\r\n c\r\n\r\n", Folded),
        (
            "a trailer without colon",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            FieldName,
        ),
        (
            "a length in trailers",
            "0\r\nContent-Length: 5\r\n\r\n",
            Trailer,
        ),
        (
            "a coding in trailers",
            "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Trailer,
        ),
        ("a Host in trailers", "0\r\nHost: b\r\n\r\n", Trailer),
        (
            "too many trailers",
            &format!("0\r\n{}", "a: b\r\n".repeat(MAX_FIELDS + 1)),
            TooLarge,
        ),
        (
            "trailers too large",
            &format!("0\r\na: {}", "b".repeat(MAX_HEAD)),
            TooLarge,
        ),
    ] {
        refused(&[(description, &chunked(body), violation)], false);
    }
}

#[test]
fn what_follows_a_request_to_upgrade_waits() {
    for (description, head) in [
        (
            "Upgrade",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        ),
        ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "with a body",
            "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nab",
        ),
        (
            "with chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ),
    ] {
        let bytes = [head.as_bytes(), b"\x81\0\n\n"].concat();
        let (verdict, mut validator) = whole(&bytes);
        assert_eq!(
            (verdict.passed, verdict.held),
            (head.len(), true),
            "{description}"
        );
        assert_eq!(validator.advance(b"\0"), Step::Held(0), "{description}");
        let mut other = validator.clone();
        validator.resume(true);
        assert_eq!(validator.advance(b"\0\n\n"), Step::All, "{description}");
        assert!(validator.opaque(), "{description}");
        other.resume(false);
        assert!(
            matches!(other.advance(b"\0\n\n"), Step::Refused(0, _)),
            "{description}"
        );
    }
    let (verdict, _) = whole(b"connect a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(verdict.refused.is_some(), "methods have their case");
}
