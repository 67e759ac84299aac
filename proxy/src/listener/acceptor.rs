//! Accepts on a listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Context, ListenerContext},
    stats::Active,
    workers::Worker,
};

/// Pause after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What accepts on a listener on one worker.
pub(super) struct Acceptor {
    pub(super) context: Arc<Context>,
    pub(super) listener: Arc<ListenerContext>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) connections: TaskTracker,
    pub(super) workers: Arc<[Worker]>,
    /// Of `workers`, the one that this runs on.
    pub(super) here: usize,
}

impl Acceptor {
    pub(super) async fn run(&self, socket: TcpListener, cancel: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                // First, or one more connection may be accepted.
                biased;
                () = cancel.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Not before: a listener that waits for a connection would hold, on every worker, the place of one.
                    let permit = match Arc::clone(&self.permits).try_acquire_owned() {
                        Ok(permit) => Some(permit),
                        Err(_) => tokio::select! {
                            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
                            () = cancel.cancelled() => None,
                        },
                    };
                    self.serve(stream, peer, permit);
                }
                // Errors of the one connection that was in the queue; the next may be fine.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                Err(error) => {
                    self.context.denied.count("accept_failed");
                    tracing::warn!(%error, port = self.listener.port, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Begins to serve a connection, here or on a worker that has far fewer.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        let here = &self.workers[self.here];
        let relief = here.relief(&self.workers);
        let worker = relief.unwrap_or(here);
        let stream = match relief {
            None => Ok(stream),
            Some(other) => {
                let _guard = other.runtime.enter();
                stream.into_std().and_then(TcpStream::from_std)
            }
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                self.context.denied.count("accept_failed");
                tracing::warn!(%error, port = self.listener.port, "cannot move a connection");
                return;
            }
        };
        // Accepted is accepted: it waits on after the listener is closed.
        let waits = permit.is_none().then(|| Arc::clone(&self.permits));
        let load = Active::new(worker.connections.clone());
        let (context, listener) = (Arc::clone(&self.context), Arc::clone(&self.listener));
        let serving = connection::serve(context, listener, stream, peer);
        let served = async move {
            let _load = load;
            let _permit = match waits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => permit,
            };
            serving.await;
        };
        match relief {
            None => self.connections.spawn(served),
            Some(other) => self.connections.spawn_on(served, &other.runtime),
        };
    }
}
