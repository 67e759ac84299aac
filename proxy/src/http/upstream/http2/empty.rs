//! A backend's connection without DATA frames that have neither data nor an end (RFC 9113 §6.1).
//!
//! Some servers flush by them. They say nothing, but h2 ends a connection at the 101st of its life, and all its streams with it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// The connection. What is written goes through as it is.
pub(super) struct WithoutEmpty<T> {
    io: T,
    /// Bytes of a payload that are to come.
    payload: usize,
    /// A header of which so many bytes have come.
    header: [u8; HEADER],
    come: usize,
    /// It goes on from here. `None`: it is not decided.
    told: Option<usize>,
}

impl<T> WithoutEmpty<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            payload: 0,
            header: [0; HEADER],
            come: 0,
            told: None,
        }
    }

    /// Takes what is to go out of `bytes`, which have come after whole frames, to their beginning. Returns how many bytes that are; a header that is there
    /// in part is kept.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            let left = bytes.len() - from;
            let n = if self.payload > 0 {
                let n = self.payload.min(left);
                self.payload -= n;
                n
            } else if left < HEADER {
                self.header[..left].copy_from_slice(&bytes[from..]);
                self.come = left;
                break;
            } else {
                let header = &bytes[from..from + HEADER];
                if is_empty(header) {
                    from += HEADER;
                    continue;
                }
                self.payload = payload(header);
                HEADER
            };
            if from != to {
                bytes.copy_within(from..from + n, to);
            }
            (from, to) = (from + n, to + n);
        }
        to
    }
}

fn payload(header: &[u8]) -> usize {
    u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize
}

/// DATA of a stream, of no length, after which more comes.
fn is_empty(header: &[u8]) -> bool {
    payload(header) == 0
        && header[3] == DATA
        && header[4] & END_STREAM == 0
        && header[5..HEADER] != [0; 4]
}

impl<T: AsyncRead + Unpin> AsyncRead for WithoutEmpty<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(told) = this.told {
                let n = (this.come - told).min(buf.remaining());
                buf.put_slice(&this.header[told..told + n]);
                this.told = Some(told + n);
                if told + n == this.come {
                    (this.told, this.come) = (None, 0);
                }
                return Poll::Ready(Ok(()));
            }
            if this.come > 0 {
                let mut rest = ReadBuf::new(&mut this.header[this.come..]);
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut rest))?;
                let n = rest.filled().len();
                this.come += n;
                if n == 0 {
                    // It ends within a header, which is h2's to tell.
                    this.told = Some(0);
                } else if this.come == HEADER {
                    if is_empty(&this.header) {
                        this.come = 0;
                    } else {
                        this.payload = payload(&this.header);
                        this.told = Some(0);
                    }
                }
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = &mut buf.filled_mut()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let n = this.take(read);
            buf.set_filled(before + n);
            // Nothing at all would be the end.
            if n > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WithoutEmpty<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(length: u8, kind: u8, flags: u8, stream: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        frame.extend(std::iter::repeat_n(stream, length.into()));
        frame
    }

    #[tokio::test]
    async fn empty_frames_are_left_out_however_they_come() {
        let empty = frame(0, DATA, 0, 3);
        let kept = [
            frame(0, 4, 1, 0),             // an acknowledged SETTINGS
            frame(5, 1, 4, 3),             // HEADERS
            frame(3, DATA, 0, 3),          // some data
            frame(0, DATA, 0, 0),          // of no stream: an error to tell
            frame(200, DATA, 0, 5),        // more data
            frame(0, DATA, END_STREAM, 3), // an end
        ];
        let mut said = Vec::new();
        for frame in &kept {
            said.extend(empty.repeat(3));
            said.extend(frame);
        }
        said.extend(empty.repeat(300));
        for (description, kept, said) in [
            ("many frames", kept.concat(), said),
            ("nothing else", Vec::new(), empty.repeat(2)),
            ("an end within a header", vec![0, 0, 0, 0], vec![0, 0, 0, 0]),
            (
                "an HTTP/1.1 server",
                b"HTTP/1.1 400".to_vec(),
                b"HTTP/1.1 400".to_vec(),
            ),
        ] {
            for (at_once, room) in [(1, 1), (1, 64), (5, 4), (9, 9), (64, 7), (10_000, 10_000)] {
                let (mut theirs, ours) = tokio::io::duplex(at_once);
                let mut reader = WithoutEmpty::new(ours);
                let write = async {
                    theirs.write_all(&said).await.unwrap();
                    drop(theirs);
                };
                let read = async {
                    let (mut all, mut buffer) = (Vec::<u8>::new(), vec![0; room]);
                    loop {
                        match reader.read(&mut buffer).await.unwrap() {
                            0 => return all,
                            n => all.extend(&buffer[..n]),
                        }
                    }
                };
                let ((), all) = tokio::join!(write, read);
                assert_eq!(all, kept, "{description}, {at_once} at once into {room}");
            }
        }
    }
}
