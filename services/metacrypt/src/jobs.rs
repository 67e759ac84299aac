//! What the service does of itself: the jobs of engines in each of their mounts while the seal is open, and the deletion of what removed mounts had.

use std::{sync::Arc, time::Duration};

use mcdsl::shutdown::Shutdown;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    core::Metacrypt,
    engine::{Job, KINDS, Kind},
};

/// For one piece of a job.
const LONGEST: Duration = Duration::from_secs(30);
/// Pieces for one mount at once; the rest is for the next time.
const PIECES: usize = 1000;
/// Until it is tried again to delete what could not be.
const AGAIN: Duration = Duration::from_secs(600);

/// Until it is tried again to have what was changed or deleted out of the file and the log, which somebody's reading has kept from it.
const SOON: Duration = Duration::from_secs(5);

/// Starts all of it; it stops with `shutdown`.
pub(crate) fn start(metacrypt: &Arc<Metacrypt>, shutdown: &Shutdown) {
    for kind in KINDS {
        if let Some(job) = &kind.job {
            let (metacrypt, stop) = (Arc::clone(metacrypt), shutdown.token().clone());
            shutdown.spawn(job.name, async move {
                stop.run_until_cancelled(repeat(&metacrypt, kind, job))
                    .await;
            });
        }
    }
    let (metacrypt, stop) = (Arc::clone(metacrypt), shutdown.token().clone());
    shutdown.spawn("sweep", async move {
        stop.run_until_cancelled(sweep(&metacrypt)).await;
    });
}

async fn repeat(metacrypt: &Arc<Metacrypt>, kind: &'static Kind, job: &Job) {
    let mut opened = metacrypt.gate.opened();
    loop {
        opened.mark_unchanged();
        round(metacrypt, kind, job).await;
        wait(job.every, &mut opened).await;
    }
}

async fn wait(time: Duration, opened: &mut watch::Receiver<u64>) {
    tokio::select! {
        () = sleep(time) => {}
        // Its sender is as old as the service.
        _ = opened.changed() => {}
    }
}

/// Does it once in each mount. Between its pieces the seal may be closed.
pub(crate) async fn round(metacrypt: &Arc<Metacrypt>, kind: &'static Kind, job: &Job) {
    let Ok(open) = metacrypt.open() else { return };
    let ours = open
        .mounts()
        .values()
        .filter(|mount| mount.engine() == kind.name);
    let names: Vec<_> = ours.map(|mount| mount.name().to_owned()).collect();
    drop(open);
    if let Err(error) = metacrypt.keep_time().await {
        tracing::warn!(%error, "the time cannot be written down; if it stays so, a restart forgets nothing for a day");
    }
    for mount in names {
        for _ in 0..PIECES {
            let Ok(at) = metacrypt.own(kind, &mount, job.name) else {
                break;
            };
            let failed = match timeout(LONGEST, (job.run)(at)).await {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => break,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it took longer than {LONGEST:?}"),
            };
            tracing::error!(
                job = job.name,
                mount,
                error = failed,
                "it is done again later"
            );
            break;
        }
    }
}

async fn sweep(metacrypt: &Metacrypt) {
    loop {
        match metacrypt.seal.sweep().await {
            Ok(false) if metacrypt.seal.is_settled() => {}
            Ok(_) => metacrypt.seal.settle().await,
            Err(error) => {
                let error = mcdsl::cli::chain(&error);
                tracing::warn!(error, "what a removed mount had cannot be deleted yet");
            }
        }
        // In any case at times: it may have failed.
        let again = match metacrypt.seal.is_settled() {
            true => AGAIN,
            false => SOON,
        };
        let _ = timeout(again, metacrypt.removed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use mcdsl::audit::Detail;

    use super::*;
    use crate::{
        barrier::{Items, SealError},
        engine::{EngineError, transit},
        entered::Entered,
        testing::{World, nothing},
    };

    /// Counts to three in a mount, one a piece.
    const COUNTS: Kind = Kind {
        job: Some(Job {
            name: "test.count",
            every: Duration::from_secs(1),
            run: |at| {
                Box::pin(async move {
                    let count = |items: &Items<'_>, _: &Entered| {
                        let number = items.get::<u32>("count")?.unwrap_or_default() + 1;
                        items.put("count", &number)?;
                        Ok(number)
                    };
                    let number = at.change(Detail::new(), count, |number, _| number).await?;
                    Ok(number < 3)
                })
            },
        }),
        ..transit::KIND
    };

    #[tokio::test]
    async fn a_job_is_done_in_each_mount_piece_by_piece_while_the_seal_is_open() {
        let world = World::vault().await;
        let other = world.metacrypt.mount("other", "transit", nothing());
        other.await.unwrap();
        let job = COUNTS.job.as_ref().unwrap();
        let done = || {
            let rows = world.audit().into_iter();
            let ours = rows.filter(|row| row.1 == "test.count");
            ours.map(|(who, _, on, _)| (who, on)).collect::<Vec<_>>()
        };
        round(&world.metacrypt, &COUNTS, job).await;
        let mut wanted = vec![(None, "other".to_owned()); 3];
        wanted.extend(vec![(None, "vault".to_owned()); 3]);
        assert_eq!(done(), wanted);
        assert!(
            world.metacrypt.close().now_or_never().is_some(),
            "it holds nothing"
        );
        round(&world.metacrypt, &COUNTS, job).await;
        assert_eq!(done().len(), 6, "nothing while it is sealed");
    }

    #[tokio::test]
    async fn what_a_removed_mount_had_is_deleted() {
        let world = World::vault().await;
        let at = world.metacrypt.own(&transit::KIND, "vault", "test.fill");
        let fill = |items: &Items<'_>, _: &Entered| {
            for number in 0..1000 {
                items.put(&format!("many/{number}"), &"PLAIN")?;
            }
            Ok(())
        };
        let at = at.unwrap();
        at.keep(fill).await.unwrap();
        world
            .metacrypt
            .unmount("vault", true, nothing())
            .await
            .unwrap();
        // Who is in it still changes nothing any more.
        let late = |items: &Items<'_>, _: &Entered| Ok(items.put("late", &1)?);
        let late = at.keep(late).await;
        assert!(
            matches!(late, Err(EngineError::Seal(SealError::NoMount(_)))),
            "{late:?}"
        );
        drop(at);
        assert!(world.metacrypt.seal.sweep().await.unwrap());
        let sql = "SELECT count(*) FROM item";
        let left: i64 = world.db().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}
