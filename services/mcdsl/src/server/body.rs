//! Bodies of requests, bounded in bytes and in time before anything is made of them: gRPC's and REST's alike.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tower_http::timeout::TimeoutError;

/// For the whole of a body but a stream's: what comes in drops would hold a place for as long as it likes.
const TOTAL: Duration = Duration::from_secs(120);
/// What gRPC puts before a message: a flag, and the length.
const PREFIX: usize = 5;

/// What a body is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Bytes.
    Plain,
    /// One message of gRPC.
    Message,
    /// Messages of gRPC, for as long as the client likes.
    Messages,
}

/// At most `max` bytes within [`TOTAL`]; of [`Kind::Messages`] each that long. What is beyond is an error that a [`Status`] tells, said as
/// soon as it is announced.
pub(super) fn bounded(body: Body, kind: Kind, max: usize) -> Body {
    let left = match kind {
        Kind::Plain => max,
        Kind::Message => max + PREFIX,
        Kind::Messages => usize::MAX,
    };
    Body::new(Bounded {
        inner: body,
        kind,
        left,
        max,
        prefix: Prefix::default(),
        deadline: None,
    })
}

/// Where in messages of gRPC a body is.
#[derive(Default)]
struct Prefix {
    bytes: [u8; PREFIX],
    have: usize,
    /// Of the message after it.
    left: usize,
}

impl Prefix {
    /// Whether a message begins in these bytes that is longer than `max`.
    fn too_long(&mut self, mut bytes: &[u8], max: usize) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            let taken = (PREFIX - self.have).min(bytes.len());
            self.bytes[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            (self.have, bytes) = (self.have + taken, &bytes[taken..]);
            if self.have == PREFIX {
                let [_, length @ ..] = self.bytes;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > max {
                    return true;
                }
                (self.have, self.left) = (0, length);
            }
        }
        false
    }
}

/// What a bounded body's error says; others say nothing.
pub(crate) fn status<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Status> {
    cause(error)
}

fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        next = error.source();
    }
    None
}

struct Bounded {
    inner: Body,
    kind: Kind,
    left: usize,
    max: usize,
    prefix: Prefix,
    /// Set once the body keeps somebody waiting.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn too_large(&self) -> axum::BoxError {
        let text = format!("the request is larger than {} bytes", self.max);
        Status::resource_exhausted(text).into()
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        // Its head may say that it is too large: then nothing is read.
        if self.inner.size_hint().lower() > self.left as u64 {
            return Poll::Ready(Some(Err(self.too_large())));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.kind == Kind::Messages {
                return Poll::Pending;
            }
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(TOTAL)));
            ready!(deadline.as_mut().poll(cx));
            let text = format!("the request did not come within {} s", TOTAL.as_secs());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text).into())));
        };
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| -> axum::BoxError {
            match cause::<TimeoutError>(&error) {
                Some(_) => Status::deadline_exceeded("the request stopped coming").into(),
                None => error.into(),
            }
        })?;
        let Some(data) = frame.data_ref() else {
            return Poll::Ready(Some(Ok(frame)));
        };
        let this = &mut *self;
        let too_long = this.kind != Kind::Plain && this.prefix.too_long(data, this.max);
        let left = this.left.checked_sub(data.len());
        let (false, Some(left)) = (too_long, left) else {
            return Poll::Ready(Some(Err(self.too_large())));
        };
        if self.kind != Kind::Messages {
            self.left = left;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::io::ReaderStream;
    use tonic::Code;

    #[tokio::test]
    async fn bytes_are_bounded() {
        for (description, size, fits) in [
            ("nothing", 0, true),
            ("the bound", 10, true),
            ("one more", 11, false),
        ] {
            let bytes = vec![b'a'; size];
            for body in [
                Body::from(bytes.clone()),
                Body::from_stream(ReaderStream::with_capacity(
                    std::io::Cursor::new(bytes.clone()),
                    4,
                )),
            ] {
                let got = axum::body::to_bytes(bounded(body, Kind::Plain, 10), usize::MAX).await;
                match got {
                    Ok(got) => assert!(fits && got == bytes, "{description}"),
                    Err(error) => {
                        let code = status(&error).map(Status::code);
                        assert!(!fits, "{description}");
                        assert_eq!(code, Some(Code::ResourceExhausted), "{description}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_is_bounded_by_its_prefix() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![b'a'; length.into()]].concat();
        let whole = [message(0), message(10), message(3), message(9)].concat();
        for (description, tail, wanted) in [
            ("all short", &[][..], false),
            ("a long one", &[0, 0, 0, 0, 11], true),
            ("a very long one", &[1, 255, 255, 255, 255], true),
            ("the prefix of one", &[0, 255, 255], false),
        ] {
            let bytes = [&whole[..], tail].concat();
            for size in 1..bytes.len() {
                let mut prefix = Prefix::default();
                let got = bytes.chunks(size).any(|part| prefix.too_long(part, 10));
                assert_eq!(got, wanted, "{description} in parts of {size}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_bounded() {
        let (mut to, from) = tokio::io::duplex(64);
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            while to.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let body = Body::from_stream(ReaderStream::new(from));
        let body = bounded(body, Kind::Plain, 1 << 20);
        let error = axum::body::to_bytes(body, usize::MAX).await;
        let code = status(&error.unwrap_err()).map(Status::code);
        assert_eq!(code, Some(Code::DeadlineExceeded));
        writer.await.unwrap();
    }
}
