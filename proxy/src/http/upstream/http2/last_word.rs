//! A backend's connection whose backend is heard to its end, even if it takes nothing any more.
//!
//! A server that speaks another protocol answers to the first bytes and closes; the bytes that it did not read reset the connection then, and what it said
//! waits here to be read. h2 writes before it reads, and would tell of the reset alone.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection. What is written after a reset goes nowhere; who reads is told of it after the last byte.
pub(super) struct LastWord<T> {
    io: T,
    reset: Option<ErrorKind>,
}

impl<T> LastWord<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, reset: None }
    }

    /// What came of a write, and as `instead` what it is if nobody takes it any more.
    fn written<R>(&mut self, written: io::Result<R>, instead: R) -> io::Result<R> {
        match written {
            Err(error) => match error.kind() {
                kind @ (ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.reset = Some(kind);
                    Ok(instead)
                }
                _ => Err(error),
            },
            written => written,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LastWord<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(match self.reset {
            Some(kind) if buf.filled().len() == before && buf.remaining() > 0 => Err(kind.into()),
            _ => Ok(()),
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LastWord<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.written(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.written(written, bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(self.written(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(self.written(ended, ()))
    }
}
