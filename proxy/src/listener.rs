//! Listening sockets: bound, rebound, removed while the daemon runs.

mod acceptor;
mod deadline;
mod socket;

use std::{
    collections::BTreeMap,
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, SystemTime},
};

use socket2::SockRef;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::deadline::Deadline;
use self::{
    acceptor::Acceptor,
    socket::{bind, tune},
};
use crate::{
    connection::{Context, ListenerContext},
    spec::Listener,
    stats::Gauge,
    upgrade::Inherited,
    workers::{Worker, Workers},
};

/// How long the removal of a listener waits for the workers to close it; they are never busy for as long.
const CLOSING: Duration = Duration::from_secs(5);

/// Why a daemon that is about to end does not listen.
const DRAINS: &str = "the daemon drains";

/// A listener and whether it listens.
#[derive(Clone, Debug)]
pub struct ListenerState {
    /// As declared.
    pub listener: Listener,
    /// Connections open now.
    pub active: u64,
    /// Why it does not listen.
    pub error: Option<String>,
    /// It does not because the daemon drains.
    pub draining: bool,
}

/// A daemon that accepts nothing new and ends with its last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// When it began.
    pub since: SystemTime,
    /// When what is left of the connections is cut.
    pub until: SystemTime,
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
    /// Closed for good; see [`Draining`].
    Drained,
    Listening(Accepting),
}

impl State {
    /// Why it does not listen.
    fn error(&self) -> Option<&str> {
        match self {
            Self::Declared => Some("is being bound"),
            Self::Failed(error) => Some(error),
            Self::Drained => Some(DRAINS),
            Self::Listening(_) => None,
        }
    }
}

/// The workers' tasks that accept on a listener.
#[derive(Debug)]
struct Accepting {
    cancel: CancellationToken,
    /// Disconnected once all of them have closed their sockets.
    closed: mpsc::Receiver<()>,
    /// For the daemon that takes over.
    socket: net::TcpListener,
}

