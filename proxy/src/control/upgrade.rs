//! Giving up to a new daemon, and taking back from one that failed. The order is told in [`crate::upgrade`].

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError, atomic::Ordering::Relaxed},
};

use mcdsl::db::DbError;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use super::{Control, ControlError};
use crate::{
    kernel::{self, PinLock, Pinned},
    spec::RouteId,
    store::{Actor, Store, StoreError},
    upgrade::{Drains, Pending, Predecessor, Program, Reports, Successor, UpgradeError},
};

/// What a running daemon holds besides its listeners, and hands over.
#[derive(Debug)]
pub struct Estate {
    /// Of its root.
    pub root: fs::File,
    /// Of its pins.
    pub pins: PinLock,
    /// Of the admin API and the metrics.
    pub sockets: Vec<OwnedFd>,
}

/// How this daemon gives way.
#[derive(Debug, Default)]
pub(super) struct Life {
    program: Option<Program>,
    /// Taken once it has been handed over.
    estate: Mutex<Option<Estate>>,
    /// Held throughout an upgrade, and by what takes back after a failed one.
    one: Mutex<()>,
    pending: Pending,
    suspended: Mutex<Option<Suspended>>,
    /// The process id of the daemon that has taken over.
    successor: SetOnce<u32>,
    /// To the daemon that has taken over.
    reports: Mutex<Option<Reports>>,
    /// The daemon that this one has taken over from.
    predecessor: Option<Predecessor>,
    /// Ends what answers and keeps house; the connections go on.
    services: CancellationToken,
}

/// What is to be put back if the new daemon fails.
#[derive(Debug)]
struct Suspended {
    /// Of the database: the new daemon may have changed its schema.
    copy: PathBuf,
    maps: Pinned,
    /// The operator had not taken the firewall off.
    attached: bool,
}

