//! A service whose disk is full is not ready, whatever it says of itself: this looks whether there is room again.
//!
//! The audit log has each call that is done and is never pruned, so that who calls often fills the disk, and a full disk stops everybody. While there is room it is his own
//! affair; when little is left each account has a share of calls a minute ([`Scarce`]), so that it lasts until somebody makes room.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tonic::Status;

use super::Handle;
use crate::{
    auth::Identity,
    clock::Clock,
    db::Store,
    files::{directory_of, reserve, room},
    human,
    shutdown::Shutdown,
};

/// Between two attempts to write.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at what is left.
const MEASURE: Duration = Duration::from_secs(10);
/// Calls of an account in a [`WINDOW`] while there is little room.
const CALLS: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Accounts that are counted in a window; the others are counted as one.
const MAX_ACCOUNTS: usize = 1024;

/// How often accounts may call what is written down, while the disk has little room.
#[derive(Default)]
pub struct Scarce {
    is: AtomicBool,
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    since: Option<Instant>,
    calls: HashMap<String, u32>,
}

impl Scarce {
    pub(super) fn by(clock: Clock) -> Self {
        Self {
            clock,
            ..Self::default()
        }
    }

    /// Whether somebody may call now. Administrators may: they are who makes room; and what is asked without a token has bounds of its own.
    ///
    /// # Errors
    /// He had his share of this minute.
    pub(super) fn admit(&self, who: Option<&Identity>) -> Result<(), Status> {
        let Some(who) = who.filter(|who| self.is.load(Relaxed) && !who.is_admin()) else {
            return Ok(());
        };
        let now = self.clock.steady();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |since| now.saturating_duration_since(since) >= WINDOW;
        if window.since.is_none_or(over) {
            (window.since, window.calls) = (Some(now), HashMap::new());
        }
        let counted = window.calls.len() < MAX_ACCOUNTS || window.calls.contains_key(&who.account);
        let account = if counted { &*who.account } else { "" };
        let calls = window.calls.entry(account.to_owned()).or_default();
        if *calls >= CALLS {
            return Err(Status::resource_exhausted(format!(
                "the service's disk has little room left: each account may make {CALLS} calls a minute until there is more"
            )));
        }
        *calls += 1;
        Ok(())
    }

    /// What is left on the disk now, in bytes, of how many. Whether it is little.
    pub fn measured(&self, left: u64, of: u64, disk: &Path) -> bool {
        let is = is_little((left, of));
        if is == self.is.swap(is, Relaxed) {
            return is;
        }
        let (disk, left) = (disk.display(), human::bytes(left));
        match is {
            true => tracing::error!(
                %disk, %left,
                "the disk has little room left: each account but administrators has {CALLS} calls a minute that are written down; make room"
            ),
            false => tracing::info!(%disk, %left, "the disk has room again"),
        }
        is
    }

    /// Prometheus' text, without an end.
    pub(super) fn metrics(&self) -> String {
        let is = u8::from(self.is.load(Relaxed));
        format!(
            "# HELP disk_scarce Whether the disk has so little room that calls are shared out.\n# TYPE disk_scarce gauge\ndisk_scarce {is}\n"
        )
    }
}

impl Handle {
    /// Has health say that the service takes no calls from a write that failed for want of room on the disk until one succeeds; while the database's files are
    /// not in their place; and for ever, once somebody else was seen to have changed its schema.
    /// Beside it, has accounts share the calls that are written down while there is little room.
    pub fn follow_disk(self: &Arc<Self>, store: &Arc<Store>, shutdown: &Shutdown) {
        let (scarce, measured) = (Arc::clone(&self.scarce), Arc::clone(store));
        let stop = shutdown.token().clone();
        shutdown.spawn("room", async move {
            let measure = async {
                let disk = directory_of(measured.path());
                loop {
                    if let Ok((left, of)) = room(disk)
                        && scarce.measured(left, of, disk)
                    {
                        measured.shrink().await;
                    }
                    tokio::time::sleep(MEASURE).await;
                }
            };
            stop.run_until_cancelled(measure).await;
        });
        let (handle, store) = (Arc::clone(self), Arc::clone(store));
        let stop = shutdown.token().clone();
        shutdown.spawn("disk", async move {
            stop.run_until_cancelled(follow(&handle, &store)).await;
        });
    }
}

