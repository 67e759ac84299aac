//! The old daemon's side.

use std::{
    io,
    os::fd::BorrowedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    FLAG, HELLO, Program, READY, SERVING, UpgradeError,
    channel::{Channel, Drains, MAX_DESCRIPTORS, Message},
};

/// A child that has closed its end is about to end; after this it is made to.
const ENDING: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(5);

/// The child that does not serve yet, and whether one still may. What decides between a stop and a new daemon: each comes under its
/// lock.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    child: Option<Child>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No upgrade from now on; one that has not come to its end fails.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        if let Some(child) = &mut state.child {
            // It has ended if this fails. Whoever runs the upgrade reaps it.
            let _ = child.kill();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }
}

/// To the daemon that has taken over. Open until this process ends, which its end tells the successor.
#[derive(Debug)]
pub(crate) struct Reports(Channel);

impl Reports {
    /// What still drains.
    pub(crate) fn tell(&self, daemons: Vec<Drains>) {
        self.0.report(daemons);
    }
}

/// A started new daemon. Dropped before [`Self::go`] has succeeded, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Successor<'a> {
    channel: Option<Channel>,
    pending: &'a Pending,
    /// Its process id.
    pub(crate) pid: u32,
}

impl<'a> Successor<'a> {
    /// Starts it.
    pub(crate) fn start(program: &Program, pending: &'a Pending) -> Result<Self, UpgradeError> {
        let (channel, theirs) = Channel::pair().map_err(UpgradeError::Channel)?;
        let mut state = pending.lock();
        if state.stopping {
            return Err(UpgradeError::Stopping);
        }
        let child = Command::new(program.path())
            .args(&program.args)
            .arg(FLAG)
            .stdin(Stdio::from(theirs))
            // Of this process, by its number.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .spawn()
            .map_err(|source| UpgradeError::Spawn {
                program: program.path().display().to_string(),
                source,
            })?;
        let pid = child.id();
        state.child = Some(child);
        Ok(Self {
            channel: Some(channel),
            pending,
            pid,
        })
    }

    /// Waits for its first word; returns its version.
    pub(crate) fn hello(&self) -> Result<String, UpgradeError> {
        match self.receive(HELLO)? {
            Message::Hello { version } => Ok(version),
            other => Err(UpgradeError::Protocol(other.to_string())),
        }
    }

    /// Gives it the descriptors and waits until it could serve. Returns for how many routes it has no certificate.
    pub(crate) fn hand_over(
        &self,
        descriptors: &[BorrowedFd<'_>],
        detached: bool,
    ) -> Result<usize, UpgradeError> {
        let mut chunks = descriptors.chunks(MAX_DESCRIPTORS).peekable();
        while let Some(chunk) = chunks.next() {
            let last = chunks.peek().is_none();
            self.send(&Message::Descriptors { last, detached }, chunk)?;
        }
        match self.receive(READY)? {
            Message::Ready { bare } => Ok(bare),
            other => Err(UpgradeError::Protocol(other.to_string())),
        }
    }

    /// Tells it to serve: once this succeeds, it does, and is the daemon. Returns what to tell it by while this process
    /// drains.
    pub(crate) fn go(mut self) -> Result<Reports, UpgradeError> {
        self.send(&Message::Go {}, &[])?;
        match self.receive(SERVING)? {
            Message::Serving {} => {}
            other => return Err(UpgradeError::Protocol(other.to_string())),
        }
        let mut state = self.pending.lock();
        if state.stopping {
            return Err(UpgradeError::Stopping);
        }
        let channel = self.channel.take().ok_or(UpgradeError::Stopping)?;
        state.stopping = true;
        // Never reaped: if it ends while this process drains, its status is for who comes after, such as systemd.
        drop(state.child.take());
        drop(state);
        Ok(Reports(channel))
    }

    fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), UpgradeError> {
        let sent = match &self.channel {
            Some(channel) => channel.send(message, descriptors),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.end(),
            _ => UpgradeError::Channel(error),
        })
    }

    fn receive(&self, limit: Duration) -> Result<Message, UpgradeError> {
        let received = match &self.channel {
            Some(channel) => channel.receive(Some(limit)),
            None => Ok(None),
        };
        match received {
            Ok(Some((Message::Failed { reason }, _))) => Err(UpgradeError::Failed(reason)),
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(self.end()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(UpgradeError::Silent(limit)),
            Err(error) => Err(UpgradeError::Channel(error)),
        }
    }

    /// How the child ended whose end is closed.
    fn end(&self) -> UpgradeError {
        let started = Instant::now();
        loop {
            let mut state = self.pending.lock();
            if state.stopping {
                return UpgradeError::Stopping;
            }
            let Some(child) = &mut state.child else {
                return UpgradeError::Stopping;
            };
            match child.try_wait() {
                Ok(Some(status)) => return UpgradeError::Ended(status),
                Ok(None) if started.elapsed() < ENDING => {}
                Ok(None) => return UpgradeError::Silent(ENDING),
                Err(error) => return UpgradeError::Channel(error),
            }
            drop(state);
            thread::sleep(POLL);
        }
    }

    fn reap(&self) -> Option<ExitStatus> {
        let mut child = self.pending.lock().child.take()?;
        // Fails only if it has ended.
        let _ = child.kill();
        child.wait().ok()
    }
}

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        if let Some(status) = self.reap() {
            tracing::info!(pid = self.pid, %status, "the new daemon is gone");
        }
    }
}
