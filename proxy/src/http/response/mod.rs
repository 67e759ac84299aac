//! What a backend's HTTP/1.1 bytes say (RFC 9112): the head of a response and where its body ends. No I/O.
//!
//! httparse reads the lines. What it leaves to its user is how the body is framed, and there nothing is repaired: a backend that says it
//! in two ways is cut off, because what it says next may be another client's.

mod head;

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};
use hyper::{HeaderMap, Response, StatusCode, Version, header};

use self::head::{closes, map, other_protocol, parse};

/// Bytes of a head, and of a trailer section.
pub const MAX_HEAD: usize = 64 * 1024;
/// Fields of a head, and of a trailer section.
pub const MAX_FIELDS: usize = 256;
/// Bytes of a line that tells a chunk's size, its extensions included.
const MAX_SIZE_LINE: usize = 1024;
/// Interim responses (RFC 9110 §15.2) before the one that counts.
const MAX_INTERIM: u8 = 16;

/// Why a response is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the lines of a head.
    #[error("its head is not one of HTTP/1.1")]
    Head,
    /// More than [`MAX_HEAD`] or [`MAX_FIELDS`].
    #[error("its head is too large: more than {MAX_HEAD} bytes or {MAX_FIELDS} fields")]
    TooLarge,
    /// More than one length, or one that is no number.
    #[error("its Content-Length is not one number")]
    Length,
    /// None that we know, or one beside a Content-Length.
    #[error("its Transfer-Encoding is not `chunked` alone")]
    Encoding,
    /// Not a size, or bytes that are not the chunk's.
    #[error("its chunks are not well-formed")]
    Chunk,
    /// Interim responses without end.
    #[error("it sends one interim response after the other")]
    Interim,
    /// It begins as an HTTP/2 server does (RFC 9113 §3.4).
    #[error(
        "it seems to speak HTTP/2, and the route's protocol is HTTP/1.1: set it to h2c (`--protocol h2c`, in the file `l7.protocol`)"
    )]
    Http2,
    /// It answers with an alert of TLS (RFC 8446 §6).
    #[error(
        "it seems to speak TLS, and the route's protocol is HTTP/1.1 without: set it to h2, with backend_ca (`--protocol h2 --backend-ca …`, in the file `l7.protocol`)"
    )]
    Tls,
}

/// What the request was, as far as it decides how the response is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// HEAD: no body, whatever the head says.
    pub head: bool,
}

/// The reader of one response.
#[derive(Debug, Default)]
pub struct Reader {
    asked: Asked,
    state: State,
    interim: u8,
    /// Of the input, how much holds no end of a section.
    searched: usize,
    closes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    End,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it.
    Data(Bytes),
    /// What follows it.
    Trailers(HeaderMap),
    /// It is whole.
    End,
}

/// What came of looking at the input once.
enum Step {
    Piece(Piece),
    /// The next of its parts is to be looked at.
    Next,
    /// More of it is needed.
    More,
}

impl Step {
    fn data(data: Option<Bytes>) -> Self {
        data.map_or(Self::More, |data| Self::Piece(Piece::Data(data)))
    }
}

