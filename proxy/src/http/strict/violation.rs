//! Why a stream is refused.

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 9112 §3: `method SP target SP version CRLF`.
    #[error("the request line is malformed")]
    RequestLine,
    /// RFC 9112 §3.2: the form of the target is not the method's.
    #[error("the request's target is malformed")]
    Target,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the request's version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// RFC 9112 §2.2: lines end with CRLF, and neither CR nor LF stands alone.
    #[error("a line does not end with CRLF")]
    LineEnd,
    /// RFC 9112 §5.2.
    #[error("a header line is folded")]
    Folded,
    /// RFC 9112 §5.1: tokens only, and no space before the colon.
    #[error("a field's name is malformed")]
    FieldName,
    /// RFC 9110 §5.5: no control characters.
    #[error("a field's value has a control character")]
    FieldValue,
    /// RFC 9110 §8.6: digits.
    #[error("Content-Length is not a number")]
    Length,
    /// RFC 9112 §6.3: even if they are equal.
    #[error("more than one Content-Length")]
    DuplicateLength,
    /// RFC 9112 §6.1: `chunked`, once, in HTTP/1.1.
    #[error("Transfer-Encoding is not chunked")]
    Encoding,
    /// RFC 9112 §6.1: the classic.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// RFC 9112 §3.2: exactly one.
    #[error("not exactly one Host")]
    Host,
    /// RFC 9112 §7.1.
    #[error("a chunk's size is malformed")]
    ChunkSize,
    /// RFC 9112 §7.1.1.
    #[error("a chunk's extensions are malformed or too long")]
    ChunkExtension,
    /// RFC 9110 §6.5.1: not what frames or routes the message.
    #[error("a trailer field that must not be one")]
    Trailer,
    /// Longer than a bound, or more than one.
    #[error("the head is too large")]
    TooLarge,
    /// RFC 9110 §15.5.9: of its time the stream itself knows nothing.
    #[error("the head took too long")]
    TooSlow,
}

/// Where the stream ends to be HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub violation: Violation,
    /// In a head; otherwise in a body.
    pub in_head: bool,
}
