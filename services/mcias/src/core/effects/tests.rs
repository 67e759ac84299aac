use std::time::Duration;

use mc_testkit::wait_for_async;
use mcdsl::auth::Revoked;

use super::*;
use crate::{
    by::By,
    core::{
        Change,
        testing::{Busy, mcias},
    },
};

fn by() -> By {
    By::path("/test", [192, 0, 2, 1].into(), None)
}

/// A new key, and nothing of the one before is valid.
fn rotate(mcias: &Arc<Mcias>) -> impl FnOnce(&mut Change<'_>) -> Result<(), Error> + use<> {
    let this = Arc::clone(mcias);
    move |change: &mut Change<'_>| {
        let kept = keys::create(change.tx, &this.seal, change.now)?;
        let sql = "DELETE FROM signing_key WHERE kid <> ?1";
        change.tx.execute(sql, [kept])?;
        change.read_again();
        change.revoke_everything()
    }
}

fn is_in_force(mcias: &Mcias, stolen: &str) -> bool {
    let keys = mcias.keys();
    let dropped = keys.kid != stolen && keys.public.len() == 1;
    let state = mcias.revocations.state();
    let told = state
        .revocations
        .iter()
        .any(|r| r.what == Revoked::Everything);
    assert_eq!(dropped, told, "one of both");
    dropped
}

#[tokio::test]
async fn what_is_committed_is_in_force_although_nobody_can_read() {
    let (_directory, mcias) = mcias().await;
    let stolen = mcias.keys().kid.clone();
    let busy = Busy::reading(&mcias.store).await;
    mcias.write(by(), rotate(&mcias)).await.unwrap();
    assert!(is_in_force(&mcias, &stolen));
    let ban = fail(&mcias);
    mcias.ban(&by(), ban).await.unwrap();
    assert_eq!(mcias.bans.state().len(), 1);
    busy.let_go().await;
}

#[tokio::test]
async fn what_is_committed_is_in_force_although_nobody_waits_for_it() {
    let (_directory, mcias) = mcias().await;
    let stolen = mcias.keys().kid.clone();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let change = rotate(&mcias);
    let this = Arc::clone(&mcias);
    let asked = tokio::spawn(async move {
        let change = move |made: &mut Change<'_>| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            change(made)
        };
        this.write(by(), change).await
    });
    has_begun.await.unwrap();
    asked.abort();
    assert!(asked.await.is_err());
    assert!(!is_in_force(&mcias, &stolen));
    go_on.send(()).unwrap();
    let in_force = async || is_in_force(&mcias, &stolen).then_some(());
    wait_for_async("the new key", in_force).await.unwrap();
}

/// Fails until it is to be banned.
fn fail(mcias: &Mcias) -> bans::Pending {
    let ban = (0..1000).find_map(|_| mcias.source_failed(by().source, mcias.now()));
    ban.expect("a ban")
}

#[tokio::test]
async fn a_ban_that_is_not_committed_comes_again() {
    let (_directory, mcias) = mcias().await;
    let busy = Busy::writing(&mcias.store).await;
    let first = fail(&mcias);
    let (length, now) = (Duration::from_secs(3600), mcias.now());
    let refused = mcias.ban(&by(), first).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(mcias.bans.state().is_empty());
    busy.let_go().await;
    let again = mcias.source_failed(by().source, mcias.now()).unwrap();
    let wanted = again.ban();
    assert_eq!(wanted.bans, 1, "as long as the first");
    assert!(wanted.until >= now + length);
    let rolled_back = move |change: &mut Change<'_>| {
        change.ban(again)?;
        Err::<(), _>(Error::Internal("the change fails"))
    };
    mcias.write(by(), rolled_back).await.unwrap_err();
    assert!(mcias.bans.state().is_empty());
    let last = mcias.source_failed(by().source, mcias.now()).unwrap();
    mcias.ban(&by(), last).await.unwrap();
    assert_eq!(mcias.bans.state().len(), 1);
    assert!(mcias.source_failed(by().source, mcias.now()).is_none());
}
