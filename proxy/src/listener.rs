//! Listening sockets: bound, rebound, removed while the daemon runs.

use std::{
    collections::BTreeMap,
    io,
    net::{self, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Context, ListenerContext},
    spec::Listener,
    stats::Gauge,
    workers::Workers,
};

/// Connections that wait in the kernel for accept; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Pause after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that vanished without FIN is found out after this and nine probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long the removal of a listener waits for the workers to close it; they are never busy for as long.
const CLOSING: Duration = Duration::from_secs(5);

/// A listener and whether it listens.
#[derive(Clone, Debug)]
pub struct ListenerState {
    /// As declared.
    pub listener: Listener,
    /// Connections open now.
    pub active: u64,
    /// Why it does not listen.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    context: Arc<ListenerContext>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not bound yet: that is for whoever declared it, once its port is guarded.
    Declared,
    /// Cannot be bound, for this reason; tried again.
    Failed(String),
    Listening(Accepting),
}

/// The workers' tasks that accept on a listener.
#[derive(Debug)]
struct Accepting {
    cancel: CancellationToken,
    /// Disconnected once all of them have closed their sockets.
    closed: mpsc::Receiver<()>,
}

/// All listeners of the daemon.
pub struct Listeners {
    context: Arc<Context>,
    permits: Arc<Semaphore>,
    accepting: TaskTracker,
    connections: TaskTracker,
    stop: CancellationToken,
    entries: Mutex<BTreeMap<SocketAddr, Entry>>,
    workers: Workers,
}

impl Listeners {
    /// None yet. `max_connections` bounds the connections of all of them together.
    pub fn new(context: Arc<Context>, workers: Workers, max_connections: u32) -> Self {
        Self {
            context,
            permits: Arc::new(Semaphore::new(max_connections as usize)),
            accepting: TaskTracker::new(),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
            entries: Mutex::default(),
            workers,
        }
    }

    /// Takes a listener up without listening yet, so that its port can be guarded before the first connection.
    pub fn declare(&self, listener: Listener) {
        let entry = Entry {
            state: State::Declared,
            context: listener_context(&listener),
            listener,
        };
        self.lock().insert(entry.listener.address, entry);
    }

    /// Binds a declared listener and accepts on it.
    ///
    /// # Errors
    /// If the address cannot be bound; [`Self::retry`] tries again unless it is removed.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&address) else {
            return Ok(());
        };
        match bind(address).and_then(|socket| self.start(entry.listener.clone(), &socket)) {
            Ok(started) => *entry = started,
            Err(error) => {
                entry.state = State::Failed(error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tries again to bind what could not be bound.
    pub fn retry(&self) {
        // Locked throughout, or one that is removed meanwhile would listen again.
        let mut entries = self.lock();
        let failed = |e: &Entry| matches!(e.state, State::Failed(_));
        for (address, entry) in entries.iter_mut().filter(|(_, e)| failed(e)) {
            let started = bind(*address).and_then(|s| self.start(entry.listener.clone(), &s));
            if let Ok(started) = started {
                *entry = started;
                tracing::info!(%address, "listening at last");
            }
        }
    }

    /// Closes a listener; its connections go on. Says whether there was one. Blocks until the address is free.
    pub fn remove(&self, address: SocketAddr) -> bool {
        let Some(entry) = self.lock().remove(&address) else {
            return false;
        };
        if let State::Listening(accepting) = entry.state {
            accepting.cancel.cancel();
            if accepting.closed.recv_timeout(CLOSING) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!(%address, "a busy thread has not closed the listener yet");
            }
        }
        true
    }

    /// All, with their state.
    pub fn list(&self) -> Vec<ListenerState> {
        self.lock()
            .values()
            .map(|e| ListenerState {
                listener: e.listener.clone(),
                active: e.context.active.0.load(Relaxed),
                error: match &e.state {
                    State::Declared => Some("is being bound".to_owned()),
                    State::Failed(error) => Some(error.clone()),
                    State::Listening(_) => None,
                },
            })
            .collect()
    }

    /// Stops accepting, waits up to `grace` for the connections to end, then cuts what is left. Returns how many
    /// were cut.
    pub async fn drain(&self, grace: Duration) -> u64 {
        self.stop.cancel();
        self.accepting.close();
        self.accepting.wait().await;
        self.context.drain.cancel();
        tracing::info!(deadline = ?grace, "draining: nothing new is accepted");
        self.connections.close();
        if tokio::time::timeout(grace, self.connections.wait())
            .await
            .is_ok()
        {
            return 0;
        }
        let left = self.context.active.0.load(Relaxed);
        self.context.abort.cancel();
        // The engines answer `abort` at once; what has no backend yet ends with the runtime.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
        left
    }

    /// Accepts on every worker.
    fn start(&self, listener: Listener, socket: &net::TcpListener) -> io::Result<Entry> {
        let context = listener_context(&listener);
        let cancel = self.stop.child_token();
        let (closing, closed) = mpsc::channel::<()>();
        // All before the first task: one that fails must leave none behind that listens.
        let sockets = self.workers.runtimes().map(|runtime| {
            let _guard = runtime.enter();
            TcpListener::from_std(socket.try_clone()?)
        });
        let sockets: Vec<_> = sockets.collect::<io::Result<_>>()?;
        for (runtime, shared) in self.workers.runtimes().zip(sockets) {
            let accept = accept(
                shared,
                Arc::clone(&self.context),
                Arc::clone(&context),
                Arc::clone(&self.permits),
                self.connections.clone(),
            );
            let (cancelled, closing) = (cancel.clone().cancelled_owned(), closing.clone());
            let accepting = async move {
                tokio::select! {
                    // First, or one more connection may be accepted.
                    biased;
                    () = cancelled => {}
                    () = accept => {}
                }
                drop(closing);
            };
            self.accepting.spawn_on(accepting, runtime);
        }
        Ok(Entry {
            listener,
            context,
            state: State::Listening(Accepting { cancel, closed }),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listener_context(listener: &Listener) -> Arc<ListenerContext> {
    Arc::new(ListenerContext {
        port: listener.address.port(),
        trusted_proxies: listener.trusted_proxies.clone(),
        redirect: listener.redirect,
        active: Gauge::default(),
    })
}

async fn accept(
    socket: TcpListener,
    context: Arc<Context>,
    listener: Arc<ListenerContext>,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Not before: a listener that waits for a connection would hold, on every worker, the place of one.
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let serving =
                    connection::serve(Arc::clone(&context), Arc::clone(&listener), stream, peer);
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            // Errors of the one connection that was in the queue; the next may be fine.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                context.denied.count("accept_failed");
                tracing::warn!(%error, port = listener.port, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both, which saves two calls per connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    // Inherited too: an answer follows a ClientHello soon enough to carry its ACK.
    socket.set_tcp_quickack(false)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
