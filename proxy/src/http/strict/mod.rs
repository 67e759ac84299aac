//! What a client's HTTP/1.1 bytes must look like before hyper sees them (RFC 9112).
//!
//! hyper's parser repairs what two parsers may read differently: it takes a bare LF as a line's end, drops a Content-Length beside a
//! Transfer-Encoding, accepts equal duplicates. Requests are smuggled where a proxy and a backend disagree, so here such bytes are
//! refused, though hyper would write a clean request of them. No I/O and no buffers: one pass over heads, chunk lines and
//! trailers as they come; bodies are skipped by their length.
//! Rejected: parsing each head a second time (needs the whole head, costs an allocation); a parser of our own instead of hyper's.

mod bytes;
mod chunks;
mod fields;
mod violation;

use bytes::{NAME, TARGET, TEXT, Token, is_tchar, run};
pub use violation::{Refusal, Violation};

/// Bytes of a head, and of a trailer section. Above hyper's own bound, so that it answers 431 first.
pub const MAX_HEAD: usize = 128 * 1024;
/// Fields of a head or of a trailer section. Above hyper's own bound, likewise.
pub const MAX_FIELDS: usize = 160;
/// The longest registered method has 17.
const MAX_METHOD: usize = 32;
/// Digits of a Content-Length, and of a chunk's size: far above any body, far below an overflow.
const MAX_DIGITS: usize = 18;
const MAX_HEX: usize = 15;
/// Bytes of a chunk's extensions: hardly a client sends any, no server uses them.
const MAX_EXTENSIONS: usize = 128;

/// How far [`Validator::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All bytes are well.
    All,
    /// So many are. What follows is the next request or a tunnel: see [`Validator::resume`].
    Held(usize),
    /// So many are, and the next is not. Nothing after it may be used.
    Refused(usize, Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    StartLf,
    Method,
    Target,
    Version,
    RequestLf,
    FieldStart,
    Name,
    /// White space before a value.
    Before,
    Value,
    /// White space after a value of which each byte counts.
    After,
    ValueLf,
    EndLf,
    /// A body by its length.
    Body,
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Held,
    Opaque,
    Refused(Refusal),
}

/// The fields that decide where a message ends and where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Other,
    Length,
    Encoding,
    Host,
    Upgrade,
}

/// What a head has said so far.
#[derive(Clone, Debug, Default)]
struct Head {
    connect: bool,
    options: bool,
    minor: u8,
    host: bool,
    length: Option<u64>,
    encoding: bool,
    upgrade: bool,
}

/// The stream of one connection's requests.
#[derive(Clone, Debug)]
pub struct Validator {
    state: State,
    head: Head,
    token: Token,
    known: Known,
    /// The empty line before a request line was there.
    empty_line: bool,
    in_trailers: bool,
    /// Bytes of the head or trailers so far, or of a chunk's extensions.
    size: usize,
    fields: usize,
    /// Bytes of the body or chunk that are to come.
    left: u64,
    heads: u64,
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            state: State::Start,
            head: Head::default(),
            token: Token::default(),
            known: Known::default(),
            empty_line: false,
            in_trailers: false,
            size: 0,
            fields: 0,
            left: 0,
            heads: 0,
        }
    }
}

