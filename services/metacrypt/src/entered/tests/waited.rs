//! What has waited since it was judged.

use std::sync::mpsc;

use tokio::task::JoinHandle;

use super::*;
use crate::{barrier::SealError, testing::nothing};

async fn forbid(world: &World, name: &'static str) {
    let by = caller(
        "root",
        "admin",
        "/metacircular.metacrypt.v1.System/DeleteRule",
    );
    let delete = move |all: &mut Vec<Rule>| policy::delete(all, name);
    let changed = world
        .metacrypt
        .change_policy(&by, false, Detail::new(), delete);
    changed.await.unwrap();
}

fn enter(world: &World, who: &str, on: &[&str]) -> Result<Arc<Entered>, EngineError> {
    let caller = caller(who, "user", "/test/Do");
    world
        .metacrypt
        .enter(&caller, &KIND, action::READ, "vault", on)
}

async fn put(at: Arc<Entered>) -> Result<(), EngineError> {
    let put = |items: &Items<'_>, _: &Entered| Ok(items.put("late", &1)?);
    at.record(Detail::new(), put).await
}

#[tokio::test]
async fn nobody_writes_into_the_mount_that_comes_after_his() {
    let world = World::vault().await;
    let own = || world.metacrypt.own(&KIND, "vault", "test.late").unwrap();
    let late = own();
    let removed = world.metacrypt.unmount("vault", true, nothing());
    removed.await.unwrap();
    for description in ["removed", "deleted", "made again"] {
        match description {
            "deleted" => assert!(world.metacrypt.seal.sweep().await.unwrap()),
            "made again" => {
                let made = world.metacrypt.mount("vault", "transit", nothing());
                made.await.unwrap();
            }
            _ => {}
        }
        let told = [
            told(put(Arc::clone(&late)).await),
            told(late.done(Detail::new()).await),
            told(late.keep(|items, _| Ok(items.put("late", &1)?)).await),
        ];
        let wanted = "NotFound: there is no mount \"vault\"";
        assert_eq!(told, [wanted; 3], "{description}");
    }
    let found = own().read(|items, _| Ok(items.get::<u32>("late")?)).await;
    assert_eq!(found.unwrap(), None);
    put(own()).await.unwrap();
}

#[tokio::test]
async fn what_was_allowed_is_judged_again_by_the_policy_of_its_commit() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "a", false, "ada", &["vault/keys/a"]).await;
    allow(&world, "red", false, "ada", &["vault/sorts/red"]).await;
    let one = enter(&world, "ada", &["keys", "a"]).unwrap();
    let root = caller("root", "admin", "/test/Do");
    let by_admin = world
        .metacrypt
        .enter(&root, &KIND, action::READ, "vault", &["keys", "a"])
        .unwrap();
    let ada = caller("ada", "user", "/test/Find");
    let visit = world.metacrypt.visit(&ada, &KIND, "vault").unwrap();
    let find = |_: &Items<'_>| Ok(Some(((), vec!["sorts".to_owned(), "red".to_owned()])));
    let find = visit.find(action::READ, "thing", &["things", "1"], &["sorts"], find);
    let (found, ()) = find.await.unwrap();
    put(Arc::clone(&one)).await.unwrap();
    allow(&world, "more", false, "ada", &["vault/keys/*"]).await;
    forbid(&world, "a").await;
    put(Arc::clone(&one)).await.unwrap();
    let rows = world.audit();
    let by = rows.iter().rfind(|row| row.1 == "/test/Do").unwrap();
    assert_eq!(by.3, r#"{"by":"rule more"}"#, "by what it is allowed now");
    forbid(&world, "more").await;
    forbid(&world, "red").await;
    let before = world.audit().len();
    for (description, told, on) in [
        ("a change", told(put(Arc::clone(&one)).await), "keys/a"),
        ("an answer", told(one.done(Detail::new()).await), "keys/a"),
        ("what was found", told(put(found).await), "things/1"),
    ] {
        let wanted = format!("PermissionDenied: ada may not transit:read on vault/{on}");
        assert_eq!(told, wanted, "{description}");
    }
    assert_eq!(world.audit().len(), before, "nothing was done");
    put(by_admin).await.unwrap();
}

/// Keeps the writer, or a reader, until it is dropped.
async fn busy(world: &World, writes: bool) -> mpsc::Sender<()> {
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let store = Arc::clone(world.metacrypt.seal.store());
    let hold = move || -> Result<(), EngineError> {
        begun.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    };
    tokio::spawn(async move {
        match writes {
            true => store.write(move |_| hold()).await,
            false => store.read(move |_| hold()).await,
        }
    });
    begins.await.unwrap();
    go_on
}

