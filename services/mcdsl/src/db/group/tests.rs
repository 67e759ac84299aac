use std::sync::mpsc;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{super::Migration, *};

const SCHEMA: Migration = Migration {
    version: 1,
    name: "start",
    sql: "CREATE TABLE t (x INTEGER NOT NULL UNIQUE) STRICT;
          CREATE TABLE child (x INTEGER REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED) STRICT;
          CREATE TABLE large (x BLOB) STRICT",
};

struct World {
    _directory: TempDir,
    store: Arc<Store>,
    /// What was put in force, in order.
    in_force: Arc<Mutex<Vec<i64>>>,
}

type Answer = JoinHandle<Result<(), StoreError>>;

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        Self {
            _directory: directory,
            store,
            in_force: Arc::default(),
        }
    }

    /// In line behind all before it.
    async fn write(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Answer {
        let before = self.store.waiting();
        let store = Arc::clone(&self.store);
        let answer = tokio::spawn(async move { store.write(change).await });
        self.until(before + 1).await;
        answer
    }

    /// As [`Self::write`], for whom this task works.
    async fn write_as(&self, number: i64) -> Answer {
        let before = self.store.waiting();
        let store = Arc::clone(&self.store);
        let write = async move { store.write(insert(number)).await };
        let answer = tokio::spawn(super::super::asker::carried(write));
        self.until(before + 1).await;
        answer
    }

    /// With what puts it in force.
    async fn write_then(&self, number: i64) -> Answer {
        let before = self.store.waiting();
        let (store, in_force) = (Arc::clone(&self.store), Arc::clone(&self.in_force));
        let then = move |()| in_force.lock().unwrap().push(number);
        let answer = tokio::spawn(async move { store.write_then(insert(number), then).await });
        self.until(before + 1).await;
        answer
    }

    async fn until(&self, waiting: usize) {
        while self.store.waiting() < waiting {
            tokio::task::yield_now().await;
        }
    }

    /// Has the writer wait until what it gives is dropped: who comes meanwhile is in its commit.
    async fn hold(&self) -> (mpsc::Sender<()>, Answer) {
        let (go_on, wait) = mpsc::channel();
        let (begun, begins) = oneshot::channel();
        let held = self.write(move |_| {
            begun.send(()).unwrap();
            let _ = wait.recv();
            Ok(())
        });
        let held = held.await;
        begins.await.unwrap();
        (go_on, held)
    }

    async fn all(&self) -> Vec<i64> {
        let read = |db: &Connection| -> Result<Vec<i64>, StoreError> {
            let mut all = db.prepare("SELECT x FROM t ORDER BY rowid")?;
            let rows = all.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.store.read(read).await.unwrap()
    }

    fn commits(&self) -> u32 {
        self.store.line.state().commits
    }
}

fn insert(number: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send {
    move |tx| {
        tx.execute("INSERT INTO t VALUES (?1)", [number])?;
        Ok(())
    }
}

async fn ended(answer: Answer) -> &'static str {
    match answer.await.unwrap() {
        Ok(()) => "written",
        Err(StoreError::Thread) => "panicked",
        Err(error) if super::super::is_unwritable(&error) => "full",
        Err(StoreError::Sqlite(_)) => "refused",
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_waits_shares_a_commit_and_who_fails_fails_alone() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let mut answers = Vec::new();
    for number in [1, 2] {
        answers.push(world.write(insert(number)).await);
    }
    let twice = |tx: &Transaction<'_>| {
        insert(3)(tx)?;
        insert(1)(tx)
    };
    answers.push(world.write(twice).await);
    let panics = |tx: &Transaction<'_>| {
        insert(4)(tx)?;
        panic!("on purpose")
    };
    answers.push(world.write(panics).await);
    answers.push(world.write(insert(5)).await);
    drop(go_on);
    let mut told = vec![ended(held).await];
    for answer in answers {
        told.push(ended(answer).await);
    }
    let wanted = [
        "written", "written", "written", "refused", "panicked", "written",
    ];
    assert_eq!(told, wanted);
    assert_eq!(world.all().await, [1, 2, 5]);
    assert_eq!(world.commits(), 1);
    assert!(!*world.store.full().borrow());
}

#[tokio::test]
async fn the_first_one_that_fails_leaves_nothing_either() {
    let world = World::new();
    for fails in [true, false, true] {
        let change = move |tx: &Transaction<'_>| {
            insert(if fails { 1 } else { 2 })(tx)?;
            match fails {
                true => Err(StoreError::Busy),
                false => Ok(()),
            }
        };
        let written = world.store.write(change).await;
        assert_eq!(written.is_err(), fails);
    }
    assert_eq!(world.all().await, [2]);
}

#[tokio::test]
async fn what_is_put_in_force_is_before_the_next_change() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let mut answers = Vec::new();
    answers.push(world.write(insert(1)).await);
    answers.push(world.write_then(2).await);
    let in_force = Arc::clone(&world.in_force);
    let sees = move |tx: &Transaction<'_>| {
        assert_eq!(*in_force.lock().unwrap(), [2]);
        insert(3)(tx)
    };
    answers.push(world.write(sees).await);
    answers.push(world.write_then(4).await);
    answers.push(world.write_then(5).await);
    drop(go_on);
    assert_eq!(ended(held).await, "written");
    for answer in answers {
        assert_eq!(ended(answer).await, "written");
    }
    assert_eq!(*world.in_force.lock().unwrap(), [2, 4, 5]);
    assert_eq!(world.all().await, [1, 2, 3, 4, 5]);
    assert_eq!(world.commits(), 3);
}

