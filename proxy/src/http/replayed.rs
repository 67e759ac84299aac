//! The client's TCP stream under TLS: some of it was read before, and its end is such that nothing on its way to the client is lost.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// How long the client may take to close as well.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read at once of what nobody wants any more.
const SCRATCH: usize = 4096;
/// Such reads before others have their turn.
const READS: usize = 16;

/// A stream whose first bytes were read already.
pub(super) struct Replayed {
    before: Vec<u8>,
    read: usize,
    stream: TcpStream,
    lingering: Option<Pin<Box<Sleep>>>,
    tunnel: Arc<AtomicBool>,
}

impl Replayed {
    pub(super) fn new(before: Vec<u8>, stream: TcpStream) -> Self {
        Self {
            before,
            read: 0,
            stream,
            lingering: None,
            tunnel: Arc::default(),
        }
    }

    /// To be set once it is a tunnel: then the client may go on after our side has ended, and all it says is wanted.
    pub(super) fn tunnel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.tunnel)
    }

    /// Reads until the client's end. A socket that is closed with something unread, or gets more, is reset, and what it has not
    /// sent is gone: HTTP/2 clients return windows for what they have read of the last response.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = (self.lingering).get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; SCRATCH];
        for _ in 0..READS {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.before.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let rest = &this.before[this.read..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        this.read += n;
        if this.read == this.before.len() {
            this.before = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// RFC 9112 §9.6: the half that writes first, the rest once the client has closed too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.tunnel.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        self.linger(cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS writes a record as a list of one: send(2) takes it with less ado than writev(2).
        if let [one] = bufs {
            return Pin::new(&mut self.stream).poll_write(cx, one);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
