//! Streams that anybody may have, for as long as he likes: of one source there are only so many.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use tonic::Status;

use super::{idle, places::network};

/// Of one source: a program that watches the health of a service has one.
const MOST: usize = 16;

/// Those that there are, by source.
#[derive(Default)]
pub(super) struct PublicStreams(Mutex<HashMap<IpNet, usize>>);

/// One of them.
struct Stream {
    all: Arc<PublicStreams>,
    source: IpNet,
}

impl PublicStreams {
    /// Invariant: no more entries than connections.
    fn state(&self) -> MutexGuard<'_, HashMap<IpNet, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, source: IpAddr) -> Result<Stream, Status> {
        let source = network(source);
        let mut state = self.state();
        let held = state.entry(source).or_default();
        if *held >= MOST {
            let text = format!("more than {MOST} streams of one address; end one of them first");
            return Err(Status::resource_exhausted(text));
        }
        *held += 1;
        let all = Arc::clone(self);
        Ok(Stream { all, source })
    }

    /// Answers a request for one; it is counted until the end of its response.
    pub(super) async fn answer(
        self: &Arc<Self>,
        source: IpAddr,
        request: Request,
        next: Next,
    ) -> Response {
        let stream = match self.begin(source) {
            Ok(stream) => stream,
            Err(status) => return status.into_http(),
        };
        idle::is_public_stream(request.extensions());
        let response = next.run(request).await;
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &stream;
                frame
            }))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(held) = state.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                state.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many() {
        let all = Arc::new(PublicStreams::default());
        let begin = |source: &str| all.begin(source.parse().unwrap());
        let mut held: Vec<Stream> = (0..MOST).map(|_| begin("192.0.2.1").unwrap()).collect();
        for (description, source, fits) in [
            ("one too many", "192.0.2.1", false),
            ("mapped", "::ffff:192.0.2.1", false),
            ("a neighbour", "192.0.2.2", true),
        ] {
            let got = begin(source).map_err(|status| status.code());
            let wanted = if fits {
                Ok(())
            } else {
                Err(tonic::Code::ResourceExhausted)
            };
            assert_eq!(got.map(drop), wanted, "{description}");
        }
        held.pop();
        held.push(begin("192.0.2.1").unwrap());
        drop(held);
        assert!(all.state().is_empty());
    }
}