/// Done behind each other: what the first part of them is comes before the second.
async fn in_line(
    work: impl Future<Output = Result<(), EngineError>> + Send + 'static,
) -> JoinHandle<String> {
    let task = tokio::spawn(async { told(work.await) });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test]
async fn a_rule_that_goes_while_others_wait_allows_none_of_them() {
    let world = World::vault().await;
    allow(&world, "a", false, "ada", &["vault/keys/a"]).await;
    let writer = busy(&world, true).await;
    let first = in_line(put(enter(&world, "ada", &["keys", "a"]).unwrap())).await;
    let (metacrypt, by) = (
        Arc::clone(&world.metacrypt),
        caller(
            "root",
            "admin",
            "/metacircular.metacrypt.v1.System/DeleteRule",
        ),
    );
    let delete = async move {
        let delete = |all: &mut Vec<Rule>| policy::delete(all, "a");
        metacrypt
            .change_policy(&by, false, Detail::new(), delete)
            .await
    };
    let deleted = in_line(delete).await;
    let mut late = Vec::new();
    for _ in 0..20 {
        let at = enter(&world, "ada", &["keys", "a"]).unwrap();
        late.push(in_line(put(at)).await);
    }
    drop(writer);
    assert_eq!(first.await.unwrap(), "OK");
    assert_eq!(deleted.await.unwrap(), "OK");
    for late in late {
        let wanted = "PermissionDenied: ada may not transit:read on vault/keys/a";
        assert_eq!(late.await.unwrap(), wanted);
    }
}

#[tokio::test]
async fn a_list_is_judged_by_the_policy_that_it_is_read_by() {
    let world = World::vault().await;
    things(&world).await;
    allow(&world, "all", false, "ada", &["vault/things/*"]).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(busy(&world, false).await);
    }
    let ada = caller("ada", "user", "/test/List");
    let list = world
        .metacrypt
        .list(&ada, &KIND, action::READ, "vault", "things")
        .unwrap();
    let read = |_: &Items<'_>, may: &dyn Fn(&str) -> bool| Ok(vec![may("1"), may("2")]);
    let list = tokio::spawn(list.read(read));
    tokio::task::yield_now().await;
    allow(&world, "not", true, "ada", &["vault/things/2"]).await;
    drop(readers);
    assert_eq!(list.await.unwrap().unwrap(), [true, false]);
}

#[tokio::test]
async fn who_has_no_turn_when_the_seal_closes_gets_none() {
    let world = World::vault().await;
    let writer = busy(&world, true).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(busy(&world, false).await);
    }
    let own = || world.metacrypt.own(&KIND, "vault", "test.late").unwrap();
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let (reads_at, writes_at) = (own(), own());
        reads.push(in_line(async move { reads_at.read(|_, _| Ok(())).await }).await);
        writes.push(in_line(put(writes_at)).await);
    }
    let metacrypt = Arc::clone(&world.metacrypt);
    let closed = tokio::spawn(async move { metacrypt.close().await });
    let sealed = told::<()>(Err(SealError::Sealed.into()));
    // All readers are busy still.
    for read in reads {
        assert_eq!(read.await.unwrap(), sealed);
    }
    drop(writer);
    for write in writes {
        assert_eq!(write.await.unwrap(), sealed);
    }
    closed.await.unwrap();
    drop(readers);
}

#[tokio::test]
async fn a_mount_is_there_until_its_removal_is_committed() {
    let world = World::vault().await;
    let at = world.metacrypt.own(&KIND, "vault", "test.keeps").unwrap();
    // A key that cannot be read.
    let kept = at.keep(|items, _| Ok(items.put("keys/k", &1)?));
    kept.await.unwrap();
    let writer = busy(&world, true).await;
    let metacrypt = Arc::clone(&world.metacrypt);
    let removed = async move {
        metacrypt.unmount("vault", false, nothing()).await?;
        Ok(())
    };
    let removed = in_line(removed).await;
    let is_there = || {
        let open = world.metacrypt.open().unwrap();
        open.mounts().contains_key("vault")
    };
    assert!(is_there(), "while it waits");
    drop(writer);
    let told = removed.await.unwrap();
    let kept = "FailedPrecondition: it is not removed, for it has what cannot be read";
    assert!(told.starts_with(kept), "{told}");
    assert!(is_there(), "and when it was refused");
}
