//! The TLS ClientHello, read far enough to know where it wants to go.
//!
//! Written here and not taken from a TLS library: a relay forwards hellos that it could not answer itself (older
//! versions, unknown groups), must keep every byte, and must bound what a stranger makes it hold. The reader walks over a growing
//! buffer and keeps its place, so that a client which sends a byte at a time costs O(n) in all.
//!
//! Under Encrypted Client Hello the outer name is the one that is seen, and it routes (RFC 9849 §6.1: it names the
//! client-facing server).

use crate::hostname::{Hostname, HostnameError};

/// Bytes of records that a ClientHello may take: a post-quantum one with ECH and a session ticket has about 5 KiB.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// Longest plaintext record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const CONTENT_HANDSHAKE: u8 = 22;
const TYPE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;
/// Protocol names kept; the rest is checked and left out. Clients offer at most a handful, but 16 KiB hold 8,000 names
/// of a byte, each of which would be an allocation.
const MAX_PROTOCOLS: usize = 32;

/// What routing needs of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The one host_name of server_name (RFC 6066 §3).
    pub sni: Option<Hostname>,
    /// Protocol names in the client's order (RFC 7301 §3.1); the first 32 of them.
    pub alpn: Vec<Box<[u8]>>,
}

/// Bytes that cannot become a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first bytes are no TLS handshake record.
    #[error("not a TLS handshake")]
    NotTls,
    /// TLS, but not a well-formed ClientHello.
    #[error("malformed ClientHello: {0}")]
    Malformed(&'static str),
    /// Above [`MAX_CLIENT_HELLO`].
    #[error("a ClientHello above {MAX_CLIENT_HELLO} bytes")]
    TooLarge,
    /// The name in it is no hostname.
    #[error("the server name {0}")]
    BadName(HostnameError),
}

impl HelloError {
    /// A label for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Malformed(_) => "malformed_client_hello",
            Self::TooLarge => "client_hello_too_large",
            Self::BadName(_) => "bad_sni",
        }
    }
}

/// Reads one ClientHello from a buffer that grows.
#[derive(Debug, Default)]
pub struct Reader {
    /// Start of the first record that was not read whole.
    at: usize,
    /// The handshake message so far, when it spans records; bounded by [`MAX_CLIENT_HELLO`].
    message: Vec<u8>,
}

impl Reader {
    /// Looks at all bytes received so far; `None` wants more. Must be given the same bytes again with more behind them.
    /// Bytes behind the ClientHello are left alone.
    ///
    /// # Errors
    /// [`HelloError`] as soon as the bytes cannot become a ClientHello.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            check_start(rest, self.at == 0)?;
            let Some((header, body)) = rest.split_at_checked(RECORD_HEADER) else {
                return Ok(None);
            };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > MAX_RECORD {
                return Err(HelloError::Malformed("record length"));
            }
            if self.at + RECORD_HEADER + length > MAX_CLIENT_HELLO {
                return Err(HelloError::TooLarge);
            }
            if self.at == 0 {
                check_message_start(&body[..body.len().min(length)])?;
            }
            let Some(fragment) = body.get(..length) else {
                return Ok(None);
            };
            self.at += RECORD_HEADER + length;
            if self.message.is_empty()
                && let Some(message) = whole(fragment)?
            {
                return parse(message).map(Some);
            }
            self.message.extend_from_slice(fragment);
            if let Some(message) = whole(&self.message)? {
                return parse(message).map(Some);
            }
        }
    }
}

/// Says early what is no TLS: the record's type and major version come first.
fn check_start(record: &[u8], first: bool) -> Result<(), HelloError> {
    let wrong = record.first().is_some_and(|t| *t != CONTENT_HANDSHAKE)
        || record.get(1).is_some_and(|v| *v != 3);
    match (wrong, first) {
        (false, _) => Ok(()),
        (true, true) => Err(HelloError::NotTls),
        (true, false) => Err(HelloError::Malformed(
            "another record in the middle of the handshake message",
        )),
    }
}

/// Refuses another handshake message, or one that is too long, before it is all there.
fn check_message_start(body: &[u8]) -> Result<(), HelloError> {
    if body.first().is_some_and(|t| *t != TYPE_CLIENT_HELLO) {
        return Err(HelloError::Malformed(
            "the first handshake message is no ClientHello",
        ));
    }
    body.get(..HANDSHAKE_HEADER)
        .map_or(Ok(()), |header| message_length(header).map(drop))
}

fn message_length(header: &[u8]) -> Result<usize, HelloError> {
    let length =
        usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length + HANDSHAKE_HEADER > MAX_CLIENT_HELLO {
        Err(HelloError::TooLarge)
    } else {
        Ok(length)
    }
}

