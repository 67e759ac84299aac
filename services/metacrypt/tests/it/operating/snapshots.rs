//! Snapshots, and the service that is made of one.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use data_encoding::BASE64;
use mc_proto::metacrypt::v1::{CreateKeyRequest, CreateRuleRequest, KeyAlgorithm};
use mc_testkit::wait_for_async;
use rusqlite::Connection;

use super::{error, unguarded};
use crate::{
    transit,
    web::Http,
    world::{SEAL, World},
};

/// A service with two mounts, a snapshot of it, and a third mount since.
struct Snapshot {
    world: World,
    file: PathBuf,
    /// The recovery key, and shares that are enough.
    recovery: String,
    shares: Vec<String>,
    /// Of the engine that is in it.
    key: Vec<u8>,
}

impl Snapshot {
    async fn take() -> Self {
        let (world, fresh) = World::sealed_by_all().await;
        world.unseal().await;
        let mut admin = world.admin().await;
        let key = transit::exported(&mut admin).await;
        let rule = crate::policy::allow("some", &["transit:*"], &["vault/**"]);
        let request = CreateRuleRequest {
            rule: Some(rule),
            replace: false,
        };
        admin.system.create_rule(request).await.unwrap();
        let printed = succeeds(&world, &["snapshot"]);
        let request = CreateKeyRequest {
            mount: "vault".to_owned(),
            name: "since".to_owned(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
            ..CreateKeyRequest::default()
        };
        admin.transit.create_key(request).await.unwrap();
        Self {
            file: printed.trim().into(),
            recovery: fresh.recovery.unwrap().to_string(),
            shares: fresh.shares[1..].iter().map(|s| s.to_string()).collect(),
            key,
            world,
        }
    }

    fn root(&self) -> &Path {
        self.world.root.path()
    }

    fn run(&self, more: &[&str], stdin: &str) -> Output {
        let file = self.file.display().to_string();
        let arguments: Vec<&str> = ["restore", &file].iter().chain(more).copied().collect();
        self.world.run(&arguments, stdin)
    }

    fn restore(&self, more: &[&str]) -> Command {
        let mut command = self.world.command();
        command.arg("restore").arg(&self.file).args(more);
        command
    }

    fn stop(&mut self) {
        let mut process = self.world.metacrypt.take().unwrap();
        process.terminate().unwrap();
        // All of it in its one file, to be copied.
        let db = Connection::open(self.root().join("metacrypt.db")).unwrap();
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        db.query_row(sql, [], |_| Ok(())).unwrap();
        db.close().unwrap();
    }
}

fn succeeds(world: &World, args: &[&str]) -> String {
    let out = world.run(args, "");
    assert!(out.status.success(), "{args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// What changes which files there are, or has them be on the disk. Of one row each machine has one.
const CHANGES: [&str; 7] = [
    "?mkdir,?mkdirat",
    "?rename,?renameat,?renameat2",
    "?link,?linkat",
    "?unlink",
    "?rmdir,?unlinkat",
    "?ftruncate",
    "?fsync,?fdatasync",
];

/// Runs a command of one thread that is killed (SIGKILL) before its so many-th call of this kind: strace counts them by their names.
fn killed_at(calls: &str, step: usize, command: Command) -> Output {
    let mut strace = Command::new("strace");
    strace
        .args(["--follow-forks", "--output=/dev/null"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:signal=KILL:when={step}"))
        .arg(command.get_program())
        .args(command.get_args());
    strace.stdin(Stdio::null()).output().unwrap()
}

/// The keys of a database that is whole.
fn keys(root: &Path) -> BTreeSet<String> {
    let db = Connection::open(root.join("metacrypt.db")).unwrap();
    let whole: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    mcdsl::audit::verify(&db, None).unwrap();
    let sql = "SELECT path FROM item WHERE path LIKE 'keys/%'";
    let mut paths = db.prepare(sql).unwrap();
    let paths = paths.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names = paths.map(|path| path.unwrap().split('/').nth(1).unwrap().to_owned());
    names.collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The drill, by each secret, while the service runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_shown_to_open_and_to_be_read() {
    let taken = Snapshot::take().await;
    let shares = taken.shares.join("\n");
    for (by, flags, secret) in [
        ("password", &["--verify"][..], SEAL),
        (
            "recovery key",
            &["--verify", "--recovery-key"],
            &taken.recovery,
        ),
        ("shares", &["--verify", "--shares"], &shares),
    ] {
        let out = taken.run(flags, secret);
        assert!(out.status.success(), "{by}: {out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        for told in [
            &*format!("by the {by}"),
            "mount       vault:",
            "mount       system:",
            "all as they were written",
            "policy      can be used",
        ] {
            assert!(text.contains(told), "{by}: {told}: {text}");
        }
    }
    let out = taken.run(&["--verify", "--shares", "--json"], &shares);
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["by"], "shares", "{found}");
    assert!(found["mounts"]["vault"].as_u64() > Some(0), "{found}");
    // What is no good, in archives whose sums are right.
    let unpacked = taken.root().join("unpacked");
    mcdsl::archive::read(&taken.file, &unpacked, 1 << 30).unwrap();
    let good = fs::read(unpacked.join("metacrypt.db")).unwrap();
    let has = |what: &[u8]| good.windows(what.len()).any(|part| part == what);
    let stored = BASE64.encode(&taken.key);
    for (what, text, wanted) in [
        ("a key's name", &b"keys/known"[..], true),
        ("a key", &taken.key, false),
        ("the same as it is stored", stored.as_bytes(), false),
        ("the password", SEAL.as_bytes(), false),
        ("the recovery key", taken.recovery.as_bytes(), false),
        ("a share", taken.shares[0].as_bytes(), false),
    ] {
        assert!(!text.is_empty() && has(text) == wanted, "{what}");
    }
    let changed = |name: &str, content: &str, sql: &str| {
        let file = taken.root().join(format!("{name}.db"));
        fs::write(&file, &good).unwrap();
        let db = unguarded(&file);
        db.execute_batch(sql).unwrap();
        db.close().unwrap();
        let archive = taken.root().join(format!("{name}.tar.zst"));
        let source = mcdsl::archive::Source {
            name: content.to_owned(),
            path: file,
        };
        mcdsl::archive::write(&archive, &[source]).unwrap();
        archive
    };
    let db = "metacrypt.db";
    let value = "UPDATE item SET value = zeroblob(length(value)) WHERE path LIKE 'keys/known%'";
    let unwritten = "UPDATE audit SET resource = 'eve' WHERE seq = 2";
    let trigger =
        "CREATE TRIGGER eve AFTER INSERT ON audit BEGIN DELETE FROM item WHERE path = 'x'; END";
    for (description, file, secret, said) in [
        (
            "another password",
            taken.file.clone(),
            "wrong one",
            "not the one",
        ),
        (
            "no file",
            taken.root().join("none"),
            SEAL,
            "there is no snapshot",
        ),
        (
            "another service's",
            changed("other", "mcias.db", ""),
            SEAL,
            "no snapshot of metacrypt",
        ),
        (
            "a changed value",
            changed("value", db, value),
            SEAL,
            "mount \"vault\"",
        ),
        (
            "a changed data key",
            changed(
                "key",
                db,
                "UPDATE mount SET data_key = zeroblob(61) WHERE name = 'vault'",
            ),
            SEAL,
            "changed by somebody else",
        ),
        (
            "a trigger",
            changed("trigger", db, trigger),
            SEAL,
            "has the trigger \"eve\" of \"audit\", which no migration makes",
        ),
        (
            "a changed log",
            changed("log", db, unwritten),
            SEAL,
            "not as it was written",
        ),
        (
            "rules that are gone",
            changed("rules", db, "DELETE FROM item WHERE path = 'policy'"),
            SEAL,
            "the policy in the snapshot",
        ),
        (
            "none was made",
            changed("empty", db, "DELETE FROM seal"),
            SEAL,
            "not initialised",
        ),
    ] {
        let file = file.display().to_string();
        let out = taken.world.run(&["restore", "--verify", &file], secret);
        let told = error(&out);
        assert!(told.contains(said), "{description}: {told}");
    }
    assert!(!taken.root().join("metacrypt.db.verifying").exists());
    let lock = taken.root().join("metacrypt.db.verifying.lock");
    assert!(!lock.exists(), "nothing is left");
    // Below the directory of the database, from wherever it is typed.
    let name = taken.file.strip_prefix(taken.root()).unwrap();
    let name = name.display().to_string();
    let out = taken.world.run(&["restore", "--verify", &name], SEAL);
    assert!(out.status.success(), "{name}: {out:?}");
    for (description, line, code) in [
        ("no snapshot", &["restore", "none"][..], 3),
        ("a service that runs", &["restore", &name, "--replace"], 5),
        ("no configuration", &["--config", "none", "status"], 2),
        ("a seal that is made", &["init"], 5),
    ] {
        let out = taken.world.run(line, "");
        assert_eq!(out.status.code(), Some(code), "{description}: {out:?}");
    }
    let out = taken.run(&["--replace"], "");
    assert!(error(&out).contains("in use"), "the service runs");
    assert_eq!(keys(taken.root()), set(&["known", "since"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_restored_by_a_process_that_may_be_killed() {
    let mut taken = Snapshot::take().await;
    taken.stop();
    let root = taken.root().to_owned();
    assert!(error(&taken.run(&[], "")).contains("--replace"));
    let (old, new) = (set(&["known", "since"]), set(&["known"]));
    fs::copy(root.join("metacrypt.db"), root.join("old")).unwrap();
    let (mut before, mut after) = (0, 0);
    for calls in CHANGES {
        let mut restored = Vec::new();
        for step in 1.. {
            fs::copy(root.join("old"), root.join("metacrypt.db")).unwrap();
            for entry in fs::read_dir(&root).unwrap().flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().contains("before-restore") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            // What an earlier one left beside it is there.
            let out = killed_at(calls, step, taken.restore(&["--replace"]));
            let found = keys(&root);
            assert!(found == old || found == new, "{calls} {step}: {found:?}");
            if out.status.success() {
                break;
            }
            assert_eq!(out.status.signal(), Some(9), "{calls} {step}: {out:?}");
            restored.push(found == new);
        }
        assert!(restored.is_sorted(), "{calls}: what is restored stays");
        let done = restored.iter().filter(|restored| **restored).count();
        (before, after) = (before + restored.len() - done, after + done);
    }
    assert!(before > 10 && after > 1, "{before} {after}");
    eprintln!("killed {before} times before it was restored, and {after} times since");
    fs::copy(root.join("old"), root.join("metacrypt.db")).unwrap();
    let out = taken.run(&["--replace", "--json"], "");
    assert!(out.status.success(), "{out:?}");
    let done: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let before = done["before"].as_str().unwrap();
    assert!(before.contains("before-restore"), "{done}");
    assert_eq!(keys(&root), new);
    taken.world.start();
    taken.world.unseal().await;
    let rows = taken.world.audit();
    assert!(rows.iter().any(|row| row.0 == "restore"), "{rows:?}");
}

/// Somebody moves the file, and puts it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_in_its_place_is_told() {
    let world = World::open().await;
    let http = Http::at(world.https, &world.mcias.ca.pem());
    let health = async |wanted: u16| {
        let look =
            async || (http.ask("GET", "/healthz", &[], "").await.status == wanted).then_some(());
        wait_for_async("health", look).await.unwrap();
    };
    let status = || {
        let out = world.run(&["status"], "");
        let told = String::from_utf8(out.stderr).unwrap();
        (out.status.code(), told.contains("nothing can be written"))
    };
    health(200).await;
    assert_eq!(status(), (Some(0), false));
    for file in ["metacrypt.db", "metacrypt.db-wal"] {
        let (here, away) = (world.file(file), world.file("away"));
        fs::rename(&here, &away).unwrap();
        health(503).await;
        assert_eq!(status(), (Some(1), true), "{file}");
        fs::rename(&away, &here).unwrap();
        health(200).await;
        assert_eq!(status(), (Some(0), false), "{file}");
    }
}
