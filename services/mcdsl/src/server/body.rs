//! Bodies of requests, bounded in bytes and in time before anything is made of them: gRPC's and REST's alike.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tower_http::timeout::{TimeoutBody, TimeoutError};

use super::{
    bodies::Hold,
    prefix::{PREFIX, Prefix},
};

/// For the whole of a body but a stream's: what comes in drops would hold a place for as long as it likes.
const TOTAL: Duration = Duration::from_secs(120);

/// For the next bytes of one to come.
const STALLED: Duration = Duration::from_secs(30);

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
/// soon as it is announced, and each within [`TOTAL`] once it has begun. `hold`: what it takes of the memory for requests; of
/// [`Kind::Messages`] what came of the last one is kept.
pub(super) fn bounded(body: Body, kind: Kind, max: usize, hold: Option<Hold>) -> Body {
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
        hold,
        prefix: Prefix::default(),
        kept: 0,
        pieces: 0,
        deadline: None,
        over: None,
    })
}

/// What the error of a request's body says that the server refused: too large, too late, or no room for it. Others say nothing.
pub fn status<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Status> {
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

/// Around all requests: a body that stops coming is an error.
pub(super) async fn timed(request: Request, next: Next) -> Response {
    let timed = |body: Body| {
        Body::new(Timed {
            left: body.size_hint().exact(),
            inner: Box::pin(TimeoutBody::new(STALLED, body)),
        })
    };
    next.run(request.map(timed)).await
}

/// [`TimeoutBody`], which does not say how long the body is: what is too large would be asked for before it is refused.
struct Timed {
    inner: Pin<Box<TimeoutBody<Body>>>,
    /// Bytes, if the head says that.
    left: Option<u64>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let polled = ready!(self.inner.as_mut().poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = self.left.map(|left| left.saturating_sub(length));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

struct Bounded {
    inner: Body,
    kind: Kind,
    left: usize,
    max: usize,
    hold: Option<Hold>,
    prefix: Prefix,
    /// Of [`Kind::Messages`]: bytes for which room was taken, and in how many pieces they came.
    kept: usize,
    pieces: usize,
    /// Set once the body keeps somebody waiting.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The same: ends it if others need its room.
    over: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Bounded {
    fn too_large(&self) -> axum::BoxError {
        let text = format!("the request is larger than {} bytes", self.max);
        Status::resource_exhausted(text).into()
    }

    /// More is asked for, so that whole messages have been taken: frees what they took.
    fn free_taken(&mut self) {
        let unfinished = self.prefix.unfinished();
        if self.kept == unfinished {
            return;
        }
        let pieces = usize::from(unfinished > 0);
        if let Some(hold) = &self.hold {
            hold.less(self.kept - unfinished, self.pieces - pieces);
        }
        (self.kept, self.pieces) = (unfinished, pieces);
        // The time is that of the next one.
        self.deadline = None;
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
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.is_over()) {
            return Poll::Ready(Some(Err(hold.refusal().into())));
        }
        if self.kind == Kind::Messages {
            self.free_taken();
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            let this = &mut *self;
            if let Some(hold) = &this.hold {
                let over = this.over.get_or_insert_with(|| Box::pin(hold.over()));
                if over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(hold.refusal().into())));
                }
            }
            if this.kind == Kind::Messages && this.prefix.unfinished() == 0 {
                return Poll::Pending;
            }
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(TOTAL)));
            ready!(deadline.as_mut().poll(cx));
            let text = format!("the request did not come within {} s", TOTAL.as_secs());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text).into())));
        };
        let Some(frame) = frame else {
            self.hold.iter().for_each(Hold::is_whole);
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
        let frame_length = data.len();
        if let Some(hold) = &this.hold {
            hold.more(frame_length)?;
            if this.inner.is_end_stream() {
                hold.is_whole();
            }
        }
        if self.kind == Kind::Messages {
            (self.kept, self.pieces) = (self.kept + frame_length, self.pieces + 1);
        } else {
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
                let got =
                    axum::body::to_bytes(bounded(body, Kind::Plain, 10, None), usize::MAX).await;
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

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_bounded_in_time() {
        use http_body_util::BodyExt as _;
        const SHORT: &[u8] = &[0, 0, 0, 0, 2, b'a', b'b'];
        for (description, parts, every, code) in [
            ("whole ones, and rests between", &[SHORT; 9][..], 100, None),
            (
                "in halves, each with the end of another",
                &[&SHORT[..5], b"ab\0\0\0\0\x02", b"ab\0\0\0\0\x02", b"ab"],
                100,
                None,
            ),
            (
                "one that stops",
                &[SHORT, &SHORT[..6], b""],
                1000,
                Some(Code::DeadlineExceeded),
            ),
            (
                "one in drops",
                &[SHORT, &SHORT[..1], &SHORT[1..2], &SHORT[2..3], &SHORT[3..]],
                50,
                Some(Code::DeadlineExceeded),
            ),
        ] {
            let parts: Vec<Bytes> = parts
                .iter()
                .map(|part| Bytes::copy_from_slice(part))
                .collect();
            let (to, from) = tokio::sync::mpsc::channel(1);
            let sender = tokio::spawn(async move {
                for part in parts {
                    if to.send(Ok::<_, std::io::Error>(part)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(every)).await;
                }
            });
            let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(from));
            let mut body = bounded(body, Kind::Messages, 10, None);
            let mut got = None;
            while let Some(frame) = body.frame().await {
                if let Err(error) = frame {
                    got = status(&error).map(Status::code);
                    break;
                }
            }
            assert_eq!(got, code, "{description}");
            drop(body);
            sender.await.unwrap();
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
        let body = bounded(body, Kind::Plain, 1 << 20, None);
        let error = axum::body::to_bytes(body, usize::MAX).await;
        let code = status(&error.unwrap_err()).map(Status::code);
        assert_eq!(code, Some(Code::DeadlineExceeded));
        writer.await.unwrap();
    }
}
