mod attempts;
mod changed;
mod cut;

use std::{path::Path, time::Duration};

use mc_testkit::clock::FakeClock;
use mcdsl::db::Migration;
use tempfile::TempDir;

use super::*;

pub(super) const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};
const ALL: Wanted = Wanted {
    cost: CHEAP,
    recovery: true,
    shares: Some((2, 3)),
};
const HERE: &str = "127.0.0.1";
const THERE: &str = "192.0.2.1";
const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "seal", SCHEMA),
    Migration::new(2, "told", "CREATE TABLE told (what TEXT) STRICT"),
];

pub(super) struct World {
    directory: TempDir,
    clock: FakeClock,
    pub(super) seal: Seal,
}

fn text(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// Nothing is written to a log.
pub(super) fn nothing() -> Log {
    Box::new(|_| Ok(()))
}

fn password(word: &str) -> Secret {
    Secret::Password(text(word))
}

fn database(directory: &Path) -> Arc<Store> {
    Store::open(&directory.join("metacrypt.db"), MIGRATIONS).unwrap()
}

impl World {
    pub(super) async fn new() -> (Self, Fresh) {
        let directory = tempfile::tempdir().unwrap();
        let clock = FakeClock::new();
        let seal = Seal::new(database(directory.path()), Clock::of(clock.source()));
        assert!(matches!(
            seal.open(password("one"), HERE.parse().unwrap(), |_, _| Ok(()))
                .await,
            Err(SealError::NotInitialised)
        ));
        let fresh = seal.init(text("one"), ALL).await.unwrap();
        let world = Self {
            directory,
            clock,
            seal,
        };
        (world, fresh)
    }

    /// As after a restart.
    fn restart(&mut self) {
        let clock = self.seal.clock.clone();
        self.seal = Seal::new(database(self.directory.path()), clock);
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) async fn open(&self, secret: Secret) -> Result<Unsealed, SealError> {
        self.open_from(secret, HERE).await
    }

    async fn open_from(&self, secret: Secret, source: &str) -> Result<Unsealed, SealError> {
        let source = source.parse().unwrap();
        self.seal.open(secret, source, |_, _| Ok(())).await
    }

    async fn opens(&self, word: &str) -> bool {
        self.open(password(word)).await.is_ok()
    }

    pub(super) fn db(&self) -> Connection {
        Connection::open(self.directory.path().join("metacrypt.db")).unwrap()
    }
}

#[tokio::test]
async fn each_secret_opens_what_was_put_behind_it() {
    let (world, fresh) = World::new().await;
    let again = world.seal.init(text("two"), ALL).await;
    assert!(matches!(again, Err(SealError::Initialised)), "{again:?}");
    let mut unsealed = world.open(password("one")).await.unwrap();
    world
        .seal
        .mount(&mut unsealed, "pki", "pki", nothing())
        .await
        .unwrap();
    let db = world.db();
    let items = unsealed.mounts()["pki"].items(&db);
    items.put("issuer/infra", &"private").unwrap();
    let recovery = Secret::Recovery(fresh.recovery.unwrap());
    let shares = Secret::Shares(fresh.shares[1..].to_vec());
    for secret in [password("one"), recovery, shares] {
        let kind = secret.kind();
        let unsealed = world.open(secret).await.unwrap();
        assert_eq!(
            unsealed.mounts().keys().collect::<Vec<_>>(),
            ["pki", SYSTEM]
        );
        let got = unsealed.mounts()["pki"].items(&db).get("issuer/infra");
        assert_eq!(got.unwrap(), Some("private".to_owned()), "{kind}");
    }
    let status = world.seal.status().await.unwrap().unwrap();
    let wanted = Status {
        generation: 1,
        recovery: true,
        shares: Some((2, 3)),
    };
    assert_eq!(status, wanted);
    let again = world
        .seal
        .mount(&mut unsealed, "pki", "transit", nothing())
        .await;
    assert!(matches!(again, Err(SealError::MountExists(name)) if name == "pki"));
    let pki = unsealed.take("pki").unwrap();
    world.seal.unmount(&unsealed, pki, nothing()).await.unwrap();
    for none in [SYSTEM, "pki"] {
        let none = unsealed.take(none).map(drop);
        assert!(matches!(none, Err(SealError::NoMount(_))), "{none:?}");
    }
    let again = world.open(password("one")).await.unwrap();
    assert_eq!(again.mounts().keys().collect::<Vec<_>>(), [SYSTEM]);
    let key = "SELECT length(data_key) FROM mount WHERE name IS NULL";
    let key: i64 = db.query_row(key, [], |r| r.get(0)).unwrap();
    assert_eq!(key, 0, "its key is gone at once");
    assert!(world.seal.sweep().await.unwrap());
    for (table, wanted) in [("item", 0), ("mount", 1)] {
        let left = format!("SELECT count(*) FROM {table}");
        let left: i64 = db.query_row(&left, [], |r| r.get(0)).unwrap();
        assert_eq!(left, wanted, "{table}");
    }
    assert!(!world.seal.sweep().await.unwrap());
}

#[tokio::test]
async fn another_password_and_another_master_key_end_the_one_before() {
    let (world, fresh) = World::new().await;
    let mut unsealed = world.open(password("one")).await.unwrap();
    world
        .seal
        .mount(&mut unsealed, "pki", "pki", nothing())
        .await
        .unwrap();
    let db = world.db();
    unsealed.mounts()[SYSTEM].items(&db).put("a/b", &7).unwrap();
    world
        .seal
        .set_password(&unsealed, text("two"), CHEAP, nothing())
        .await
        .unwrap();
    assert!(world.opens("two").await && !world.opens("one").await);
    let recovery = || Secret::Recovery(fresh.recovery.clone().unwrap());
    assert!(world.open(recovery()).await.is_ok(), "it stays");
    let before: Vec<u8> = db
        .query_row("SELECT value FROM item", [], |r| r.get(0))
        .unwrap();
    let wanted = Wanted {
        shares: None,
        ..ALL
    };
    let made = world
        .seal
        .rotate(&mut unsealed, text("three"), wanted, nothing())
        .await
        .unwrap();
    let after: Vec<u8> = db
        .query_row("SELECT value FROM item", [], |r| r.get(0))
        .unwrap();
    assert_eq!(before, after, "data are not written again");
    assert!(world.open(recovery()).await.is_err(), "that of before");
    assert!(!world.opens("two").await);
    world.pass(1000);
    let shares = world
        .open(Secret::Shares(fresh.shares.clone()))
        .await
        .map(drop);
    assert!(
        matches!(shares, Err(SealError::Slot(SlotError::Missing(_)))),
        "{shares:?}"
    );
    let again = world
        .open(Secret::Recovery(made.recovery.unwrap()))
        .await
        .unwrap();
    assert_eq!(
        again.mounts()[SYSTEM].items(&db).get("a/b").unwrap(),
        Some(7)
    );
    // Whoever opened it before another process rotated it cannot undo that.
    let mut stale = Unsealed {
        generation: 1,
        ..again
    };
    let changed = world
        .seal
        .set_password(&stale, text("four"), CHEAP, nothing());
    let changed = changed.await;
    assert!(matches!(changed, Err(SealError::Changed)), "{changed:?}");
    let pki = stale.take("pki").unwrap();
    let dropped = world.seal.unmount(&stale, pki, nothing()).await;
    assert!(matches!(dropped, Err(SealError::Changed)), "{dropped:?}");
}

#[tokio::test]
async fn what_was_put_in_another_place_is_found_out() {
    let (world, _) = World::new().await;
    let mut unsealed = world.open(password("one")).await.unwrap();
    for (name, engine) in [("a", "transit"), ("b", "transit"), ("c", "pki")] {
        world
            .seal
            .mount(&mut unsealed, name, engine, nothing())
            .await
            .unwrap();
    }
    let db = world.db();
    for name in ["a", "b"] {
        let items = unsealed.mounts()[name].items(&db);
        items.put("key/one", &name).unwrap();
        items.put("key/two", &name).unwrap();
    }
    let foreign = "SELECT value FROM item JOIN mount ON mount.number = item.mount WHERE name = 'b' AND path = 'key/one'";
    for (description, sql, mount, path) in [
        ("a value at another path", "UPDATE item SET value = (SELECT value FROM item i WHERE i.mount = item.mount AND path = 'key/two') WHERE path = 'key/one'".to_owned(), "b", "key/one"),
        ("a value of another mount", format!("UPDATE item SET value = ({foreign}) WHERE path = 'key/two'"), "a", "key/two"),
    ] {
        db.execute(&sql, []).unwrap();
        let got = unsealed.mounts()[mount].items(&db).get::<String>(path);
        assert!(matches!(got, Err(ItemError::Key(_))), "{description}: {got:?}");
    }
    for (description, sql) in [
        (
            "two keys exchanged",
            "UPDATE mount SET data_key = (SELECT data_key FROM mount WHERE name = 'a') WHERE name = 'b'",
        ),
        (
            "an engine for another's keys",
            "UPDATE mount SET engine = 'pki' WHERE name = 'a'",
        ),
        (
            "two names exchanged",
            "UPDATE mount SET name = '-' WHERE name = 'a'; UPDATE mount SET name = 'a' WHERE name = 'b';
             UPDATE mount SET name = 'b' WHERE name = '-'",
        ),
        (
            "a slot of another generation",
            "UPDATE seal SET generation = 2",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("metacrypt.db");
        db.execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
            .unwrap();
        Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
        let seal = Seal::new(Store::open(&copy, MIGRATIONS).unwrap(), Clock::default());
        let here = HERE.parse().unwrap();
        let opened = seal.open(password("one"), here, |_, _| Ok(())).await;
        assert!(opened.is_err(), "{description}");
    }
}

#[tokio::test]
async fn a_mount_lists_what_is_below_a_path() {
    let (world, _) = World::new().await;
    let unsealed = world.open(password("one")).await.unwrap();
    let db = world.db();
    let items = unsealed.mounts()[SYSTEM].items(&db);
    for path in ["a/1", "a/2", "a/3", "a", "ab/1", "b/1", "a-/1"] {
        items.put(path, &path).unwrap();
    }
    let names = items.names("a/", "a/1", 9).unwrap();
    assert_eq!(names, ["a/2", "a/3"], "without their values");
    let paths = |found: Vec<(String, String)>| {
        found
            .into_iter()
            .map(|(p, v)| {
                assert_eq!(p, v);
                p
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths(items.list("a/", "", 9).unwrap()),
        ["a/1", "a/2", "a/3"]
    );
    assert_eq!(paths(items.list("a/", "a/1", 1).unwrap()), ["a/2"]);
    assert_eq!(paths(items.list("c/", "", 9).unwrap()), [""; 0]);
    assert!(items.delete("a/2").unwrap() && !items.delete("a/2").unwrap());
    let long = "x".repeat(items::MAX_VALUE);
    assert!(matches!(
        items.put("long", &long),
        Err(ItemError::TooLong { .. })
    ));
}
