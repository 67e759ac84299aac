//! The rules by example.

use super::*;

pub(super) const HOST: &str = "Host: a.example\r\n";

/// What became of a stream: the bytes that passed, and why no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) passed: usize,
    pub(super) refused: Option<Refusal>,
    pub(super) held: bool,
}

/// Feeds a stream in pieces; what follows a request to upgrade is left.
pub(super) fn feed(bytes: &[u8], mut cuts: impl Iterator<Item = usize>) -> (Verdict, Validator) {
    let mut validator = Validator::default();
    let mut passed = 0;
    while passed < bytes.len() {
        let n = cuts.next().unwrap_or(usize::MAX).min(bytes.len() - passed);
        let (more, refused) = match validator.advance(&bytes[passed..passed + n]) {
            Step::All => {
                passed += n;
                continue;
            }
            Step::Held(at) => (at, None),
            Step::Refused(at, refusal) => (at, Some(refusal)),
        };
        let verdict = Verdict {
            passed: passed + more,
            refused,
            held: refused.is_none(),
        };
        return (verdict, validator);
    }
    let verdict = Verdict {
        passed,
        refused: None,
        held: false,
    };
    (verdict, validator)
}

pub(super) fn whole(bytes: &[u8]) -> (Verdict, Validator) {
    feed(bytes, std::iter::empty())
}

