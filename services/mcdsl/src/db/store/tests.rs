use super::*;
use crate::{db::asker::MAX_WAITING, server::UNFIT};
use std::{fs::OpenOptions, os::unix::fs::FileExt as _, sync::mpsc};
use tonic::Status;

const SCHEMA: Migration = Migration {
    version: 1,
    name: "start",
    sql: "CREATE TABLE t (x INTEGER NOT NULL) STRICT",
};

fn insert(number: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send {
    move |tx| {
        tx.execute("INSERT INTO t VALUES (?1)", [number])?;
        Ok(())
    }
}

/// For whoever copies the file of a service that has stopped.
#[tokio::test]
async fn a_closed_database_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
    store.write(insert(1)).await.unwrap();
    let rows = store.rows("SELECT x FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.await.unwrap(), [1]);
    let files = || {
        let files = std::fs::read_dir(directory.path()).unwrap();
        files
            .map(|file| file.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert_eq!(files().len(), 3, "with its -wal and -shm: {:?}", files());
    // Whoever carries a write holds it a moment longer.
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
    drop(store);
    assert_eq!(files(), ["a.db"]);
}

/// Whoever reads for long keeps SQLite's log, and nobody else.
#[tokio::test]
async fn what_can_be_settled_is_while_somebody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path, &[SCHEMA]).unwrap();
    store.write(insert(1)).await.unwrap();
    let reader = Connection::open(&path).unwrap();
    let count = |db: &Connection| {
        let sql = "SELECT count(*) FROM t";
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let begun = reader.unchecked_transaction().unwrap();
    assert_eq!(count(&begun), 1);
    assert!(!store.settle_now().unwrap(), "somebody reads");
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(count(&Connection::open(&copy).unwrap()), 1);
    store.write(insert(2)).await.unwrap();
    assert_eq!(count(&begun), 1);
    drop(begun);
    assert!(store.settle_now().unwrap());
    let log = std::fs::metadata(directory.path().join("a.db-wal"));
    assert_eq!(log.unwrap().len(), 0);
}

/// Of a full disk the log may have what is missing.
#[tokio::test]
async fn the_log_gives_back_its_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = mc_testkit::disk::Disk::over(directory.path(), 4).unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path, &[SCHEMA]).unwrap();
    store.write(insert(1)).await.unwrap();
    assert!(store.settle_now().unwrap());
    let change = async || {
        let change = |tx: &Transaction<'_>| -> Result<(), StoreError> {
            tx.execute("UPDATE t SET x = x + 1", [])?;
            Ok(())
        };
        store.write(change).await
    };
    // The same page each time: the database itself does not grow.
    for _ in 0..100 {
        change().await.unwrap();
    }
    disk.fill().unwrap();
    assert!(is_unwritable(&change().await.unwrap_err()));
    assert!(*store.full().borrow());
    store.shrink().await;
    change().await.unwrap();
    assert!(!*store.full().borrow());
}

