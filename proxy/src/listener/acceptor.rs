//! Accepts on a listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Context, ListenerContext, Terminating},
    stats::Active,
    workers::{self, Spread, Worker},
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
        let at = workers::place(&self.workers, self.here, Spread::Rough);
        let worker = &self.workers[at];
        let stream = if at == self.here {
            Ok(stream)
        } else {
            connection::moved(stream, &worker.runtime)
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
        let (workers, connections) = (Arc::clone(&self.workers), self.connections.clone());
        let served = async move {
            let permit = match waits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => permit,
            };
            if let Some(http) = serving.await {
                drop(load);
                terminate(http, &workers, at, &connections, permit).await;
            }
        };
        if at == self.here {
            self.connections.spawn(served);
        } else {
            self.connections.spawn_on(served, &worker.runtime);
        }
    }
}

/// Serves a connection that turned out to be HTTP, on the worker `here` or, if that has more than another, there.
async fn terminate(
    http: Terminating,
    workers: &[Worker],
    here: usize,
    connections: &TaskTracker,
    permit: Option<OwnedSemaphorePermit>,
) {
    let at = workers::place(workers, here, Spread::Even);
    let worker = &workers[at];
    let load = Active::new(worker.connections.clone());
    if at == here {
        http.serve().await;
        drop((load, permit));
        return;
    }
    if let Some(http) = http.moved(&worker.runtime) {
        let served = async move {
            http.serve().await;
            drop((load, permit));
        };
        connections.spawn_on(served, &worker.runtime);
    }
}
