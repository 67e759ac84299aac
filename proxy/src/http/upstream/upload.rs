//! A request as HTTP/1.1 writes it: its head, and its body as that comes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use hyper::{
    HeaderMap, Method,
    body::{Body, Frame},
    header::{self, HeaderName},
    http::request::Parts,
};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

use crate::http::body::RequestBody;

/// Room for most heads.
const HEAD: usize = 2048;

/// Why a request is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the backend takes no more of it: {0}")]
    Io(#[from] io::Error),
    /// The client's; its exchange knows why.
    #[error("its body was broken off")]
    Request,
}

/// Writes some of `all`: what is in one piece, as most requests are, by send(2), which costs less than writev(2).
fn poll_send(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    all: &mut impl Buf,
) -> Poll<io::Result<usize>> {
    if all.chunk().len() < all.remaining() {
        return poll_write_buf(stream, cx, all);
    }
    let n = ready!(stream.poll_write(cx, all.chunk()))?;
    all.advance(n);
    Poll::Ready(Ok(n))
}

/// A body that is not all read.
struct Source {
    body: RequestBody,
    chunked: bool,
}

/// The request on its way. Empty between requests.
#[derive(Default)]
pub(super) struct Upload {
    /// A head, or a chunk's size; trailers.
    lines: BytesMut,
    payload: Bytes,
    /// What ends a chunk.
    tail: &'static [u8],
    source: Option<Source>,
    written: u64,
}

impl Upload {
    /// A part of the request is still to be written.
    pub(super) fn is_pending(&self) -> bool {
        self.source.is_some() || !self.lines.is_empty() || self.has_payload()
    }

    /// All that the client has sent so far is written.
    pub(super) fn waits_for_client(&self) -> bool {
        self.source.is_some() && self.lines.is_empty() && !self.has_payload()
    }

    /// Bytes written so far, of all requests.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes what there is of the request. `Ready(Ok)`: all of it.
    pub(super) fn poll(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            // The head and what there is of the body leave together.
            let waits = !self.has_payload() && self.poll_source(cx)?.is_pending();
            ready!(self.poll_flush(stream, cx))?;
            if waits {
                return Poll::Pending;
            }
            if self.source.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The next of the body, if there is a body.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let Some(Source { body, chunked }) = &mut self.source else {
            return Poll::Ready(Ok(()));
        };
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Err(_)) => return Poll::Ready(Err(UploadError::Request)),
            Some(Ok(frame)) => Some(frame),
            None => None,
        };
        let ended = frame.as_ref().is_none_or(Frame::is_trailers) || body.is_end_stream();
        let chunked = *chunked;
        if ended {
            self.source = None;
        }
        self.put(frame, ended, chunked);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let lines_and_payload = (&mut self.lines).chain(&mut self.payload);
            let mut all = lines_and_payload.chain(&mut self.tail);
            if !all.has_remaining() {
                return Poll::Ready(Ok(()));
            }
            match ready!(poll_send(Pin::new(&mut *stream), cx, &mut all))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n as u64,
            }
        }
    }

    fn has_payload(&self) -> bool {
        !self.payload.is_empty() || !self.tail.is_empty()
    }

    /// Takes a request up; `told` are the lines of Host and of what else is told with it.
    pub(super) fn begin(&mut self, request: &Parts, told: &[u8], body: RequestBody) {
        let lines = &mut self.lines;
        lines.reserve(HEAD);
        lines.put_slice(request.method.as_str().as_bytes());
        lines.put_u8(b' ');
        let target = request.uri.path_and_query().map_or("/", |p| p.as_str());
        if !target.starts_with(['/', '*']) {
            // `https://a.example?x` (RFC 9112 §3.2.1).
            lines.put_u8(b'/');
        }
        lines.put_slice(target.as_bytes());
        lines.put_slice(b" HTTP/1.1\r\n");
        lines.put_slice(told);
        let empty = body.is_end_stream();
        let length = match empty {
            true => expects_length(&request.method).then_some(0),
            false => body.size_hint().exact(),
        };
        for (name, value) in &request.headers {
            match *name {
                // RFC 9112 §6: how the body is framed is said below, and once.
                header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING => {}
                // RFC 9110 §10.1.4: it concerns this connection.
                header::TE if !request.headers.contains_key(header::CONNECTION) => {
                    field(lines, name, value.as_bytes());
                    field(lines, &header::CONNECTION, b"te");
                }
                _ => field(lines, name, value.as_bytes()),
            }
        }
        let chunked = length.is_none() && !empty;
        if let Some(length) = length {
            field(
                lines,
                &header::CONTENT_LENGTH,
                length.to_string().as_bytes(),
            );
        } else if chunked {
            field(lines, &header::TRANSFER_ENCODING, b"chunked");
        }
        lines.put_slice(b"\r\n");
        self.source = (!empty).then_some(Source { body, chunked });
    }

    /// The next frame of the body; `None`: there is none.
    fn put(&mut self, frame: Option<Frame<Bytes>>, ended: bool, chunked: bool) {
        let mut trailers = HeaderMap::new();
        match frame.map(Frame::into_data) {
            Some(Ok(data)) if !data.is_empty() => {
                if chunked {
                    let size = format!("{:x}\r\n", data.len());
                    self.lines.put_slice(size.as_bytes());
                    self.tail = if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                }
                self.payload = data;
                return;
            }
            Some(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            _ => {}
        }
        if ended && chunked {
            self.lines.put_slice(b"0\r\n");
            for (name, value) in &trailers {
                field(&mut self.lines, name, value.as_bytes());
            }
            self.lines.put_slice(b"\r\n");
        }
    }
}