/// The number is taken by a change that is not committed in the end: it is free.
#[tokio::test]
async fn what_failed_by_what_was_not_committed_is_not_told_so() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let orphan = |tx: &Transaction<'_>| {
        tx.execute("INSERT INTO child VALUES (9)", [])?;
        insert(1)(tx)
    };
    let taken = |tx: &Transaction<'_>| match insert(1)(tx) {
        Err(_) => Err(StoreError::Busy),
        done => done,
    };
    let answers = [world.write(orphan).await, world.write(taken).await];
    drop(go_on);
    let mut told = vec![ended(held).await];
    for answer in answers {
        told.push(ended(answer).await);
    }
    assert_eq!(told, ["refused", "refused", "refused"]);
    assert_eq!(world.all().await, [0; 0]);
}

#[tokio::test]
async fn whose_changes_they_are_takes_turns() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let known = |name: &str| {
        let account = Arc::new(std::sync::OnceLock::new());
        account.set(name.into()).unwrap();
        Some(super::super::Asker {
            network: "192.0.2.1/32".parse().unwrap(),
            account,
        })
    };
    let mut answers = Vec::new();
    for (name, number) in [
        ("many", 1),
        ("many", 2),
        ("many", 3),
        ("few", 4),
        ("many", 5),
    ] {
        answers.push(super::super::asked_by(known(name), world.write_as(number)).await);
    }
    drop(go_on);
    ended(held).await;
    for answer in answers {
        assert_eq!(ended(answer).await, "written");
    }
    assert_eq!(world.all().await, [1, 4, 2, 3, 5]);
}

#[tokio::test]
async fn a_commit_that_fails_fails_for_all_of_it() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let orphan = |tx: &Transaction<'_>| {
        tx.execute("INSERT INTO child VALUES (9)", [])?;
        Ok(())
    };
    let answers = [
        world.write(insert(1)).await,
        world.write(orphan).await,
        world.write_then(2).await,
        world.write_then(3).await,
    ];
    drop(go_on);
    let mut told = vec![ended(held).await];
    for answer in answers {
        told.push(ended(answer).await);
    }
    assert_eq!(
        told,
        ["refused", "refused", "refused", "refused", "written"]
    );
    assert_eq!(world.all().await, [3]);
    assert_eq!(*world.in_force.lock().unwrap(), [3]);
}

#[tokio::test]
async fn a_full_disk_is_told_to_all_and_noted() {
    let world = World::new();
    let pages = |number: u32| {
        move |tx: &Transaction<'_>| {
            tx.pragma_update(None, "max_page_count", number)?;
            Ok::<_, StoreError>(())
        }
    };
    let full = world.store.full();
    world.store.write(pages(30)).await.unwrap();
    let (go_on, held) = world.hold().await;
    let fill = |tx: &Transaction<'_>| {
        tx.execute("INSERT INTO large VALUES (zeroblob(1 << 20))", [])?;
        Ok(())
    };
    let (small, large) = (world.write(insert(1)).await, world.write(fill).await);
    drop(go_on);
    assert_eq!(ended(large).await, "full");
    // With the others, or alone, as SQLite has it: what was told is so.
    ended(held).await;
    let wanted: &[i64] = match ended(small).await {
        "written" => &[1],
        "full" => &[],
        other => panic!("{other}"),
    };
    assert_eq!(world.all().await, wanted);
    assert!(world.store.write(fill).await.is_err() && *full.borrow());
    world.store.write(pages(1 << 20)).await.unwrap();
    world.store.write(insert(2)).await.unwrap();
    assert!(!*full.borrow(), "there is room again");
}

#[tokio::test]
async fn who_gives_up_in_line_changes_nothing_and_a_commit_is_bounded() {
    let world = World::new();
    let (go_on, held) = world.hold().await;
    let gone = world.write(insert(1000)).await;
    gone.abort();
    assert!(gone.await.is_err());
    let many = i64::try_from(MOST).unwrap();
    let mut answers = Vec::new();
    for number in 0..many {
        answers.push(world.write(insert(number)).await);
    }
    drop(go_on);
    assert_eq!(ended(held).await, "written");
    for answer in answers {
        assert_eq!(ended(answer).await, "written");
    }
    assert_eq!(world.all().await, (0..many).collect::<Vec<_>>());
    assert_eq!(world.commits(), 2);
}

#[test]
fn a_runtime_that_ends_leaves_the_database_to_the_next() {
    let world = World::new();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.build().unwrap()
    };
    let (first, store) = (runtime(), Arc::clone(&world.store));
    let (go_on, wait) = mpsc::channel::<()>();
    first.spawn(async move {
        let slow = move |_: &Transaction<'_>| -> Result<(), StoreError> {
            let _ = wait.recv();
            Ok(())
        };
        store.write(slow).await
    });
    first.block_on(world.until(1));
    first.shutdown_background();
    drop(go_on);
    runtime().block_on(world.store.write(insert(1))).unwrap();
}