/// A daemon that has been replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Process id of the new daemon.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// How this daemon was started and what it holds: without both there is no upgrade.
    #[must_use]
    pub fn with_estate(
        mut self,
        program: Option<Program>,
        predecessor: Option<Predecessor>,
        estate: Estate,
    ) -> Self {
        self.life.program = program;
        self.life.predecessor = predecessor;
        self.life.estate = Mutex::new(Some(estate));
        self
    }

    /// One more socket for the daemon that takes over.
    pub(super) fn hold(&self, socket: OwnedFd) {
        if let Some(estate) = lock(&self.life.estate).as_mut() {
            estate.sockets.push(socket);
        }
    }

    /// Replaces this daemon by the installed binary: starts it, hands everything over. After it this daemon changes
    /// nothing more and is to drain, see [`Self::replaced`]. Blocks until it is decided. `force`: also if a route would be without its certificate.
    ///
    /// # Errors
    /// [`UpgradeError`]; this daemon then goes on as before.
    pub fn upgrade(&self, by: &Actor, force: bool) -> Result<Upgraded, UpgradeError> {
        let _one = match self.life.one.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(UpgradeError::InProgress),
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
        };
        let program = self.life.program.as_ref();
        let program = program.ok_or(UpgradeError::NoProgram)?;
        let loads = if force {
            Ok(())
        } else {
            self.certificates_load()
        };
        let result = loads.and_then(|()| self.replace_by(program, by, force));
        match &result {
            Ok(new) => {
                tracing::info!(
                    pid = new.pid,
                    version = new.version,
                    "the new daemon serves"
                );
                // Its locks are the new one's alone, and none of them falls when this process drains on.
                *lock(&self.life.estate) = None;
                if let Some(suspended) = lock(&self.life.suspended).take() {
                    remove_copy(&suspended.copy);
                }
                // Whoever is told that the new one serves shall not meet this one.
                self.life.services.cancel();
                // Fails only if it is set, and there is no second upgrade of this process.
                let _ = self.life.successor.set(new.pid);
            }
            Err(error) => {
                let error = mcdsl::cli::chain(error);
                match self.life.pending.is_stopping() {
                    true => tracing::error!(error, "the upgrade failed: this daemon is stopping"),
                    false => tracing::error!(error, "the upgrade failed; this daemon goes on"),
                }
                self.take_back();
                if let Ok(mut store) = self.store() {
                    // It is in the log, and the answer.
                    let _ = store.audit(by, "upgrade", "", &error);
                }
            }
        }
        result
    }

    /// Whether the files of all that is in force would be taken by a daemon that starts now.
    fn certificates_load(&self) -> Result<(), UpgradeError> {
        /// Named in the error; the rest is in the status.
        const NAMED: usize = 4;
        let routes = self.context.router.all();
        let refused = routes.iter().filter_map(|route| {
            let (tls, l7) = route.tls.as_ref().zip(route.route.l7.as_ref())?;
            tls.current()?;
            let RouteId { hostname, port } = &route.route.key;
            let error = tls.probe(l7, hostname).err()?;
            let why = mcdsl::cli::chain(&error);
            Some(format!("{hostname} on port {port}: {why}"))
        });
        let refused: Vec<_> = refused.take(NAMED).collect();
        match refused.is_empty() {
            true => Ok(()),
            false => Err(UpgradeError::Certificates(refused)),
        }
    }

    fn replace_by(
        &self,
        program: &Program,
        by: &Actor,
        force: bool,
    ) -> Result<Upgraded, UpgradeError> {
        let new = Successor::start(program, &self.life.pending)?;
        tracing::info!(pid = new.pid, "an upgrade begins");
        let version = new.hello()?;
        let pid = new.pid;
        let detached = self.detached();
        self.suspend(by, &format!("to {version}, pid {pid}"))?;
        let listeners = self.listeners.sockets().map_err(UpgradeError::Channel)?;
        {
            let estate = lock(&self.life.estate);
            let estate = estate.as_ref().ok_or(UpgradeError::Stopping)?;
            let mut descriptors: Vec<BorrowedFd<'_>> =
                vec![estate.root.as_fd(), estate.pins.as_fd()];
            descriptors.extend(estate.sockets.iter().chain(&listeners).map(OwnedFd::as_fd));
            let bare = new.hand_over(&descriptors, detached)?;
            let old = self.context.router.bare();
            if !force && bare > old {
                return Err(UpgradeError::Bare { new: bare, old });
            }
        }
        *lock(&self.life.reports) = Some(new.go()?);
        mcdsl::shutdown::main_process_is(pid);
        Ok(Upgraded { pid, version })
    }

    /// Cancelled once another daemon answers the admin API and the metrics and keeps house, or this one stops.
    pub fn services(&self) -> &CancellationToken {
        &self.life.services
    }

    /// Waits until a new daemon has taken over; returns its process id.
    pub async fn replaced(&self) -> u32 {
        *self.life.successor.wait().await
    }

    /// Allows no upgrade from now on, ends one that is under way, and says whether this daemon has been replaced. Blocks.
    pub(crate) fn end_upgrades(&self) -> bool {
        self.life.pending.stop();
        let _one = lock(&self.life.one);
        self.life.successor.get().is_some()
    }

    /// The daemon that this one has taken over from.
    pub(crate) fn predecessor(&self) -> Option<&Predecessor> {
        self.life.predecessor.as_ref()
    }

    /// The daemons before this one that still drain, the oldest first.
    pub fn predecessors(&self) -> Vec<Drains> {
        let before = self.life.predecessor.as_ref();
        before.map_or_else(Vec::new, Predecessor::draining)
    }

    /// Tells the daemon that has taken over what this one and those before it still hold. Does not block.
    pub(crate) fn report(&self) {
        if let Some(reports) = &*lock(&self.life.reports) {
            reports.tell(self.draining());
        }
    }

    /// What this daemon, which was replaced, and those before it still hold; the oldest first.
    pub(crate) fn draining(&self) -> Vec<Drains> {
        let mut daemons = self.predecessors();
        daemons.push(Drains {
            pid: std::process::id(),
            connections: Some(self.context.active.0.load(Relaxed)),
        });
        daemons
    }

    /// Lets go of the locks, for the next daemon.
    pub(crate) fn release(&self) {
        *lock(&self.life.estate) = None;
    }

    /// Writes nothing from here on: waits for the change in progress, copies the database and closes it.
    fn suspend(&self, by: &Actor, detail: &str) -> Result<(), UpgradeError> {
        fn prepare(e: impl std::error::Error + Send + Sync + 'static) -> UpgradeError {
            UpgradeError::Prepare(Box::new(e))
        }
        let mut slot = self.store_slot();
        let store = slot.as_mut().ok_or(UpgradeError::InProgress)?;
        let copy = self.database_copy();
        self.remove_left_copy();
        let maps = Pinned::open(&kernel::pins(&self.config.pin_path)).map_err(prepare)?;
        store.audit(by, "upgrade", detail, "ok").map_err(prepare)?;
        store.snapshot(&copy).map_err(prepare)?;
        self.geoip.suspend();
        self.filtered().clear();
        *lock(&self.life.suspended) = Some(Suspended {
            copy,
            maps,
            attached: !self.detached(),
        });
        *slot = None;
        Ok(())
    }

    fn database_copy(&self) -> PathBuf {
        let mut copy = self.config.database.clone().into_os_string();
        copy.push(".before-upgrade");
        copy.into()
    }

    /// Removes what an upgrade has left whose old daemon was killed.
    pub(crate) fn remove_left_copy(&self) {
        remove_copy(&self.database_copy());
    }

    /// Takes back what a failed upgrade had let go of, if it had. What fails is tried again by the housekeeping.
    fn take_back(&self) {
        if self.life.pending.is_stopping() {
            return;
        }
        let mut slot = lock(&self.life.suspended);
        let Some(suspended) = slot.as_ref() else {
            return;
        };
        match self.try_take_back(suspended) {
            Ok(()) => {
                *slot = None;
                tracing::info!("database, maps and interfaces are taken back");
            }
            Err(error) => tracing::error!(
                error = mcdsl::cli::chain(&error),
                "cannot take everything back after a failed upgrade; trying again"
            ),
        }
    }

    /// [`Self::take_back`], unless an upgrade is under way.
    pub(super) fn take_back_left(&self) {
        // First: whoever wants to upgrade is not to be told of an upgrade that there is not.
        if lock(&self.life.suspended).is_none() {
            return;
        }
        if let Ok(_one) = self.life.one.try_lock() {
            self.take_back();
        }
    }

    fn try_take_back(&self, suspended: &Suspended) -> Result<(), ControlError> {
        let mut slot = self.store_slot();
        if slot.is_none() {
            *slot = Some(self.reopen(suspended)?);
        }
        drop(slot);
        suspended.maps.restore()?;
        self.verify(true)?;
        let state = self.store()?.load()?;
        self.set_policies(&state)?;
        self.guard_ports()?;
        if suspended.attached {
            self.attach();
        }
        self.geoip.resume();
        remove_copy(&suspended.copy);
        Ok(())
    }

    /// The database as the new daemon has left it, or, if a later version has migrated it, as it was before: the new
    /// one has acknowledged no change.
    fn reopen(&self, suspended: &Suspended) -> Result<Store, ControlError> {
        let path = &self.config.database;
        match Store::open(path) {
            Err(StoreError::Open(DbError::Newer { .. })) => {
                for suffix in ["-wal", "-shm"] {
                    let mut file = path.clone().into_os_string();
                    file.push(suffix);
                    // SQLite has removed them with its last connection.
                    let _ = fs::remove_file(file);
                }
                let renamed = fs::rename(&suspended.copy, path);
                renamed.map_err(|source| ControlError::Copy {
                    path: suspended.copy.clone(),
                    source,
                })?;
                Ok(Store::open(path)?)
            }
            opened => Ok(opened?),
        }
    }
}

fn remove_copy(copy: &std::path::Path) {
    match fs::remove_file(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %copy.display(), %error, "cannot remove the copy of the database");
        }
        _ => {}
    }
}
