//! Backends that do as they are told, and can be killed and started again.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{Site, Speaks};
use crate::world::BACKEND;

/// What a backend does.
pub(super) struct Mood {
    /// Answers of `/health`; 0 = none.
    pub(super) health: AtomicU16,
    /// Answers of all others.
    pub(super) status: AtomicU16,
    /// Requests that are no health checks.
    pub(super) requests: AtomicU64,
    /// `/hold` waits for one of these.
    pub(super) released: Semaphore,
}

pub(super) struct Backend<'a> {
    pub(super) address: SocketAddr,
    pub(super) mood: Arc<Mood>,
    site: &'a Site,
    speaks: Speaks,
    running: Option<JoinHandle<()>>,
}

impl<'a> Backend<'a> {
    pub(super) fn start(site: &'a Site, speaks: Speaks) -> Result<Self> {
        let mut backend = Self {
            address: SocketAddr::new(BACKEND.parse()?, 0),
            mood: Arc::new(Mood {
                health: AtomicU16::new(200),
                status: AtomicU16::new(200),
                requests: AtomicU64::new(0),
                released: Semaphore::new(0),
            }),
            site,
            speaks,
            running: None,
        };
        backend.revive()?;
        Ok(backend)
    }

    /// Listens where it did before.
    pub(super) fn revive(&mut self) -> Result<()> {
        let world = &self.site.world;
        let bound = world.backend.run(|| TcpListener::bind(self.address))??;
        bound.set_nonblocking(true)?;
        self.address = bound.local_addr()?;
        let mut tls = (*(self.site.ca.issue(&["backend.example.org"])?).server_config()?).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, speaks) = (TlsAcceptor::from(Arc::new(tls)), self.speaks);
        let mood = Arc::clone(&self.mood);
        let _guard = world.backend_runtime.enter();
        let listener = tokio::net::TcpListener::from_std(bound)?;
        self.running = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, speaks, acceptor.clone(), Arc::clone(&mood)));
            }
        }));
        Ok(())
    }

    /// Closes its socket and all its connections.
    pub(super) fn kill(&mut self) -> Result<()> {
        let running = self.running.take().context("it runs")?;
        running.abort();
        // It was aborted.
        let _ = self.site.world.backend_runtime.block_on(running);
        Ok(())
    }

    pub(super) fn requests(&self) -> u64 {
        self.mood.requests.load(SeqCst)
    }
}

async fn serve(stream: TcpStream, speaks: Speaks, acceptor: TlsAcceptor, mood: Arc<Mood>) {
    let service = service_fn(move |request| answer(Arc::clone(&mood), request));
    let h2 = http2::Builder::new(TokioExecutor::new());
    // The proxy's end of a connection is no failure of the test.
    let _ = match speaks {
        Speaks::Http1 => {
            let h1 = http1::Builder::new();
            h1.serve_connection(TokioIo::new(stream), service).await
        }
        Speaks::H2c => h2.serve_connection(TokioIo::new(stream), service).await,
        Speaks::H2 => match acceptor.accept(stream).await {
            Ok(stream) => h2.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => Ok(()),
        },
    };
}

async fn answer(
    mood: Arc<Mood>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    // Read to its end: what answers earlier has HTTP/2 reset the rest, which curl 7.88 takes for a failure now and then.
    let _ = body.collect().await;
    let status = match parts.uri.path() {
        "/health" => match mood.health.load(SeqCst) {
            0 => std::future::pending().await,
            status => status,
        },
        path => {
            mood.requests.fetch_add(1, SeqCst);
            if path == "/hold" {
                let permit = mood.released.acquire().await;
                permit.expect("it is never closed").forget();
            }
            mood.status.load(SeqCst)
        }
    };
    let mut response = Response::new(Full::from("hello\n"));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ok(response)
}