/// Whoever copies the whole, for as long as it takes, takes no reader from others.
#[tokio::test]
async fn who_copies_is_alone_and_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
    store.write(insert(1)).await.unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let first = Arc::clone(&store);
    let slow = move |db: &Connection| -> Result<i64, StoreError> {
        begun.send(()).unwrap();
        let _ = wait.recv();
        Ok(db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
    };
    let first = tokio::spawn(async move { first.copy(slow).await });
    begins.await.unwrap();
    let mut second = Box::pin(store.copy(|_| Ok::<_, StoreError>(())));
    assert!(polled(&mut second).is_none(), "one at a time");
    let (all, together) = (
        Arc::new(std::sync::Barrier::new(READERS)),
        Arc::clone(&store),
    );
    let readers = (0..READERS).map(|_| {
        let (all, store) = (Arc::clone(&all), Arc::clone(&together));
        let read = move |_: &Connection| -> Result<(), StoreError> {
            all.wait();
            Ok(())
        };
        tokio::spawn(async move { store.read(read).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap().unwrap();
    }
    drop(go_on);
    assert_eq!(first.await.unwrap().unwrap(), 1);
    second.await.unwrap();
}

#[tokio::test]
async fn nothing_is_done_any_more_once_somebody_has_changed_the_schema() {
    const FLAW: &str = r#"has the trigger "eve" of "t", which no migration makes"#;
    for (description, back) in [
        (
            "its number is written again",
            "PRAGMA schema_version = VERSION",
        ),
        ("the trigger is dropped", "DROP TRIGGER eve"),
    ] {
        for reads in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.db");
            let store = Store::open(&path, &[SCHEMA]).unwrap();
            store.write(insert(1)).await.unwrap();
            let eve = Connection::open(&path).unwrap();
            let version = schema::version(&eve).unwrap().to_string();
            let trigger = "CREATE TRIGGER eve BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END";
            eve.execute_batch(trigger).unwrap();
            let count = async || {
                let rows = store.rows("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
                rows.await.map(drop)
            };
            let is_refused = |done: Result<(), StoreError>| match done {
                Err(StoreError::Db(DbError::Foreign { flaw, .. })) => flaw == FLAW,
                _ => false,
            };
            assert_eq!(*store.unfit().borrow(), None, "{description}");
            let first = match reads {
                true => count().await,
                false => store.write(insert(2)).await,
            };
            assert!(is_refused(first), "{description}, reads: {reads}");
            eve.execute_batch(&back.replace("VERSION", &version))
                .unwrap();
            assert!(is_refused(store.write(insert(3)).await), "{description}");
            assert!(is_refused(count().await), "{description}");
            let unfit = Unfit::Foreign(FLAW.to_owned());
            assert_eq!(*store.unfit().borrow(), Some(unfit));
            let rows: i64 = eve
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap();
            assert_eq!(rows, 1, "{description}: nothing was written");
        }
    }
}

#[tokio::test]
async fn nothing_is_done_any_more_once_pages_are_not_as_they_were_written() {
    for reads in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let store = Store::open(&path, &[SCHEMA]).unwrap();
        store.write(insert(1)).await.unwrap();
        // Whoever carries a write holds it a moment longer.
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
        drop(store);
        let db = Connection::open(&path).unwrap();
        let place = "SELECT m.rootpage, p.page_size FROM sqlite_master m, pragma_page_size() p WHERE m.name = 't'";
        let (page, size): (u32, u32) = db
            .query_row(place, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        drop(db);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let junk = vec![0xff; size as usize];
        let at = u64::from(page - 1) * u64::from(size);
        file.write_all_at(&junk, at).unwrap();

        let store = Store::open(&path, &[SCHEMA]).unwrap();
        assert_eq!(*store.unfit().borrow(), None);
        let count = async || {
            let rows = store.rows("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            rows.await.map(drop)
        };
        let first = match reads {
            true => count().await,
            false => store.write(insert(2)).await,
        };
        let first = first.unwrap_err();
        assert!(damage(&first).is_some(), "{first:?}");
        let flaw = "database disk image is malformed";
        let unfit = Unfit::Damaged(flaw.to_owned());
        assert_eq!(*store.unfit().borrow(), Some(unfit), "reads: {reads}");
        for refused in [count().await, store.write(insert(3)).await] {
            let refused = refused.unwrap_err();
            assert!(refused.is_unfit(), "{refused:?}");
            let told = refused.to_string();
            assert!(told.contains(flaw) && told.contains("restore"), "{told}");
        }
        assert!(store.unwritable().unwrap().contains("is damaged"));
        let status = Status::from(first);
        assert_eq!(status.message(), UNFIT);
    }
}

#[test]
fn who_waits_holds_no_thread_and_is_served_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        let first = Arc::clone(&store);
        let slow = move |_: &Transaction<'_>| -> Result<(), StoreError> {
            let _ = wait.recv();
            Ok(())
        };
        let mut calls = vec![tokio::spawn(async move { first.write(slow).await })];
        for number in 0..10 {
            let store = Arc::clone(&store);
            calls.push(tokio::spawn(
                async move { store.write(insert(number)).await },
            ));
        }
        while store.waiting() < calls.len() {
            tokio::task::yield_now().await;
        }
        // A thread is left to read.
        let read = |db: &Connection| -> Result<Vec<i64>, StoreError> {
            let mut all = db.prepare("SELECT x FROM t ORDER BY rowid")?;
            let rows = all.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        assert!(store.read(read).await.unwrap().is_empty());
        go_on.send(()).unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let order: Vec<i64> = (0..10).collect();
        assert_eq!(store.read(read).await.unwrap(), order);
    });
}

#[tokio::test]
async fn what_is_read_at_once_is_of_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db"), &[SCHEMA]).unwrap();
    store.write(insert(1)).await.unwrap();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let reader = Arc::clone(&store);
    let count = |db: &Connection| -> rusqlite::Result<i64> {
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    };
    let twice = move |db: &Connection| -> Result<_, StoreError> {
        let before = count(db)?;
        begun.send(()).unwrap();
        let _ = wait.recv();
        Ok((before, count(db)?))
    };
    let read = tokio::spawn(async move { reader.read(twice).await });
    begins.await.unwrap();
    store.write(insert(2)).await.unwrap();
    drop(go_on);
    assert_eq!(read.await.unwrap().unwrap(), (1, 1));
    let after = store.read(move |db| Ok::<_, StoreError>(count(db)?)).await;
    assert_eq!(after.unwrap(), 2);
}

#[tokio::test]
async fn too_many_who_wait_are_told() {
    let turns = Reading::new(1);
    let first = turns.next().await.unwrap();
    let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.next())).collect();
    for one in &mut waiting {
        assert!(polled(one).is_none(), "has its turn");
    }
    assert!(matches!(turns.next().await, Err(StoreError::Busy)));
    drop((waiting, first));
    drop(turns.next().await.unwrap());
}

/// Polled once.
fn polled<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
