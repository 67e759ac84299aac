//! The API, called from within the process.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{
    Router,
    http::{HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::future::RouteFuture,
};
use tower::Service;

use super::Source;

/// A service's own API, for clients that tonic generates: how its pages do what its methods do. A call goes the way that those of
/// others go, with access checks and audit, and with the token of whom it is for. See [`super::Handle::answer`].
#[derive(Clone, Default)]
pub struct Local {
    grpc: Arc<OnceLock<Router>>,
    who: Option<(Option<HeaderValue>, Source)>,
}

impl Local {
    /// Answers from now on; once.
    pub(crate) fn set(&self, grpc: Router) {
        // It is set by what made it.
        let _ = self.grpc.set(grpc);
    }

    /// For pages: for whose token `bearer` (`Bearer …`) is, if somebody is known, and who is at `source`.
    #[cfg(feature = "web")]
    pub(crate) fn with(&self, bearer: Option<HeaderValue>, source: Source) -> Self {
        Self {
            grpc: Arc::clone(&self.grpc),
            who: Some((bearer, source)),
        }
    }
}

impl Service<Request<tonic::body::Body>> for Local {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        if let Some((bearer, source)) = &self.who {
            if let Some(bearer) = bearer {
                let headers = request.headers_mut();
                headers.insert(header::AUTHORIZATION, bearer.clone());
            }
            request.extensions_mut().insert(*source);
        }
        let mut router = match self.grpc.get() {
            Some(router) => router.clone(),
            None => {
                Router::new().fallback(async || StatusCode::SERVICE_UNAVAILABLE.into_response())
            }
        };
        router.call(request)
    }
}
