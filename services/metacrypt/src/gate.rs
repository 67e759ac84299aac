//! Whoever holds the seal open, and what is behind it meanwhile.
//!
//! A change of what is behind the seal (another mount, another master key) is a new value in the place of the one before: nobody waits for it, and who came
//! before it goes on with what he has. Closing waits for all who hold it open, of whom those who wait for a turn (to read, to write, at a processor) give up. Nobody waits to be let in, so that who is let in twice does not wait for himself.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    barrier::{Mount, SealError, Unsealed},
    engine::{EngineError, Kind},
};

/// Where one is let in.
pub(crate) struct Gate {
    state: Mutex<State>,
    /// How often it was opened.
    opened: watch::Sender<u64>,
    /// Whether it is closed, as the state says.
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// How often it was closed.
    closes: u64,
    /// How many wait until it is.
    closing: usize,
}

struct Open {
    unsealed: Arc<Unsealed>,
    holders: TaskTracker,
    closing: CancellationToken,
}

/// What is behind the seal, and the seal held open: closing it waits for this.
#[derive(Clone)]
pub(crate) struct Opened {
    // Dropped before it is said that it is.
    unsealed: Arc<Unsealed>,
    closing: CancellationToken,
    _held: TaskTrackerToken,
}

impl Deref for Opened {
    type Target = Unsealed;

    fn deref(&self) -> &Unsealed {
        &self.unsealed
    }
}

/// A mount, and the seal held open.
#[derive(Clone)]
pub(crate) struct Mounted {
    mount: Arc<Mount>,
    open: Opened,
}

impl Mounted {
    /// What is behind the seal.
    pub(crate) fn open(&self) -> &Opened {
        &self.open
    }
}

impl Deref for Mounted {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

impl Opened {
    /// That it is not being closed: what has not begun is not begun then.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub(crate) fn goes_on(&self) -> Result<(), SealError> {
        match self.closing.is_cancelled() {
            true => Err(SealError::Sealed),
            false => Ok(()),
        }
    }

    /// Waits for something that changes nothing, and no longer once it is being closed.
    ///
    /// # Errors
    /// Those of `work`, and [`SealError::Sealed`].
    pub(crate) async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(SealError::Sealed.into()),
            done = work => done,
        }
    }

    /// The mount of that name, if it is of that kind.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn mount(self, kind: &Kind, name: &str) -> Result<Mounted, EngineError> {
        let found = self.mounts().get(name);
        let found = found.filter(|mount| mount.engine() == kind.name).cloned();
        let none = || EngineError::NotFound(kind.name, name.to_owned());
        Ok(Mounted {
            mount: found.ok_or_else(none)?,
            open: self,
        })
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            opened: watch::Sender::default(),
            closed: watch::Sender::new(true),
        }
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub(crate) fn enter(&self) -> Result<Opened, SealError> {
        let state = self.state();
        let open = state.open.as_ref().ok_or(SealError::Sealed)?;
        Ok(Opened {
            unsealed: Arc::clone(&open.unsealed),
            closing: open.closing.clone(),
            _held: open.holders.token(),
        })
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().open.is_none()
    }

    /// The same, as it changes.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// How often it was closed, to be said when it is opened.
    pub(crate) fn closes(&self) -> u64 {
        self.state().closes
    }

    /// How often it was opened, as it changes.
    pub(crate) fn opened(&self) -> watch::Receiver<u64> {
        self.opened.subscribe()
    }

    /// Opens it, unless it was closed since [`Self::closes`] said `closes`.
    ///
    /// # Errors
    /// [`SealError::Closed`], [`SealError::Unsealed`].
    pub(crate) fn open(&self, unsealed: Unsealed, closes: u64) -> Result<(), SealError> {
        let mut state = self.state();
        if state.closing > 0 || state.closes != closes {
            return Err(SealError::Closed);
        }
        if state.open.is_some() {
            return Err(SealError::Unsealed);
        }
        state.open = Some(Open {
            unsealed: Arc::new(unsealed),
            holders: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        self.closed.send_replace(false);
        drop(state);
        self.opened.send_modify(|times| *times += 1);
        Ok(())
    }

    /// Puts what `held` was changed to behind the seal, unless it is being closed. One change at a time is the caller's to see to.
    pub(crate) fn change(&self, _held: &Opened, to: Unsealed) {
        if let Some(open) = &mut self.state().open {
            open.unsealed = Arc::new(to);
        }
    }

    /// Closes it: nobody is let in from now on, and nothing of what was behind it is left when this returns.
    pub(crate) async fn close(&self) {
        let was = {
            let mut state = self.state();
            state.closes += 1;
            state.closing += 1;
            self.closed.send_replace(true);
            state.open.take()
        };
        let closing = Closing(self);
        if let Some(Open {
            unsealed,
            holders,
            closing,
        }) = was
        {
            // Who waits for a turn does not get it any more.
            closing.cancel();
            drop(unsealed);
            holders.close();
            holders.wait().await;
        }
        drop(closing);
    }
}

/// One who waits until it is closed, or does no more.
struct Closing<'g>(&'g Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state().closing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, pin_mut};

    use super::*;
    use crate::testing::{World, nothing};

    #[tokio::test]
    async fn closing_waits_for_all_who_hold_it_open_and_nobody_waits_for_it() {
        let world = World::vault().await;
        let gate = &world.metacrypt.gate;
        let first = gate.enter().unwrap();
        let (again, copy) = (gate.enter().unwrap(), first.clone());
        let closes = gate.closes();
        let next = Unsealed::clone(&first);
        let closing = gate.close();
        pin_mut!(closing);
        assert!(closing.as_mut().now_or_never().is_none());
        let refused = gate.enter().map(drop);
        assert!(matches!(refused, Err(SealError::Sealed)) && gate.is_closed());
        assert!(first.mounts().contains_key("vault"), "it goes on");
        // What was changed meanwhile, and what was opened, do not open it.
        gate.change(&first, next.clone());
        let late = gate.open(next.clone(), closes);
        assert!(matches!(late, Err(SealError::Closed)), "{late:?}");
        let late = gate.open(next.clone(), gate.closes());
        assert!(matches!(late, Err(SealError::Closed)), "{late:?}");
        drop((first, again));
        assert!(closing.as_mut().now_or_never().is_none(), "a copy holds it");
        drop(copy);
        assert!(closing.now_or_never().is_some());
        assert!(gate.is_closed());
        gate.open(next, gate.closes()).unwrap();
        assert!(!gate.is_closed());
    }

    #[tokio::test]
    async fn who_gives_up_closing_leaves_it_closed_and_able_to_open() {
        let world = World::vault().await;
        let gate = &world.metacrypt.gate;
        let held = gate.enter().unwrap();
        assert!(gate.close().now_or_never().is_none());
        assert!(gate.is_closed());
        drop(held);
        world.unseal().await;
        assert!(!gate.is_closed());
    }

    #[tokio::test]
    async fn who_is_in_a_mount_goes_on_when_it_is_removed() {
        let world = World::vault().await;
        let held = world.metacrypt.open().unwrap();
        let removed = world.metacrypt.unmount("vault", true, nothing());
        removed.await.unwrap();
        assert!(held.mounts().contains_key("vault"));
        assert!(
            !world
                .metacrypt
                .open()
                .unwrap()
                .mounts()
                .contains_key("vault")
        );
        let (done, again) = (
            world.metacrypt.unmount("vault", true, nothing()).await,
            world.metacrypt.mount("vault", "transit", nothing()).await,
        );
        assert!(matches!(done, Err(SealError::NoMount(_))), "{done:?}");
        assert!(again.is_ok());
    }
}