/// All listeners of the daemon.
pub struct Listeners {
    context: Arc<Context>,
    permits: Arc<Semaphore>,
    accepting: TaskTracker,
    connections: TaskTracker,
    stop: CancellationToken,
    draining: OnceLock<Draining>,
    entries: Mutex<BTreeMap<SocketAddr, Entry>>,
    inherited: Mutex<Inherited>,
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
            draining: OnceLock::new(),
            entries: Mutex::default(),
            inherited: Mutex::default(),
            workers,
        }
    }

    /// How many connections each worker serves now.
    #[must_use]
    pub fn loads(&self) -> Vec<u64> {
        self.workers.all().iter().map(Worker::load).collect()
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
        match self.open(entry.listener.clone()) {
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
            match self.open(entry.listener.clone()) {
                Ok(started) => {
                    *entry = started;
                    tracing::info!(%address, "listening at last");
                }
                Err(error) => {
                    let now = State::Failed(error.to_string());
                    if entry.state.error() != now.error() {
                        tracing::error!(%address, %error, "cannot listen, for another reason; retrying");
                        entry.state = now;
                    }
                }
            }
        }
    }

    /// Takes sockets that are open already, for [`Self::bind`] to use instead of new ones.
    pub fn inherit(&self, inherited: Inherited) {
        *self.inherited() = inherited;
    }

    /// Closes what was inherited and is of no declared listener.
    pub fn close_undeclared(&self) {
        let entries = self.lock();
        let mut inherited = self.inherited();
        let declared: Vec<_> = entries
            .keys()
            .filter_map(|address| inherited.tcp(*address))
            .collect();
        inherited.close();
        declared.into_iter().for_each(|s| inherited.add(s.into()));
    }

    /// Every socket that listens.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let entries = self.lock();
        let open = entries.values().filter_map(|e| match &e.state {
            State::Listening(accepting) => Some(&accepting.socket),
            _ => None,
        });
        open.map(|socket| socket.as_fd().try_clone_to_owned())
            .collect()
    }

    /// Closes a listener; its connections go on. Says whether there was one. Blocks until the address is free.
    pub fn remove(&self, address: SocketAddr) -> bool {
        let Some(entry) = self.lock().remove(&address) else {
            return false;
        };
        if let State::Listening(accepting) = entry.state {
            accepting.cancel.cancel();
            drop(accepting.socket);
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
                error: e.state.error().map(str::to_owned),
                draining: matches!(e.state, State::Drained),
            })
            .collect()
    }

    /// Every connection that there may be is open: new ones wait in the accept queue.
    pub fn full(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Since [`Self::drain`].
    pub fn draining(&self) -> Option<Draining> {
        self.draining.get().copied()
    }

    /// Waits for [`Self::drain`].
    pub async fn drained(&self) {
        self.stop.cancelled().await;
    }

    /// Stops accepting, waits until the deadline for the connections to end, then cuts what is left. Returns how many
    /// were cut.
    pub async fn drain(&self, deadline: &Deadline) -> u64 {
        let since = SystemTime::now();
        let until = since + deadline.left();
        self.draining.get_or_init(|| Draining { since, until });
        self.stop.cancel();
        for entry in self.lock().values_mut() {
            entry.state = State::Drained;
        }
        self.accepting.close();
        self.accepting.wait().await;
        self.context.drain.cancel();
        tracing::info!(
            pid = std::process::id(),
            connections = self.context.active.0.load(Relaxed),
            deadline = mcdsl::human::duration_rounded(deadline.left()),
            "draining: nothing new is accepted"
        );
        self.connections.close();
        tokio::select! {
            () = self.connections.wait() => return 0,
            () = deadline.passed() => {}
        }
        let left = self.context.active.0.load(Relaxed);
        self.context.abort.cancel();
        // The engines answer `abort` at once; what has no backend yet ends with the runtime.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
        left
    }

    /// Accepts on every worker. Gives the socket back if it fails.
    fn start(
        &self,
        listener: Listener,
        socket: net::TcpListener,
    ) -> Result<Entry, (io::Error, net::TcpListener)> {
        let context = listener_context(&listener);
        let cancel = self.stop.child_token();
        let (closing, closed) = mpsc::channel::<()>();
        // All before the first task: one that fails must leave none behind that listens.
        let workers = self.workers.all();
        let sockets = workers.iter().map(|worker| {
            let _guard = worker.runtime.enter();
            TcpListener::from_std(socket.try_clone()?)
        });
        let sockets: Vec<_> = match sockets.collect::<io::Result<_>>() {
            Ok(sockets) => sockets,
            Err(error) => return Err((error, socket)),
        };
        for (here, shared) in sockets.into_iter().enumerate() {
            let acceptor = Acceptor {
                context: Arc::clone(&self.context),
                listener: Arc::clone(&context),
                permits: Arc::clone(&self.permits),
                connections: self.connections.clone(),
                workers: Arc::clone(workers),
                here,
            };
            let cancel = cancel.clone();
            let accept = async move { acceptor.run(shared, cancel).await };
            let closing = closing.clone();
            let accepting = async move {
                accept.await;
                drop(closing);
            };
            self.accepting.spawn_on(accepting, &workers[here].runtime);
        }
        Ok(Entry {
            listener,
            context,
            state: State::Listening(Accepting {
                cancel,
                closed,
                socket,
            }),
        })
    }

    /// Accepts on the inherited socket of its address, or on a new one.
    fn open(&self, listener: Listener) -> io::Result<Entry> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other(DRAINS));
        }
        let address = listener.address;
        let taken = self.inherited().tcp(address);
        let Some(socket) = taken else {
            let started = self.start(listener, bind(address)?);
            return started.map_err(|(error, _)| error);
        };
        let tuned = tune(&SockRef::from(&socket));
        let started = match tuned {
            Ok(()) => self.start(listener, socket),
            Err(error) => Err((error, socket)),
        };
        // What waits in its queue is not lost with a failure.
        started.map_err(|(error, socket)| {
            self.inherited().add(socket.into());
            error
        })
    }

    /// One that another process listens on as well, and this one does not.
    pub fn not_taken_over(&self) -> Option<(SocketAddr, String)> {
        let entries = self.lock();
        let inherited = self.inherited();
        entries
            .iter()
            .find_map(|(address, entry)| match &entry.state {
                State::Failed(error) if inherited.has_tcp(*address) => {
                    Some((*address, error.clone()))
                }
                _ => None,
            })
    }

    fn inherited(&self) -> std::sync::MutexGuard<'_, Inherited> {
        self.inherited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
