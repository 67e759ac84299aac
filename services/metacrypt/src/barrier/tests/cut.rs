//! A change of the seal that is cut off anywhere, by `kill -9` or a power failure: what is on the disk then opens by the secrets before or by those after.
//!
//! A change is one transaction. It is written to SQLite's log (WAL) from its beginning to its end, and later from there into the file, page by page. So the disk
//! before it, after it, and with the log in the file has all that there is in between.

use std::{collections::BTreeSet, fs, iter};

use super::*;

/// Bytes before the log's first frame, and before the page of each (SQLite's file format, section 4).
const HEAD: usize = 32;
const FRAME: usize = 24;

#[derive(Clone, Copy, Debug)]
enum Change {
    Password,
    MasterKey,
}

/// Where a change is written.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Into a log that is new.
    New,
    /// Behind what is in the log.
    Behind,
    /// Over what was in the log and is in the file.
    Over,
}

/// A database on the disk.
#[derive(Clone, PartialEq)]
struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl Disk {
    fn of(world: &World) -> Self {
        let read = |name| fs::read(world.directory.path().join(name)).unwrap();
        Self {
            file: read("metacrypt.db"),
            log: read("metacrypt.db-wal"),
        }
    }
}

/// What opens a seal.
struct Opens {
    word: &'static str,
    fresh: Fresh,
}

impl Opens {
    fn secrets(&self) -> [Secret; 3] {
        [
            password(self.word),
            Secret::Recovery(self.fresh.recovery.clone().unwrap()),
            Secret::Shares(self.fresh.shares[1..].to_vec()),
        ]
    }
}

/// What opens it before a change and after it.
struct Both {
    before: Opens,
    after: Opens,
    /// Of the secrets so many are others, the password first.
    others: usize,
    /// For what is looked at.
    directory: TempDir,
    looked_at: usize,
}

impl Both {
    /// That what is on the disk opens by the secrets of after (`done`) or of before, and by no others; that what was kept is read then, and that what was done is
    /// written down if it was.
    fn look(&mut self, file: &[u8], log: &[u8], done: bool, state: &str) {
        let at = |end: &str| self.directory.path().join(format!("metacrypt.db{end}"));
        let _ = fs::remove_file(at("-shm"));
        fs::write(at(""), file).unwrap();
        fs::write(at("-wal"), log).unwrap();
        let db = Connection::open(at("")).unwrap();
        db.pragma_update(None, "synchronous", false).unwrap();
        let whole = db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(whole.unwrap(), "ok", "{state}");
        let (opens, not) = match done {
            true => (&self.after, &self.before),
            false => (&self.before, &self.after),
        };
        for secret in opens.secrets() {
            let kind = secret.kind();
            let drilled = drill(&db, secret);
            let drilled = drilled.unwrap_or_else(|error| panic!("{state}: {kind}: {error}"));
            let values = [("pki".to_owned(), 1), (SYSTEM.to_owned(), 1)];
            assert_eq!(drilled.values, values, "{state}: {kind}");
            let kept = drilled.unsealed.mounts()["pki"].items(&db);
            let kept: Option<String> = kept.get("issuer/infra").unwrap();
            assert_eq!(kept.as_deref(), Some("kept"), "{state}: {kind}");
        }
        for secret in not.secrets().into_iter().take(self.others) {
            let kind = secret.kind();
            let refused = drill(&db, secret).err();
            let wrong = matches!(&refused, Some(DrillError::Seal(SealError::Slot(_))));
            assert!(wrong, "{state}: {kind}: {refused:?}");
        }
        let told = "SELECT count(*) FROM told";
        let told: i64 = db.query_row(told, [], |row| row.get(0)).unwrap();
        assert_eq!(told, i64::from(done), "{state}: what was written down");
        self.looked_at += 1;
    }
}

/// A seal that was used and is about to be changed.
async fn used(place: Place) -> (World, Unsealed, Fresh) {
    let (world, fresh) = World::new().await;
    let mut unsealed = world.open(password("one")).await.unwrap();
    let mount = world.seal.mount(&mut unsealed, "pki", "pki", nothing());
    mount.await.unwrap();
    let db = world.db();
    for (mount, path) in [("pki", "issuer/infra"), (SYSTEM, "policy")] {
        let items = unsealed.mounts()[mount].items(&db);
        items.put(path, &"kept").unwrap();
    }
    let checkpoint = match place {
        Place::New => Some("TRUNCATE"),
        Place::Behind => None,
        Place::Over => Some("RESTART"),
    };
    if let Some(how) = checkpoint {
        let checkpoint = format!("PRAGMA wal_checkpoint({how})");
        let busy = db.query_row(&checkpoint, [], |row| row.get::<_, bool>(0));
        assert!(!busy.unwrap());
    }
    (world, unsealed, fresh)
}

