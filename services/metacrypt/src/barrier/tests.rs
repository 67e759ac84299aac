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
const MIGRATIONS: &[Migration] = &[Migration::new(1, "seal", SCHEMA)];

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
async fn wrong_secrets_wait_longer_whatever_is_restarted() {
    let (mut world, fresh) = World::new().await;
    for _ in 0..3 {
        let wrong = world.open(password("wrong")).await.map(drop);
        assert!(
            matches!(wrong, Err(SealError::Slot(SlotError::Wrong))),
            "{wrong:?}"
        );
    }
    let waits = |result: Result<Unsealed, SealError>| match result.map(drop) {
        Err(SealError::Wait(wait)) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(world.open(password("one")).await), 1);
    world.restart();
    assert_eq!(
        waits(world.open(password("one")).await),
        1,
        "after a restart"
    );
    let there = world.open_from(password("wrong"), THERE).await;
    assert!(
        matches!(there.map(drop), Err(SealError::Slot(SlotError::Wrong))),
        "elsewhere nobody failed"
    );
    world.pass(1);
    assert!(!world.opens("wrong").await);
    assert_eq!(waits(world.open(password("one")).await), 2, "twice as long");
    world.pass(1000);
    let slip = world.open(Secret::Recovery(text("a slip"))).await.map(drop);
    assert!(
        matches!(slip, Err(SealError::Slot(SlotError::Slip(_)))),
        "{slip:?}"
    );
    let recovery = Secret::Recovery(fresh.recovery.unwrap());
    let opened = world.open(recovery).await.map(drop);
    assert!(opened.is_ok(), "a slip is no attempt: {opened:?}");
    assert!(!world.opens("wrong").await, "and who opens it begins anew");
    assert!(world.opens("one").await);
}

#[tokio::test]
async fn a_clock_that_is_set_neither_ends_a_wait_nor_makes_it_longer() {
    let years = Duration::from_secs(10 * 365 * 86400);
    for (description, set, restarted, waits) in [
        (
            "ahead, as it runs",
            FakeClock::set_ahead as fn(&_, _),
            false,
            8,
        ),
        ("back, as it runs", FakeClock::set_back, false, 8),
        ("back, and a restart", FakeClock::set_back, true, 8),
        (
            "ahead, and a restart: not known",
            FakeClock::set_ahead,
            true,
            0,
        ),
    ] {
        let (mut world, _) = World::new().await;
        let wait = async |world: &World| match world.open(password("one")).await {
            Ok(_) => 0,
            Err(SealError::Wait(wait)) => wait.as_secs(),
            Err(other) => panic!("{description}: {other:?}"),
        };
        for _ in 0..6 {
            world.pass(100);
            assert!(!world.opens("wrong").await);
        }
        set(&world.clock, years);
        if restarted {
            world.restart();
        }
        assert_eq!(wait(&world).await, waits, "{description}");
        world.pass(5);
        assert_eq!(wait(&world).await, waits.saturating_sub(5), "{description}");
        world.pass(3);
        assert_eq!(wait(&world).await, 0, "{description}");
    }
}

#[tokio::test]
async fn strangers_keep_nobody_out_who_was_let_in() {
    let (world, _) = World::new().await;
    let stranger = "198.51.100.7";
    world.open_from(password("one"), THERE).await.unwrap();
    for _ in 0..3 {
        let wrong = world.open_from(password("wrong"), stranger).await;
        assert!(wrong.is_err());
    }
    let more = world.open_from(password("one"), stranger).await.map(drop);
    assert!(matches!(more, Err(SealError::Wait(_))), "{more:?}");
    assert!(world.open_from(password("one"), THERE).await.is_ok());
}

#[tokio::test]
async fn strangers_have_a_line_of_their_own_and_slips_need_none() {
    let (world, fresh) = World::new().await;
    let refused = |opened: Result<Unsealed, SealError>| opened.map(drop).unwrap_err();
    let known = world.seal.lines.turn(Origin::Known).await.unwrap();
    let stranger = world.seal.lines.turn(Origin::Stranger).await.unwrap();
    let busy = refused(world.open_from(password("one"), THERE).await);
    assert!(matches!(busy, SealError::Busy), "{busy:?}");
    let share = fresh.shares[0].clone();
    for (description, source, secret) in [
        ("a slip", THERE, Secret::Recovery(text("a slip"))),
        ("a slip here", HERE, Secret::Recovery(text("a slip"))),
        ("a share alone", THERE, Secret::Shares(vec![share.clone()])),
        ("a share for a key", THERE, Secret::Recovery(share)),
    ] {
        let slip = refused(world.open_from(secret, source).await);
        let told = matches!(&slip, SealError::Slot(error) if *error != SlotError::Wrong);
        assert!(told, "{description}: {slip:?}");
    }
    let db = world.db();
    let count = "SELECT count(*) FROM attempt";
    let written: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(written, 0, "and nothing is written of them");
    // Whoever is known waits, if not too many do.
    let mut waiting: Vec<_> = (1..line::KNOWN)
        .map(|_| Box::pin(world.seal.lines.turn(Origin::Known)))
        .collect();
    for turn in &mut waiting {
        tokio::select! {
            biased;
            _ = turn.as_mut() => panic!("two at once"),
            () = std::future::ready(()) => {}
        }
    }
    let full = refused(world.open(password("one")).await);
    assert!(matches!(full, SealError::Busy), "{full:?}");
    drop((known, waiting));
    assert!(world.opens("one").await, "strangers are in nobody's way");
    drop(stranger);
    assert!(world.open_from(password("one"), THERE).await.is_ok());
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