/// A field's line.
pub(in crate::http) fn field(lines: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    lines.reserve(name.len() + value.len() + 4);
    lines.put_slice(name);
    lines.put_slice(b": ");
    lines.put_slice(value);
    lines.put_slice(b"\r\n");
}

/// A request without a body says so where one is expected (RFC 9110 §8.6).
pub(super) fn expects_length(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn a_head_is_one_of_http_1_1() {
        for (description, request, wanted) in [
            (
                "origin form",
                Request::get("https://other.example/a?b").header("x-a", "1"),
                "GET /a?b HTTP/1.1\r\nhost: a.example\r\nx-a: 1\r\n\r\n",
            ),
            (
                "a target without a path",
                Request::get("https://a.example?b"),
                "GET /?b HTTP/1.1\r\nhost: a.example\r\n\r\n",
            ),
            (
                "of the server",
                Request::options("*"),
                "OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n",
            ),
            (
                "what frames another hop's body, and another host",
                Request::post("/")
                    .header("host", "b.example")
                    .header("content-length", "7")
                    .header("transfer-encoding", "chunked"),
                "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                "trailers are of this connection",
                Request::get("/").header("te", "trailers"),
                "GET / HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\nconnection: te\r\n\r\n",
            ),
        ] {
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let mut upload = Upload::default();
            upload.begin(&parts, b"host: a.example\r\n", RequestBody::empty());
            let got = String::from_utf8_lossy(&upload.lines);
            assert_eq!(got, wanted, "{description}");
            assert!(upload.source.is_none(), "{description}");
        }
    }

    #[test]
    fn chunks_end_once() {
        let data = |text: &'static str| Some(Frame::data(Bytes::from_static(text.as_bytes())));
        let trailers =
            HeaderMap::from_iter([(header::ETAG, header::HeaderValue::from_static("1"))]);
        for (description, frame, ended, wanted) in [
            ("one of several", data("abc"), false, "3\r\nabc\r\n"),
            ("the last", data("abc"), true, "3\r\nabc\r\n0\r\n\r\n"),
            ("an empty one", data(""), false, ""),
            ("an empty last one", data(""), true, "0\r\n\r\n"),
            ("the end alone", None, true, "0\r\n\r\n"),
            (
                "trailers",
                Some(Frame::trailers(trailers)),
                true,
                "0\r\netag: 1\r\n\r\n",
            ),
        ] {
            let mut upload = Upload::default();
            upload.put(frame, ended, true);
            let got = [&upload.lines[..], &upload.payload, upload.tail].concat();
            assert_eq!(got, wanted.as_bytes(), "{description}");
        }
    }
}