/// That the disk of a database has little left: of its directory, where its log grows and snapshots are.
#[must_use]
pub fn little_left(database: &Path) -> Option<String> {
    let directory = directory_of(database);
    let (left, _) = room(directory).ok().filter(|room| is_little(*room))?;
    Some(format!(
        "the disk of {} has {} left; make room: each account has {CALLS} calls a minute that are written down, and what cannot be written is refused",
        directory.display(),
        human::bytes(left)
    ))
}

/// Of what is left and of all.
fn is_little((left, of): (u64, u64)) -> bool {
    left < reserve(of)
}

async fn follow(handle: &Handle, store: &Arc<Store>) {
    let (mut full, mut unfit) = (store.full(), store.unfit());
    let mut was_moved = None;
    loop {
        if unfit.borrow_and_update().is_some() {
            // Nothing is written any more until a restart.
            handle.writable.send_replace(false);
            return;
        }
        let is_full = *full.borrow_and_update();
        let moved = store.moved().map(|why| why.to_string());
        match (&was_moved, &moved) {
            (None, Some(why)) => tracing::error!("{why}"),
            (Some(_), None) => tracing::info!("the database is where it was opened again"),
            _ => {}
        }
        was_moved.clone_from(&moved);
        let writable = !is_full && moved.is_none();
        handle.writable.send_replace(writable);
        // They are closed with the store, which is held here.
        tokio::select! {
            _ = full.changed() => {}
            _ = unfit.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        if is_full {
            // Its log may hold what is missing.
            store.shrink().await;
            // Why it fails is known.
            let _ = store.probe().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use mc_testkit::clock::FakeClock;

    use super::*;
    use crate::server::access::tests::caller;

    /// Of a large disk.
    const SCARCE: u64 = 1 << 30;

    #[test]
    fn nobody_takes_what_little_room_is_left() {
        let clock = FakeClock::new();
        let scarce = Scarce::by(Clock::of(clock.source()));
        let named = |name: &str, role: &str| {
            let mut who = caller("/s/Do", true).identity.unwrap();
            (who.account, who.roles) = (name.to_owned(), vec![role.to_owned()]);
            who
        };
        let (busy, other, admin) = (
            named("busy", "user"),
            named("other", "user"),
            named("root", "admin"),
        );
        let calls = |who: Option<&Identity>| {
            let admitted = (0..1000).filter(|_| scarce.admit(who).is_ok());
            admitted.count()
        };
        let disk = Path::new("/srv");
        for (description, left, of, most) in [
            ("much room", 50 * SCARCE, 100 * SCARCE, 1000),
            ("little of a large disk", SCARCE - 1, 100 * SCARCE, 60),
            ("room again", SCARCE, 100 * SCARCE, 1000),
            ("room on a small disk", 20 << 20, 100 << 20, 1000),
            ("little of a small disk", 9 << 20, 100 << 20, 60),
        ] {
            clock.advance(WINDOW);
            scarce.measured(left, of, disk);
            assert_eq!(calls(Some(&busy)), most, "{description}");
            assert_eq!(calls(Some(&other)), most, "{description}: another");
            assert_eq!(calls(Some(&admin)), 1000, "{description}: who makes room");
            assert_eq!(calls(None), 1000, "{description}: without a token");
        }
        assert_eq!(calls(Some(&busy)), 0);
        clock.advance(WINDOW);
        assert_eq!(calls(Some(&busy)), 60, "the next minute");
        for n in 0..MAX_ACCOUNTS {
            let _ = scarce.admit(Some(&named(&n.to_string(), "user")));
        }
        assert!(scarce.window.lock().unwrap().calls.len() <= MAX_ACCOUNTS + 1);
        assert!(scarce.metrics().ends_with("disk_scarce 1\n"));
    }
}