impl Validator {
    /// Takes the next bytes of the stream.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let taken = match self.state {
                State::Opaque => return Step::All,
                State::Held => return Step::Held(at),
                State::Refused(refusal) => return Step::Refused(at, refusal),
                State::Body | State::Data => Ok(self.skip(rest.len())),
                _ => self.line(rest),
            };
            match taken {
                Ok(n) => at += n,
                Err(violation) => {
                    let in_head = self.between() || self.in_head();
                    let refusal = Refusal { violation, in_head };
                    self.state = State::Refused(refusal);
                    return Step::Refused(at, refusal);
                }
            }
        }
        if self.state == State::Held {
            return Step::Held(at);
        }
        Step::All
    }

    /// What counts byte by byte: heads, chunk lines, trailers.
    fn line(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let (most, violation) = match self.state {
            State::Extension => (MAX_EXTENSIONS, Violation::ChunkExtension),
            _ => (MAX_HEAD, Violation::TooLarge),
        };
        // The line's end is not counted, so that the flaw is at the same byte however the stream is cut.
        let room = most.saturating_sub(self.size);
        let mut n = self.many(&rest[..rest.len().min(room)]);
        if n == 0 {
            if room == 0 && rest[0] != b'\r' {
                return Err(violation);
            }
            self.one(rest[0])?;
            n = 1;
        }
        self.size += n;
        Ok(n)
    }

    /// After [`Step::Held`]: what comes is a tunnel, or the next request.
    pub fn resume(&mut self, tunnel: bool) {
        if self.state == State::Held {
            self.state = if tunnel { State::Opaque } else { State::Start };
        }
    }

    /// A head has begun and not ended.
    #[must_use]
    pub fn in_head(&self) -> bool {
        use State::*;
        match self.state {
            Start => self.empty_line,
            StartLf | Method | Target | Version | RequestLf => true,
            FieldStart | Name | Before | Value | After | ValueLf | EndLf => !self.in_trailers,
            _ => false,
        }
    }

    /// Of the next head nothing but an empty line before it is there, at most.
    #[must_use]
    pub fn blank(&self) -> bool {
        matches!(self.state, State::Start | State::StartLf)
    }

    /// No byte of the next head is there.
    #[must_use]
    pub fn between(&self) -> bool {
        self.state == State::Start && !self.empty_line
    }

    /// Between a request to upgrade and its answer.
    #[must_use]
    pub fn held(&self) -> bool {
        self.state == State::Held
    }

    /// A tunnel.
    #[must_use]
    pub fn opaque(&self) -> bool {
        self.state == State::Opaque
    }

    /// Heads that were complete.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    fn skip(&mut self, there: usize) -> usize {
        let n = usize::try_from(self.left).map_or(there, |left| left.min(there));
        self.left -= n as u64;
        if self.left == 0 {
            if self.state == State::Data {
                self.state = State::DataCr;
            } else {
                self.message_end();
            }
        }
        n
    }

    /// Bytes of the same kind, at once.
    fn many(&mut self, rest: &[u8]) -> usize {
        match (self.state, self.known) {
            (State::Target, _) => {
                let n = run(rest, TARGET);
                self.token.extend(&rest[..n]);
                n
            }
            (State::Name, _) => {
                let n = run(rest, NAME);
                self.token.extend(&rest[..n]);
                n
            }
            (State::Value, Known::Other | Known::Host | Known::Upgrade) | (State::Extension, _) => {
                run(rest, TEXT)
            }
            _ => 0,
        }
    }

    fn one(&mut self, byte: u8) -> Result<(), Violation> {
        use State::*;
        self.state = match self.state {
            Start | StartLf | Method | Target | Version | RequestLf => self.request_line(byte)?,
            FieldStart | Name | Before | Value | After | ValueLf | EndLf => self.field(byte)?,
            _ => self.chunk(byte)?,
        };
        Ok(())
    }

    fn request_line(&mut self, byte: u8) -> Result<State, Violation> {
        use State::*;
        Ok(match (self.state, byte) {
            // RFC 9112 §2.2: one empty line is forgiven, after a body by old clients.
            (Start, b'\r') if !self.empty_line => StartLf,
            (StartLf, b'\n') => {
                self.empty_line = true;
                Start
            }
            (StartLf, _) => return Err(Violation::LineEnd),
            (Start, _) if is_tchar(byte) => {
                self.begin(byte);
                Method
            }
            (Method, b' ') => {
                self.head.connect = self.token.whole() == Some(b"CONNECT");
                self.head.options = self.token.whole() == Some(b"OPTIONS");
                self.token = Token::default();
                Target
            }
            (Method, _) if is_tchar(byte) && self.token.len < MAX_METHOD => {
                self.token.push(byte);
                Method
            }
            (Target, b' ') => {
                self.target()?;
                self.token = Token::default();
                Version
            }
            (Target, _) => return Err(Violation::Target),
            // The name is case-sensitive (RFC 9112 §2.3).
            (Version, _) if b"HTTP/1.".get(self.token.len) == Some(&byte) => {
                self.token.push(byte);
                Version
            }
            (Version, b'0' | b'1') if self.token.len == 7 => {
                self.head.minor = byte - b'0';
                self.token.push(byte);
                Version
            }
            (Version, b'\r') if self.token.len == 8 => RequestLf,
            (Version, _) => return Err(Violation::Version),
            (RequestLf, b'\n') => FieldStart,
            (RequestLf, _) => return Err(Violation::LineEnd),
            _ => return Err(Violation::RequestLine),
        })
    }

    fn begin(&mut self, byte: u8) {
        self.head = Head::default();
        self.token = Token::default();
        self.token.push(byte);
        self.in_trailers = false;
        (self.size, self.fields) = (0, 0);
    }

    /// RFC 9112 §3.2.1 to 3.2.4. What the authority may be is checked where it is used.
    fn target(&self) -> Result<(), Violation> {
        let token = &self.token;
        let fits = if self.head.connect {
            token.len > 0 && !token.starts_with(b"/")
        } else {
            token.starts_with(b"/")
                || token.starts_with(b"http://")
                || token.starts_with(b"https://")
                || (self.head.options && token.is(b"*"))
        };
        fits.then_some(()).ok_or(Violation::Target)
    }

    /// A head, or a trailer section, is complete.
    fn section_end(&mut self) -> Result<State, Violation> {
        if self.in_trailers {
            self.message_end();
            return Ok(self.state);
        }
        let head = &self.head;
        if head.minor == 1 && !head.host {
            return Err(Violation::Host);
        }
        if head.encoding && head.minor == 0 {
            return Err(Violation::Encoding);
        }
        self.heads += 1;
        self.empty_line = false;
        if head.encoding {
            return Ok(State::SizeStart);
        }
        self.left = head.length.unwrap_or(0);
        if self.left > 0 {
            return Ok(State::Body);
        }
        self.message_end();
        Ok(self.state)
    }

    fn message_end(&mut self) {
        // As hyper has it: it hands out the connection for these.
        let tunnel = self.head.connect || (self.head.upgrade && self.head.minor == 1);
        self.state = if tunnel { State::Held } else { State::Start };
        self.size = 0;
    }
}

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