async fn make(world: &World, unsealed: &mut Unsealed, change: Change, fresh: &Fresh) -> Fresh {
    let told: Log = Box::new(|tx| {
        tx.execute("INSERT INTO told VALUES ('it was done')", [])?;
        Ok(())
    });
    match change {
        Change::Password => {
            let changed = world.seal.set_password(unsealed, text("two"), CHEAP, told);
            changed.await.unwrap();
            Fresh {
                recovery: fresh.recovery.clone(),
                shares: fresh.shares.clone(),
            }
        }
        Change::MasterKey => {
            let rotated = world.seal.rotate(unsealed, text("two"), ALL, told);
            rotated.await.unwrap()
        }
    }
}

/// How many states of the disk there were.
async fn cut_off_anywhere(change: Change, place: Place) -> usize {
    let (world, mut unsealed, fresh) = used(place).await;
    let before = Disk::of(&world);
    let made = make(&world, &mut unsealed, change, &fresh).await;
    let after = Disk::of(&world);
    world.seal.store().settle().unwrap();
    let settled = Disk::of(&world);
    assert!(before.file == after.file, "it is in the log alone");
    assert!(settled.log.is_empty(), "it is in the file alone");
    let mut both = Both {
        before: Opens { word: "one", fresh },
        after: Opens {
            word: "two",
            fresh: made,
        },
        others: match change {
            Change::Password => 1,
            Change::MasterKey => 3,
        },
        directory: tempfile::tempdir().unwrap(),
        looked_at: 0,
    };
    let what = format!("{change:?}, {place:?}");
    let page = u32::from_be_bytes(after.log[8..12].try_into().unwrap());
    let page = usize::try_from(page).unwrap();
    assert_eq!((after.log.len() - HEAD) % (FRAME + page), 0, "whole frames");

    // The log is written from its beginning to its end, over what is there, and may end anywhere.
    let differs = |at: &usize| before.log.get(*at) != after.log.get(*at);
    let begin = (0..after.log.len()).find(differs).unwrap();
    let end = (0..after.log.len()).rfind(differs).unwrap() + 1;
    let frames = || (HEAD..end).step_by(FRAME + page);
    let mut cuts = BTreeSet::from([begin, end - 1, end]);
    for at in frames().chain([0]) {
        cuts.extend([0, 1, 4, 8, 16, FRAME - 1, FRAME + 1, HEAD].map(|more| at + more));
        cuts.extend((FRAME..FRAME + page).step_by(509).map(|more| at + more));
    }
    for cut in cuts.range(begin..=end) {
        let mut log = after.log[..*cut].to_vec();
        log.extend(before.log.get(*cut..).unwrap_or_default());
        let state = format!("{what}: {cut} bytes of {end} in the log");
        both.look(&before.file, &log, *cut == end, &state);
    }

    // Until it is told to be on the disk, a machine that fails may have kept all of it but any part.
    for part in frames()
        .map(|at| at..at + FRAME + page)
        .chain(iter::once(0..HEAD))
        .filter(|part| part.end > begin)
    {
        let mut log = after.log.clone();
        let was = before.log.get(part.clone());
        log[part.clone()].copy_from_slice(was.unwrap_or(&vec![0; part.len()]));
        let state = format!("{what}: all but {part:?} of the log");
        both.look(&before.file, &log, false, &state);
    }

    // Then it is done. The pages of the log come into the file one by one, and the log is emptied.
    for at in (0..settled.file.len()).step_by(page) {
        let is_same = before.file.get(at..at + page) == Some(&settled.file[at..at + page]);
        for written in [0, 1, page / 2, page] {
            if is_same {
                break;
            }
            let mut file = settled.file[..at + written].to_vec();
            file.extend(before.file.get(at + written..).unwrap_or_default());
            let state = format!("{what}: {} bytes in the file", at + written);
            both.look(&file, &after.log, true, &state);
        }
    }
    both.look(&settled.file, &after.log, true, &what);
    both.look(&settled.file, &[], true, &what);
    both.looked_at
}

#[tokio::test]
async fn a_change_that_is_cut_off_anywhere_is_made_or_not() {
    for change in [Change::Password, Change::MasterKey] {
        for place in [Place::New, Place::Behind, Place::Over] {
            let states = cut_off_anywhere(change, place).await;
            assert!(states > 50, "{change:?}, {place:?}: {states}");
            eprintln!("{change:?}, {place:?}: {states} states of the disk");
        }
    }
}
