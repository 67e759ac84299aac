//! Backends: a TLS server that says its name, and raw TCP servers.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use mc_testkit::ca::Ca;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::world::{BACKEND, World};

impl World {
    /// Listens in the backend's namespace on a free port.
    pub(crate) fn listen(&self) -> Result<(TcpListener, SocketAddr)> {
        let listener = self
            .backend
            .run(|| std::net::TcpListener::bind((BACKEND, 0)))??;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _guard = self.backend_runtime.enter();
        Ok((TcpListener::from_std(listener)?, address))
    }

    /// An HTTPS server for `name` that answers every request with `name` and the client's address.
    pub(crate) fn https(&self, ca: &Ca, name: &str) -> Result<SocketAddr> {
        let acceptor = TlsAcceptor::from(ca.issue(&[name])?.server_config()?);
        let name = name.to_owned();
        self.serve(move |stream| {
            let (acceptor, name) = (acceptor.clone(), name.clone());
            async move {
                let Ok(mut tls) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = vec![0; 4096];
                let _ = tls.read(&mut request).await;
                let body = format!("hello from {name}\n");
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = tls.write_all((head + body.as_str()).as_bytes()).await;
                let _ = tls.shutdown().await;
            }
        })
    }

    /// A raw TCP server; `handler` has one connection each.
    pub(crate) fn serve<F, Fut>(&self, handler: F) -> Result<SocketAddr>
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = self.listen()?;
        let handler = Arc::new(handler);
        self.backend_runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handler(stream));
            }
        });
        Ok(address)
    }

    /// Reads a ClientHello of `hello` bytes, answers `!`, then echoes.
    pub(crate) fn echo(&self, hello: usize) -> Result<SocketAddr> {
        self.serve(move |mut stream| async move {
            let mut preface = vec![0; hello];
            if stream.read_exact(&mut preface).await.is_err()
                || stream.write_all(b"!").await.is_err()
            {
                return;
            }
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
    }
}