#[test]
fn well_formed_requests_pass() {
    let long = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(30_000));
    for (description, bytes, heads) in [
        ("the least", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 1),
        (
            "two in a row",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
        (
            "an empty line before",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
        (
            "a body by length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe\0\r\nGET / HTTP/1.0\r\n\r\n",
            2,
        ),
        (
            "a length of zero, white space around it",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t 000 \r\n\r\n",
            1,
        ),
        (
            "chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n000B\r\n\0\r\n0\r\n\r\n...\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
        ),
        (
            "extensions and trailers",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:chunked\r\n\r\n1;a=b;c=\"d\"\r\nx\r\n0;e\r\nX-Sum: 1\r\nEmpty:\r\n\r\n",
            1,
        ),
        (
            "an absolute target",
            "GET HTTPS://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            1,
        ),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        (
            "values of all kinds",
            "GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB: \r\nC:c\r\nD: \t\u{e4} ;,\"=  \r\n!#$%&'*+-.^_`|~9: x\r\n\r\n",
            1,
        ),
        (
            "a target that browsers send",
            "GET /a%20b?c={\"d\"|^`} HTTP/1.1\r\nHost: a\r\n\r\n",
            1,
        ),
        ("a long target", &long, 1),
        (
            "Upgrade in HTTP/1.0 is none",
            "GET / HTTP/1.0\r\nUpgrade: x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            2,
        ),
    ] {
        let (verdict, validator) = whole(bytes.as_bytes());
        assert_eq!(
            verdict,
            Verdict {
                passed: bytes.len(),
                refused: None,
                held: false
            },
            "{description}"
        );
        assert_eq!(validator.heads(), heads, "{description}");
        assert!(validator.between(), "{description}");
    }
}

pub(super) fn refused(table: &[(&str, &str, Violation)], in_head: bool) {
    for (description, bytes, violation) in table {
        let (verdict, validator) = whole(bytes.as_bytes());
        let refusal = Refusal {
            violation: *violation,
            in_head,
        };
        assert_eq!(verdict.refused, Some(refusal), "{description}");
        let mut again = validator.clone();
        assert_eq!(
            again.advance(b"GET"),
            Step::Refused(0, refusal),
            "{description}: for good"
        );
    }
}

#[test]
fn malformed_heads_are_refused() {
    use Violation::*;
    refused(
        &[
            ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Target),
            (
                "a space at the end",
                "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
                Version,
            ),
            ("a tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", Target),
            ("HTTP/0.9", "GET /\r\n\r\n", Target),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Target),
            ("HTTP/1.2", "GET / HTTP/1.2\r\n", Version),
            ("lower case", "GET / http/1.1\r\n", Version),
            ("a version of two digits", "GET / HTTP/1.10\r\n", Version),
            (
                "a method that is no token",
                "G@T / HTTP/1.1\r\n",
                RequestLine,
            ),
            ("a method without end", &"A".repeat(100), RequestLine),
            ("a fragment", "GET /#x HTTP/1.1\r\n", Target),
            ("raw UTF-8", "GET /\u{e4} HTTP/1.1\r\n", Target),
            ("NUL", "GET /\0 HTTP/1.1\r\n", Target),
            ("an authority for GET", "GET a.example HTTP/1.1\r\n", Target),
            (
                "another scheme",
                "GET ftp://a.example/ HTTP/1.1\r\n",
                Target,
            ),
            ("GET *", "GET * HTTP/1.1\r\n", Target),
            ("a path for CONNECT", "CONNECT / HTTP/1.1\r\n", Target),
            (
                "two empty lines before",
                "\r\n\r\nGET / HTTP/1.1\r\n",
                RequestLine,
            ),
            ("a bare LF before", "\nGET / HTTP/1.1\r\n", RequestLine),
            ("a space before", " GET / HTTP/1.1\r\n", RequestLine),
            (
                "a bare LF in the request line",
                "GET / HTTP/1.1\nHost: a\r\n\r\n",
                Version,
            ),
            (
                "a bare CR in the request line",
                "GET / HTTP/1.1\rHost: a\r\n\r\n",
                LineEnd,
            ),
            (
                "a bare LF after a field",
                "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
                LineEnd,
            ),
            (
                "a bare LF after a space",
                "GET / HTTP/1.1\r\nHost: \nX: b\r\n\r\n",
                LineEnd,
            ),
            (
                "a bare CR in a value",
                "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
                LineEnd,
            ),
            (
                "a bare LF as the empty line",
                "GET / HTTP/1.1\r\nHost: a\r\n\n",
                LineEnd,
            ),
            (
                "a bare CR as the empty line",
                "GET / HTTP/1.1\r\nHost: a\r\n\rX",
                LineEnd,
            ),
            (
                "a folded line",
                "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
                Folded,
            ),
            (
                "a first line folded",
                "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n",
                Folded,
            ),
            (
                "a space before the colon",
                "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                FieldName,
            ),
            (
                "a tab in a name",
                "GET / HTTP/1.1\r\nHo\tst: a\r\n\r\n",
                FieldName,
            ),
            ("no name", "GET / HTTP/1.1\r\n: a\r\n\r\n", FieldName),
            ("no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", FieldName),
            (
                "a name in UTF-8",
                "GET / HTTP/1.1\r\nH\u{f6}st: a\r\n\r\n",
                FieldName,
            ),
            (
                "NUL in a value",
                "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
                FieldValue,
            ),
            (
                "DEL in a value",
                "GET / HTTP/1.1\r\nX: \x7f\r\n\r\n",
                FieldValue,
            ),
            ("no Host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", Host),
            (
                "two Hosts",
                "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
                Host,
            ),
            (
                "two Hosts in HTTP/1.0",
                "GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n",
                Host,
            ),
            (
                "CL.TE",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
                LengthAndEncoding,
            ),
            (
                "TE.CL",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
                LengthAndEncoding,
            ),
            (
                "TE.TE",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n\r\n",
                Encoding,
            ),
            (
                "chunked twice",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Encoding,
            ),
            (
                "a list of codings",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Encoding,
            ),
            (
                "xchunked",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
                Encoding,
            ),
            (
                "chunkedx",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked x\r\n\r\n",
                Encoding,
            ),
            (
                "a vertical tab",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
                Encoding,
            ),
            (
                "quotes",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
                Encoding,
            ),
            (
                "no coding",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
                Encoding,
            ),
            (
                "chunked in HTTP/1.0",
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                Encoding,
            ),
            (
                "CL.CL",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                DuplicateLength,
            ),
            (
                "CL.CL, equal",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                DuplicateLength,
            ),
            (
                "a list of lengths",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
                Length,
            ),
            (
                "a sign",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
                Length,
            ),
            (
                "hex",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
                Length,
            ),
            (
                "two numbers",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n",
                Length,
            ),
            (
                "no number",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
                Length,
            ),
            (
                "too long a number",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890123456789\r\n\r\n",
                Length,
            ),
            (
                "too many fields",
                &format!("GET / HTTP/1.1\r\n{HOST}{}", "a: b\r\n".repeat(MAX_FIELDS)),
                TooLarge,
            ),
            (
                "a head too large",
                &format!("GET / HTTP/1.1\r\n{HOST}a: {}", "b".repeat(MAX_HEAD)),
                TooLarge,
            ),
            (
                "a target too long",
                &format!("GET /{}", "b".repeat(MAX_HEAD)),
                TooLarge,
            ),
            (
                "the second of two",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxyz / HTTP/1.2\r\n",
                Version,
            ),
        ],
        true,
    );
}