/// The body of the handshake message, once it is all there.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let Some((header, body)) = message.split_at_checked(HANDSHAKE_HEADER) else {
        return Ok(None);
    };
    let length = message_length(header)?;
    if body.len() > length {
        return Err(HelloError::Malformed(
            "bytes behind the ClientHello in its record",
        ));
    }
    Ok((body.len() == length).then_some(body))
}

/// A cursor whose every read is checked.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(n)
            .ok_or(HelloError::Malformed("truncated field"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<Input<'a>, HelloError> {
        let length = self.u8()?;
        Ok(Input(self.take(length.into())?))
    }

    fn vector16(&mut self) -> Result<Input<'a>, HelloError> {
        let length = self.u16()?;
        Ok(Input(self.take(length.into())?))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The body of a ClientHello (RFC 8446 §4.1.2).
fn parse(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut input = Input(body);
    input.take(2 + 32)?; // legacy_version, random
    if input.vector8()?.0.len() > 32 {
        return Err(HelloError::Malformed("session id"));
    }
    let suites = input.vector16()?.0.len();
    if suites == 0 || suites % 2 == 1 {
        return Err(HelloError::Malformed("cipher suites"));
    }
    if input.vector8()?.is_empty() {
        return Err(HelloError::Malformed("compression methods"));
    }
    let mut hello = ClientHello {
        sni: None,
        alpn: Vec::new(),
    };
    // TLS 1.2 and before: a hello may end here (RFC 5246 §7.4.1.2).
    if input.is_empty() {
        return Ok(hello);
    }
    let mut extensions = input.vector16()?;
    if !input.is_empty() {
        return Err(HelloError::Malformed("bytes behind the extensions"));
    }
    // "There MUST NOT be more than one extension of the same type" (RFC 8446 §4.2).
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.sni = Some(server_name(content)?),
            EXTENSION_ALPN => hello.alpn = protocols(content)?,
            _ => {}
        }
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(HelloError::Malformed("duplicate extension"));
    }
    Ok(hello)
}

fn server_name(mut input: Input<'_>) -> Result<Hostname, HelloError> {
    let mut list = input.vector16()?;
    if !input.is_empty() || list.is_empty() {
        return Err(HelloError::Malformed("server name list"));
    }
    let kind = list.u8()?;
    let name = list.vector16()?;
    // "MUST NOT contain more than one name of the same name_type", and no other type was ever defined.
    if kind != NAME_TYPE_HOST || !list.is_empty() {
        return Err(HelloError::Malformed("server name list"));
    }
    Hostname::from_bytes(name.0).map_err(HelloError::BadName)
}

