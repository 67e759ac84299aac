//! A stream that is no longer HTTP (RFC 8441).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Live, upload::poll_room};

/// Both halves of a stream.
pub(in crate::http) struct Http2Tunnel {
    reader: RecvStream,
    writer: SendStream<Bytes>,
    /// What came and was not read.
    input: Bytes,
    live: Live,
}

impl Http2Tunnel {
    pub(super) fn new(reader: RecvStream, writer: SendStream<Bytes>, live: Live) -> Self {
        Self {
            reader,
            writer,
            input: Bytes::new(),
            live,
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        false => io::Error::other(error),
    }
}

impl AsyncRead for Http2Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.input.is_empty() {
            match ready!(this.reader.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => {
                    this.live.heard();
                    this.input = data;
                }
                // As much as a FIN says.
                Some(Err(e)) if matches!(e.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let n = this.input.len().min(buf.remaining());
        buf.put_slice(&this.input[..n]);
        this.input.advance(n);
        // Fails only for what was not received.
        let _ = this.reader.flow_control().release_capacity(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(poll_room(&mut self.writer, buf.len(), cx)).map_err(broken)?;
        let data = Bytes::copy_from_slice(&buf[..room]);
        self.writer.send_data(data, false).map_err(broken)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.writer.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(broken))
    }
}
