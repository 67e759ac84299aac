//! A connection to a backend that speaks HTTP/1.1.
//!
//! Whoever has the request drives it: what is read and written is so by that task, without a channel or another task between them.
//! Rejected: hyper's client, whose connection is a task of its own (a message and a wake-up each way per request; see `bench edge`).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use hyper::{
    HeaderMap, Method, Response,
    body::{Body, Frame},
    header::{self, HeaderName},
    http::request::Parts,
};
use tokio::net::TcpStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::http::{
    body::RequestBody,
    response::{Asked, Malformed, Piece, Reader},
};

/// What is read at once at first, bytes; doubled up to [`MAX_READ`] while a read fills it.
const MIN_READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It ended where more was to come.
    #[error("the backend closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the backend's response is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The client's; its exchange knows why.
    #[error("the request's body was broken off")]
    Request,
}

/// What is being written: a head or a chunk's size, a piece of a body, what ends a chunk.
#[derive(Debug, Default)]
struct Output {
    lines: BytesMut,
    payload: Bytes,
    tail: &'static [u8],
}

impl Output {
    fn poll_flush(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let lines_and_payload = (&mut self.lines).chain(&mut self.payload);
            let mut all = lines_and_payload.chain(&mut self.tail);
            if !all.has_remaining() {
                return Poll::Ready(Ok(()));
            }
            if ready!(poll_write_buf(Pin::new(stream), cx, &mut all))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn has_payload(&self) -> bool {
        !self.payload.is_empty() || !self.tail.is_empty()
    }
}

/// A request's body on its way.
struct Upload {
    body: RequestBody,
    chunked: bool,
}

/// The connection, and the exchange that it carries.
pub(crate) struct Http1 {
    stream: TcpStream,
    input: BytesMut,
    output: Output,
    upload: Option<Upload>,
    response: Reader,
    read_size: usize,
    /// Something went wrong that its next response could suffer from.
    broken: bool,
}

impl Http1 {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: Output::default(),
            upload: None,
            response: Reader::default(),
            read_size: MIN_READ,
            broken: false,
        }
    }

    /// Sends a request and returns the head of the response; [`Self::poll_frame`] has its body, and sends the rest of the request's if
    /// the backend answered early.
    pub(in crate::http) async fn send(
        &mut self,
        request: &Parts,
        host: &[u8],
        body: RequestBody,
    ) -> Result<Response<()>, Error> {
        let asked = Asked {
            head: request.method == Method::HEAD,
        };
        self.response = Reader::new(asked);
        self.upload = self.head(request, host, body);
        let mut written = false;
        poll_fn(|cx| {
            if !written {
                match self.poll_upload(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => written = true,
                    Poll::Ready(Err(Error::Request)) => return Poll::Ready(Err(Error::Request)),
                    // It may have said why before it stopped reading.
                    Poll::Ready(Err(_)) => written = true,
                }
            }
            loop {
                if let Some(response) = self.response.head(&mut self.input)? {
                    return Poll::Ready(Ok(response));
                }
                if ready!(self.poll_read(cx))? == 0 {
                    return Poll::Ready(Err(Error::Closed));
                }
            }
        })
        .await
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(
        &mut self,
        request: &Parts,
        host: &[u8],
    ) -> Result<Response<()>, Error> {
        self.send(request, host, RequestBody::empty()).await
    }

    /// The next frame of the response's body.
    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.uploads()
            && let Poll::Ready(Err(Error::Request)) = self.poll_upload(cx)
        {
            return Poll::Ready(Some(Err(Error::Request)));
        }
        loop {
            match self.response.body(&mut self.input) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(map))) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(map))));
                }
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.response.closed() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(Error::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// The response is whole.
    pub(in crate::http) fn ended(&self) -> bool {
        self.response.ended()
    }

    /// Bytes of the response's body that are to come, where that is known.
    pub(in crate::http) fn left(&self) -> Option<u64> {
        self.response.left()
    }

    /// A part of the request is still to be written.
    pub(super) fn uploads(&self) -> bool {
        self.upload.is_some() || self.output.lines.has_remaining() || self.output.has_payload()
    }

    /// Writes the rest of the request.
    pub(super) async fn finish_upload(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_upload(cx)).await
    }

    /// After a response: whether another request may follow.
    pub(super) fn reusable(&self) -> bool {
        self.ended()
            && !self.response.closes()
            && !self.broken
            && !self.uploads()
            && self.input.is_empty()
    }

    /// Between requests: the backend has neither closed it nor said anything. Costs no call to the kernel while nothing happens.
    pub(super) fn idle(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.stream.poll_read_ready(&mut cx).is_pending() {
            return true;
        }
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// After 101: the stream, and what was read of it beyond the head.
    pub(in crate::http) fn into_stream(self) -> (Vec<u8>, TcpStream) {
        (self.input.into(), self.stream)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let n = ready!(poll_read_buf(
            Pin::new(&mut self.stream),
            cx,
            &mut self.input
        ))?;
        if n == room {
            self.read_size = (2 * self.read_size).min(MAX_READ);
        }
        Poll::Ready(Ok(n))
    }

    /// Writes what there is of the request. `Ready(Ok)`: all of it.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            // The head and what there is of the body leave together.
            let waits = match &mut self.upload {
                Some(upload) if !self.output.has_payload() => {
                    match Pin::new(&mut upload.body).poll_frame(cx) {
                        Poll::Pending => true,
                        Poll::Ready(Some(Err(_))) => {
                            self.abandon();
                            return Poll::Ready(Err(Error::Request));
                        }
                        Poll::Ready(next) => {
                            let frame = next.and_then(Result::ok);
                            let last = |frame: &Frame<Bytes>| frame.is_trailers();
                            let ended =
                                frame.as_ref().is_none_or(last) || upload.body.is_end_stream();
                            self.output.put(frame, ended, upload.chunked);
                            if ended {
                                self.upload = None;
                            }
                            false
                        }
                    }
                }
                _ => false,
            };
            if let Err(error) = ready!(self.output.poll_flush(&mut self.stream, cx)) {
                self.abandon();
                return Poll::Ready(Err(error.into()));
            }
            if waits {
                return Poll::Pending;
            }
            if self.upload.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The request will never be whole.
    fn abandon(&mut self) {
        self.broken = true;
        self.upload = None;
        self.output = Output::default();
    }

    /// Writes the head into the output. Returns what is to be sent of the body.
    fn head(&mut self, request: &Parts, host: &[u8], body: RequestBody) -> Option<Upload> {
        let lines = &mut self.output.lines;
        lines.reserve(MIN_READ / 4);
        lines.put_slice(request.method.as_str().as_bytes());
        lines.put_u8(b' ');
        let target = request.uri.path_and_query().map_or("/", |p| p.as_str());
        lines.put_slice(target.as_bytes());
        lines.put_slice(b" HTTP/1.1\r\n");
        field(lines, &header::HOST, host);
        let length = match body.is_end_stream() {
            true => expects_length(&request.method).then_some(0),
            false => body.size_hint().exact(),
        };
        for (name, value) in &request.headers {
            // RFC 9112 §6: how the body is framed is said below, and once.
            if !matches!(
                *name,
                header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING
            ) {
                field(lines, name, value.as_bytes());
            }
        }
        let chunked = length.is_none() && !body.is_end_stream();
        if let Some(length) = length {
            put_length(lines, length);
        } else if chunked {
            field(lines, &header::TRANSFER_ENCODING, b"chunked");
        }
        lines.put_slice(b"\r\n");
        (!body.is_end_stream()).then_some(Upload { body, chunked })
    }
}

impl Output {
    /// The next frame of a request's body; `None`: there is none.
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

fn field(lines: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    lines.reserve(name.len() + value.len() + 4);
    lines.put_slice(name);
    lines.put_slice(b": ");
    lines.put_slice(value);
    lines.put_slice(b"\r\n");
}

fn put_length(lines: &mut BytesMut, length: u64) {
    let value = length.to_string();
    field(lines, &header::CONTENT_LENGTH, value.as_bytes());
}

/// A request without a body says so where one is expected (RFC 9110 §8.6).
fn expects_length(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}