impl Reader {
    /// For the response to such a request.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// The head, once it is whole; it is taken out of `input`, and interim responses before it. `None`: more is needed.
    ///
    /// # Errors
    /// If it is not what RFC 9112 wants; then nothing more of the connection may be used.
    pub fn head(&mut self, input: &mut BytesMut) -> Result<Option<Response<()>>, Malformed> {
        while let Some(section) = self.section(input, false)? {
            let parsed = parse(&section);
            let mut response = parsed.map_err(|e| other_protocol(&section).unwrap_or(e))?;
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Err(Malformed::Interim);
                }
                continue;
            }
            self.state = self.framing(&response)?;
            // Of some backends a body follows where there is none: nothing after it may be taken for the next response.
            let announced = |name| (response.headers().get(name)).is_some_and(|v| v != "0");
            let unchanged = status == StatusCode::NOT_MODIFIED
                && (announced(header::CONTENT_LENGTH) || announced(header::TRANSFER_ENCODING));
            let bodiless = self.asked.head || status == StatusCode::NO_CONTENT || unchanged;
            self.closes = closes(&response) || self.state == State::UntilClose || bodiless;
            if status == StatusCode::NO_CONTENT {
                // RFC 9110 §8.6.
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            return Ok(Some(response));
        }
        other_protocol(input).map_or(Ok(None), Err)
    }

    /// The next piece of the body, taken out of `input`; `None`: more is needed.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn body(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.step(input)? {
                Step::Piece(piece) => return Ok(Some(piece)),
                Step::More => return Ok(None),
                Step::Next => {}
            }
        }
    }

    /// One piece of `first`, which [`Self::body`] gave, and the chunks after it that are whole in `input`, up to `most` bytes.
    #[must_use]
    pub fn join(&mut self, first: Bytes, input: &mut BytesMut, most: usize) -> Bytes {
        let mut joined = BytesMut::new();
        loop {
            match self.state {
                State::ChunkEnd | State::ChunkSize => {}
                State::Chunk(left)
                    if fits(
                        left,
                        most.saturating_sub(first.len().max(joined.len())),
                        input,
                    ) => {}
                _ => break,
            }
            match self.step(input) {
                Ok(Step::Next) => {}
                Ok(Step::Piece(Piece::Data(data))) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&data);
                }
                // What is wrong is still so when it is asked for.
                Ok(_) | Err(_) => break,
            }
        }
        match joined.is_empty() {
            true => first,
            false => joined.freeze(),
        }
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        match self.state {
            State::Head => return Ok(Step::More),
            State::End => return Ok(Step::Piece(Piece::End)),
            State::UntilClose => {
                let data = (!input.is_empty()).then(|| input.split().freeze());
                return Ok(Step::data(data));
            }
            State::Sized(left) => {
                let (left, data) = some(left, input);
                self.state = match left {
                    0 => State::End,
                    _ => State::Sized(left),
                };
                return Ok(Step::data(data));
            }
            State::ChunkSize => {
                let line = &input[..input.len().min(MAX_SIZE_LINE)];
                if line.first().is_some_and(|b| !b.is_ascii_hexdigit()) {
                    return Err(Malformed::Chunk); // httparse takes nothing for 0
                }
                match httparse::parse_chunk_size(line) {
                    Ok(Status::Complete((n, size))) => {
                        input.advance(n);
                        self.state = match size {
                            0 => State::Trailers,
                            _ => State::Chunk(size),
                        };
                    }
                    Ok(Status::Partial) if line.len() < MAX_SIZE_LINE => return Ok(Step::More),
                    _ => return Err(Malformed::Chunk),
                }
            }
            State::Chunk(left) => {
                let (left, data) = some(left, input);
                self.state = match left {
                    0 => State::ChunkEnd,
                    _ => State::Chunk(left),
                };
                return Ok(Step::data(data));
            }
            State::ChunkEnd => {
                if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                    return Err(Malformed::Chunk);
                }
                if input.len() < 2 {
                    return Ok(Step::More);
                }
                input.advance(2);
                self.state = State::ChunkSize;
            }
            State::Trailers => {
                let Some(section) = self.section(input, true)? else {
                    return Ok(Step::More);
                };
                self.state = State::End;
                if section.len() <= 2 {
                    return Ok(Step::Piece(Piece::End));
                }
                let mut fields = [EMPTY_HEADER; MAX_FIELDS];
                let (_, fields) = match httparse::parse_headers(&section, &mut fields) {
                    Ok(Status::Complete(parsed)) => parsed,
                    Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
                    _ => return Err(Malformed::Head),
                };
                return Ok(Step::Piece(Piece::Trailers(map(&section, fields)?)));
            }
        }
        Ok(Step::Next)
    }

    /// The backend has closed its side. Whether that ends the response as it should.
    pub fn closed(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::End;
        }
        self.ended()
    }

    /// The response is whole.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.state == State::End
    }

    /// Bytes of body that are to come, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// The connection may not be used again.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Lines up to an empty one, and that.
    fn section(
        &mut self,
        input: &mut BytesMut,
        may_be_empty: bool,
    ) -> Result<Option<Bytes>, Malformed> {
        let within = &input[..input.len().min(MAX_HEAD)];
        match end_of_section(within, self.searched, may_be_empty) {
            Some(end) => {
                self.searched = 0;
                Ok(Some(input.split_to(end).freeze()))
            }
            None if within.len() == MAX_HEAD => Err(Malformed::TooLarge),
            None => {
                // The last bytes may be the beginning of the end.
                self.searched = within.len().saturating_sub(3);
                Ok(None)
            }
        }
    }

    /// RFC 9112 §6.3.
    fn framing(&self, response: &Response<()>) -> Result<State, Malformed> {
        let headers = response.headers();
        let length = length(headers)?;
        let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
        let encoding = encodings.next();
        if encoding.is_some_and(|e| {
            encodings.next().is_some()
                || !e.as_bytes().eq_ignore_ascii_case(b"chunked")
                || length.is_some()
                || response.version() == Version::HTTP_10
        }) {
            return Err(Malformed::Encoding);
        }
        let status = response.status();
        let none = self.asked.head
            || matches!(
                status,
                StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        Ok(match (none, encoding, length) {
            (true, ..) | (_, None, Some(0)) => State::End,
            (_, Some(_), _) => State::ChunkSize,
            (_, None, Some(length)) => State::Sized(length),
            (_, None, None) => State::UntilClose,
        })
    }
}

/// As much as there is of `left` bytes.
fn some(left: u64, input: &mut BytesMut) -> (u64, Option<Bytes>) {
    let n = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    let data = (n > 0).then(|| input.split_to(n).freeze());
    (left - n as u64, data)
}

/// Whether a chunk of which `left` bytes are to come is in `input`, and has no more than `room`.
fn fits(left: u64, room: usize, input: &BytesMut) -> bool {
    usize::try_from(left).is_ok_and(|left| left <= room.min(input.len()))
}

/// Where the first empty line ends. Lines before `from` hold none.
fn end_of_section(bytes: &[u8], from: usize, may_be_empty: bool) -> Option<usize> {
    let empty = |at: usize| match bytes.get(at..)? {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    };
    if may_be_empty && let Some(end) = empty(0) {
        return Some(end);
    }
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| empty(from + at + 1))
}

/// What the field of that name says, which must be said once.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let digits = first.as_bytes();
    if all.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Length);
    }
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|n| n.parse().ok());
    number.map(Some).ok_or(Malformed::Length)
}

#[cfg(test)]
mod tests;
