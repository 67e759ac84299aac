//! The new daemon's side.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::unistd::dup2_stdin;

use super::{
    Inherited,
    channel::{Channel, Drains, Message, failed},
};

/// Why there is nothing to take over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Not started by a daemon.
    #[error("stdin is not the socket of a running daemon; upgrade with `mcproxyctl upgrade`")]
    NoSocket(#[source] io::Error),
    /// The daemon ended, or gave this one up.
    #[error("the daemon to take over from ended before it handed its sockets over")]
    Gone,
    /// The daemon speaks otherwise.
    #[error("cannot understand the daemon to take over from")]
    Protocol(#[source] io::Error),
}

/// The daemon that this one replaces. Clones are one; the last closes the channel.
#[derive(Clone, Debug)]
pub struct Predecessor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    channel: Channel,
    /// It and those before it, by what it said last; `None` = it has ended.
    draining: Mutex<Option<Vec<Drains>>>,
}

impl Predecessor {
    /// The one at the other end of stdin, which is /dev/null from now on.
    ///
    /// # Errors
    /// [`TakeOverError::NoSocket`].
    pub fn from_stdin() -> Result<Self, TakeOverError> {
        let take = || {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            let channel = Channel::over(socket)?;
            dup2_stdin(File::open("/dev/null")?)?;
            let it = channel.maker().map(|pid| Drains {
                pid,
                connections: None,
            });
            let draining = Mutex::new(Some(it.into_iter().collect()));
            Ok(Self(Arc::new(Inner { channel, draining })))
        };
        take().map_err(TakeOverError::NoSocket)
    }

    /// Says that this binary runs with its configuration, and waits for what the old one has open.
    ///
    /// # Errors
    /// [`TakeOverError`]; nothing has changed hands then.
    pub fn hello(&self) -> Result<Inherited, TakeOverError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.0
            .channel
            .send(&Message::Hello { version }, &[])
            .map_err(|_| TakeOverError::Gone)?;
        let mut inherited = Inherited::default();
        loop {
            match self
                .0
                .channel
                .receive(None)
                .map_err(TakeOverError::Protocol)?
            {
                Some((Message::Descriptors { last, detached }, descriptors)) => {
                    inherited.detached = detached;
                    descriptors.into_iter().for_each(|d| inherited.add(d));
                    if last {
                        return Ok(inherited);
                    }
                }
                // A later version may say more.
                Some(_) => {}
                None => return Err(TakeOverError::Gone),
            }
        }
    }

    /// Says that this daemon could serve, but for `bare` routes whose certificates it could not load, and waits until it shall: until the old one says so, or has died.
    pub fn ready(&self, bare: usize) {
        // If it fails, the old one is gone, which the next line finds.
        let _ = self.0.channel.send(&Message::Ready { bare }, &[]);
        loop {
            match self.0.channel.receive(None) {
                Ok(Some((Message::Go {}, _))) => return,
                Ok(Some(_)) => {}
                Ok(None) => {
                    tracing::warn!("the daemon before this one is gone: its connections are cut");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot understand the daemon before this one");
                    return;
                }
            }
        }
    }

    /// Says that this daemon accepts connections: the old one may stop.
    pub fn serving(&self) {
        // If it fails, the old one is gone.
        let _ = self.0.channel.send(&Message::Serving {}, &[]);
    }

    /// Says why this daemon cannot take over.
    pub fn failed(&self, reason: &str) {
        // To nobody, if the old one has gone or drains already.
        let _ = self.0.channel.send(&failed(reason), &[]);
    }

    /// Waits until the old one says what it holds or has drained and ended, at most for `limit`; whether it has ended. Blocks.
    pub fn wait_end(&self, limit: Duration) -> bool {
        self.told(self.0.channel.receive(Some(limit)))
    }

    /// It and those before it, as far as they have not ended. Does not block.
    pub fn draining(&self) -> Vec<Drains> {
        loop {
            let received = self.0.channel.receive_now();
            let came = received.as_ref().is_ok_and(Option::is_some);
            self.told(received);
            if !came {
                return self.lock().clone().unwrap_or_default();
            }
        }
    }

    /// Takes note of what came; whether the old one has ended.
    fn told(&self, received: io::Result<Option<(Message, Vec<OwnedFd>)>>) -> bool {
        let mut draining = self.lock();
        match received {
            Ok(Some((Message::Draining { daemons }, _))) => *draining = Some(daemons),
            // A later version may say more.
            Ok(Some(_)) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => *draining = None,
        }
        draining.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Drains>>> {
        let draining = self.0.draining.lock();
        draining.unwrap_or_else(PoisonError::into_inner)
    }
}
