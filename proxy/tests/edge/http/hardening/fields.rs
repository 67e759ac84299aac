//! What HTTP/2 can say that HTTP/1.1 cannot, and must not become another request there.

use anyhow::{Result, ensure};

use super::{
    super::Site,
    NAME,
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, NOT_INDEXED, Outcome, block, frame},
    http2::request,
    taken,
};

const PROTOCOL_ERROR: u32 = 1;

#[test]
fn malformed_requests_never_reach_a_backend() -> Result<()> {
    use Outcome::{Reset, Status};
    let (site, seen) = Site::recorded("")?;
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", NAME),
        (":path", "/"),
    ];
    let with = |name, value| -> Vec<(&'static str, &'static str)> {
        let mut fields = good.to_vec();
        match fields.iter_mut().find(|f| f.0 == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
        fields
    };
    let twice = |name, value| {
        let mut fields = good.to_vec();
        fields.insert(0, (name, value));
        fields
    };
    let late = [&good[1..], &[("x", "y"), (":method", "GET")]].concat();
    for (description, fields, outcome) in [
        ("nothing wrong", good.to_vec(), Status(200)),
        ("the same host twice", with("host", NAME), Status(200)),
        (
            "another authority",
            with(":authority", "other.example.org"),
            Status(421),
        ),
        (
            "another host",
            with("host", "other.example.org"),
            Status(400),
        ),
        (
            "a user",
            with(":authority", "x@web.example.org"),
            Status(400),
        ),
        (
            "a path without slash",
            with(":path", "x"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "an URL as path",
            with(":path", "http://other.example.org/"),
            Reset(PROTOCOL_ERROR),
        ),
        ("an empty path", with(":path", ""), Reset(PROTOCOL_ERROR)),
        (
            "a space in the path",
            with(":path", "/ HTTP/1.1"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "CRLF in the path",
            with(":path", "/\r\nx: y"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "CRLF in a value",
            with("x", "y\r\nz: a"),
            Reset(PROTOCOL_ERROR),
        ),
        ("LF in a value", with("x", "y\nz: a"), Reset(PROTOCOL_ERROR)),
        ("NUL in a value", with("x", "y\0"), Reset(PROTOCOL_ERROR)),
        (
            "CRLF in a name",
            with("x: y\r\nz", "a"),
            Reset(PROTOCOL_ERROR),
        ),
        ("a colon in a name", with("x:y", "a"), Reset(PROTOCOL_ERROR)),
        ("an upper-case name", with("X", "y"), Reset(PROTOCOL_ERROR)),
        (
            "a space in the method",
            with(":method", "GET /x"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "transfer-encoding",
            with("transfer-encoding", "chunked"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "connection",
            with("connection", "close"),
            Reset(PROTOCOL_ERROR),
        ),
        ("keep-alive", with("keep-alive", "1"), Reset(PROTOCOL_ERROR)),
        ("upgrade", with("upgrade", "h2c"), Reset(PROTOCOL_ERROR)),
        ("te", with("te", "gzip"), Reset(PROTOCOL_ERROR)),
        (
            "an unknown pseudo-field",
            with(":x", "y"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "a pseudo-field twice",
            twice(":path", "/x"),
            Reset(PROTOCOL_ERROR),
        ),
        ("a pseudo-field after others", late, Reset(PROTOCOL_ERROR)),
        ("no method", good[1..].to_vec(), Reset(PROTOCOL_ERROR)),
        ("no path", good[..3].to_vec(), Reset(PROTOCOL_ERROR)),
        (
            "a body promised",
            with("content-length", "5"),
            Reset(PROTOCOL_ERROR),
        ),
        (
            "CONNECT without protocol",
            vec![(":method", "CONNECT"), (":authority", NAME)],
            Status(501),
        ),
    ] {
        let bytes = request(1, &block(&fields, NOT_INDEXED));
        let got = site.http2(None, |mut http2| async move {
            http2.send(&bytes).await?;
            Ok(http2.outcome().await)
        })?;
        // For some, h2 ends the connection.
        let refused = matches!((outcome, got), (Reset(code), Outcome::GoAway(other)) if code == other)
            || matches!((outcome, got), (Reset(_), Status(400)));
        ensure!(got == outcome || refused, "{description}: {got:?}");
        let requests = taken(&seen);
        let wanted = usize::from(outcome == Status(200));
        ensure!(
            requests.len() == wanted,
            "{description}: the backend saw {requests:?}"
        );
    }
    Ok(())
}

#[test]
fn a_body_is_as_long_as_promised() -> Result<()> {
    let (site, seen) = Site::recorded("")?;
    for (description, promised, sent) in [("shorter", "5", "he"), ("longer", "2", "hello")] {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", NAME),
            (":path", "/sum"),
            ("content-length", promised),
        ];
        let bytes = [
            frame(HEADERS, END_HEADERS, 1, &block(&fields, NOT_INDEXED)),
            frame(DATA, END_STREAM, 1, sent.as_bytes()),
        ]
        .concat();
        let got = site.http2(None, |mut http2| async move {
            http2.send(&bytes).await?;
            Ok(http2.outcome().await)
        })?;
        ensure!(
            !matches!(got, Outcome::Status(200)),
            "{description}: {got:?}"
        );
    }
    let got = taken(&seen);
    ensure!(got.iter().all(|r| r == "POST /sum"), "{got:?}");
    Ok(())
}
