//! HTTP/2 by hand (RFC 9113): what no library would send.

use std::sync::Arc;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::connect;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// INITIAL_WINDOW_SIZE.
pub(super) const WINDOW: u16 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string literal of HPACK, without Huffman.
fn literal(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend(text);
    out
}

/// Fields as literals; the first byte says whether they go into the table.
pub(super) fn block(fields: &[(&str, &str)], kind: u8) -> Vec<u8> {
    (fields.iter())
        .flat_map(|(name, value)| {
            [
                vec![kind],
                literal(name.as_bytes()),
                literal(value.as_bytes()),
            ]
            .concat()
        })
        .collect()
}

pub(super) const NOT_INDEXED: u8 = 0;
pub(super) const INDEXED: u8 = 0x40;

/// A GET of a path.
pub(super) fn get(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", super::NAME),
        (":path", path),
    ];
    block(&fields, NOT_INDEXED)
}

/// What became of a request, or of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    /// No more bytes.
    End,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let word = |at: usize| {
            let bytes = self.payload.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        match self.kind {
            HEADERS => Some(Outcome::Status(status(&self.payload))),
            RST_STREAM => word(0).map(Outcome::Reset),
            GOAWAY => word(4).map(Outcome::GoAway),
            _ => None,
        }
    }
}

/// The first field, as a server with an empty table writes it: of the static table, or a literal of three digits.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8e, ..] => STATIC[usize::from(index - 0x88)],
        [0x48, 0x03, a, b, c, ..] => [a, b, c]
            .iter()
            .fold(0, |n, d| n * 10 + u16::from(**d - b'0')),
        [0x48, length, rest @ ..] if length & 0x80 != 0 => digits(rest),
        _ => 0,
    }
}

/// Three digits in HPACK's Huffman code: 0 to 2 are five bits, the others six.
fn digits(bytes: &[u8]) -> u16 {
    let bits = bytes
        .iter()
        .take(3)
        .fold(0_u32, |n, b| n << 8 | u32::from(*b));
    let mut left = 8 * bytes.len().min(3);
    let mut number = 0;
    for _ in 0..3 {
        let top = |n: usize| (bits >> (left - n)) & ((1 << n) - 1);
        let (digit, used) = match top(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (top(6) - 0b01_1001 + 3, 6),
        };
        number = number * 10 + digit as u16;
        left -= used;
    }
    number
}

pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// With the preface and one setting sent.
    pub(super) async fn open(
        config: Arc<rustls::ClientConfig>,
        setting: Option<(u16, u32)>,
    ) -> Result<Self> {
        let mut stream = connect(config).await?;
        let payload = setting.map_or_else(Vec::new, |(id, value)| {
            [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
        });
        let settings = frame(SETTINGS, 0, 0, &payload);
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat();
        stream.write_all(&preface).await?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next frame; `None` at the end, a reset included.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.buffer.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = Frame {
                        kind: head[3],
                        flags: head[4],
                        payload: payload.to_vec(),
                    };
                    self.buffer.drain(..9 + length);
                    return Some(frame);
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    /// What the next frame that tells something tells.
    pub(super) async fn outcome(&mut self) -> Outcome {
        while let Some(frame) = self.next().await {
            if let Some(outcome) = frame.outcome() {
                return outcome;
            }
        }
        Outcome::End
    }

    /// Until the answer to a PING: all that was sent before has been read.
    pub(super) async fn ping(&mut self) -> Option<Outcome> {
        if self.send(&frame(PING, 0, 0, b"in order")).await.is_err() {
            return Some(self.outcome().await);
        }
        loop {
            match self.next().await {
                None => return Some(Outcome::End),
                Some(f) if f.kind == PING && f.flags == ACK && f.payload == b"in order" => {
                    return None;
                }
                Some(f) if f.kind == GOAWAY => return f.outcome(),
                Some(_) => {}
            }
        }
    }
}