fn protocols(mut input: Input<'_>) -> Result<Vec<Box<[u8]>>, HelloError> {
    let mut list = input.vector16()?;
    if !input.is_empty() || list.is_empty() {
        return Err(HelloError::Malformed("protocol name list"));
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let name = list.vector8()?;
        if name.is_empty() {
            return Err(HelloError::Malformed("empty protocol name"));
        }
        if protocols.len() < MAX_PROTOCOLS {
            protocols.push(name.0.into());
        }
    }
    Ok(protocols)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions.
    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, body)| {
                [
                    &kind.to_be_bytes()[..],
                    &(body.len() as u16).to_be_bytes(),
                    body,
                ]
                .concat()
            })
            .collect();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        record(&[&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat())
    }

    fn record(content: &[u8]) -> Vec<u8> {
        [
            &[22, 3, 1][..],
            &(content.len() as u16).to_be_bytes(),
            content,
        ]
        .concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let n = name.len() as u16;
        [&(n + 3).to_be_bytes()[..], &[0], &n.to_be_bytes(), name].concat()
    }

    #[test]
    fn a_short_first_record_is_not_read_into_the_next() {
        let message = &hello(&[(0, &sni(b"a.example"))])[RECORD_HEADER..];
        for split in 1..=HANDSHAKE_HEADER {
            let bytes = [record(&message[..split]), record(&message[split..])].concat();
            let name = Reader::default()
                .advance(&bytes)
                .unwrap()
                .unwrap()
                .sni
                .unwrap();
            assert_eq!(name.as_str(), "a.example", "split at {split}");
        }
    }

    #[test]
    fn tables() {
        let good = sni(b"a.example");
        let two = [&24_u16.to_be_bytes()[..], &good[2..], &good[2..]].concat();
        let malformed = Err(HelloError::Malformed(""));
        for (description, bytes, wanted) in [
            ("a name", hello(&[(0, &good)]), Ok(Some("a.example"))),
            ("no name", hello(&[]), Ok(None)),
            (
                "the outer name under ECH",
                hello(&[(0xfe0d, b"\0\0\0\0"), (0, &good)]),
                Ok(Some("a.example")),
            ),
            (
                "plain HTTP",
                b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                Err(HelloError::NotTls),
            ),
            ("SSLv2", vec![0x80, 0x2e, 1, 0, 2], Err(HelloError::NotTls)),
            (
                "an alert",
                vec![21, 3, 1, 0, 2, 2, 40],
                Err(HelloError::NotTls),
            ),
            ("a ServerHello", record(&[2, 0, 0, 0]), malformed),
            (
                "bytes behind the hello in its record",
                record(&[&hello(&[])[RECORD_HEADER..], &[0]].concat()),
                malformed,
            ),
            ("an empty record", vec![22, 3, 1, 0, 0], malformed),
            ("a record above 2^14", vec![22, 3, 1, 0x40, 1], malformed),
            (
                "a message above the bound",
                record(&[1, 0xff, 0, 0]),
                Err(HelloError::TooLarge),
            ),
            (
                "the same extension twice",
                hello(&[(0, &good), (0, &good)]),
                malformed,
            ),
            ("an empty list", hello(&[(0, &[0, 0])]), malformed),
            ("two names", hello(&[(0, &two)]), malformed),
            (
                "another name type",
                hello(&[(0, &[0, 4, 1, 0, 1, 97])]),
                malformed,
            ),
            (
                "bytes behind the list",
                hello(&[(0, &[&good[..], &[0]].concat())]),
                malformed,
            ),
            (
                "an address",
                hello(&[(0, &sni(b"192.0.2.1"))]),
                Err(HelloError::BadName(HostnameError::Address)),
            ),
            (
                "a NUL",
                hello(&[(0, &sni(b"a\0b"))]),
                Err(HelloError::BadName(HostnameError::Character('\0'))),
            ),
            (
                "an empty protocol name",
                hello(&[(16, &[0, 1, 0])]),
                malformed,
            ),
        ] {
            let got = Reader::default().advance(&bytes);
            let got = got.map(|h| h.expect(description).sni);
            match wanted {
                Err(HelloError::Malformed(_)) => {
                    assert!(
                        matches!(got, Err(HelloError::Malformed(_))),
                        "{description}: {got:?}"
                    );
                }
                Err(e) => assert_eq!(got, Err(e), "{description}"),
                Ok(name) => {
                    let got = got.unwrap_or_else(|e| panic!("{description}: {e}"));
                    assert_eq!(got.as_ref().map(Hostname::as_str), name, "{description}");
                }
            }
        }
    }

    #[test]
    fn protocol_names_beyond_the_bound_are_checked_but_not_kept() {
        let list = |names: &[u8]| [&(names.len() as u16).to_be_bytes()[..], names].concat();
        let many = b"\x01a".repeat(1000);
        let got = Reader::default()
            .advance(&hello(&[(16, &list(&many))]))
            .unwrap()
            .unwrap();
        assert_eq!(got.alpn.len(), MAX_PROTOCOLS);
        let cut = [&many[..], b"\x02a"].concat();
        assert!(
            Reader::default()
                .advance(&hello(&[(16, &list(&cut))]))
                .is_err()
        );
    }

    #[test]
    fn every_prefix_wants_more_and_the_rest_is_left_alone() {
        let whole = hello(&[(0, &sni(b"a.example")), (16, b"\0\x0c\x02h2\x08http/1.1")]);
        let mut reader = Reader::default();
        for n in 0..whole.len() {
            assert_eq!(reader.advance(&whole[..n]), Ok(None), "{n} bytes");
        }
        let mut more = whole.clone();
        more.extend(b"early data");
        let hello = reader.advance(&more).unwrap().unwrap();
        assert_eq!(
            hello.alpn,
            [Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]
        );
    }

    #[test]
    fn a_message_in_many_records_is_bounded() {
        let whole = hello(&[(0, &sni(b"a.example"))]);
        let split: Vec<u8> = whole[5..].chunks(3).flat_map(record).collect();
        let hello = Reader::default().advance(&split).unwrap().unwrap();
        assert_eq!(hello.sni.unwrap().as_str(), "a.example");
        // One byte a record: the headers count towards the bound.
        let huge: Vec<u8> = [&[1, 0, 0x20, 0][..], &[0; 0x2000]]
            .concat()
            .chunks(1)
            .flat_map(record)
            .collect();
        assert_eq!(Reader::default().advance(&huge), Err(HelloError::TooLarge));
    }
}
