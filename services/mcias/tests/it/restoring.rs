//! A snapshot in the place of the database.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use mc_proto::mcias::v1::{
    AccountStatus, CreateAccountRequest, ListAuditRequest, UpdateAccountRequest, WhoAmIRequest,
};
use mcdsl::audit;
use rusqlite::{Connection, config::DbConfig};

use crate::{
    offline::{fails, mcias, run, succeeds},
    running::{PASSWORD, Running},
};
/// A service with an account, a snapshot of it, and what happened since.
struct Snapshot {
    running: Running,
    file: PathBuf,
    /// A token that was revoked since.
    revoked: String,
}

impl Snapshot {
    async fn take() -> Self {
        let mut running = Running::start().await;
        let mut admin = running.admin().await;
        admin.person("before", "admin").await;
        let revoked = running.log_in("before", PASSWORD).await.unwrap().token;
        let printed = succeeds(running.root.path(), &["snapshot"]);
        admin.person("since", "user").await;
        let disable = UpdateAccountRequest {
            name: "before".to_owned(),
            status: AccountStatus::Disabled.into(),
            ..UpdateAccountRequest::default()
        };
        admin.accounts.update_account(disable).await.unwrap();
        let refused = fails(
            running.root.path(),
            &["restore", "--replace", printed.trim()],
        );
        assert!(refused.contains("in use"), "the service runs: {refused}");
        let archive = fs::read(printed.trim()).unwrap();
        running.move_away().await;
        let file = running.root.path().join("snapshot.tar.zst");
        fs::write(&file, archive).unwrap();
        Self {
            running,
            file,
            revoked,
        }
    }

    fn root(&self) -> &Path {
        self.running.root.path()
    }

    fn restore(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["restore".to_owned(), self.file.display().to_string()];
        arguments.extend(more.iter().map(ToString::to_string));
        arguments
    }

    fn run(&self, more: &[&str]) -> Output {
        let arguments = self.restore(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(self.root(), &arguments)
    }
}

/// The people of a database that is whole.
fn people(root: &Path) -> Vec<String> {
    let db = Connection::open(root.join("mcias.db")).unwrap();
    let whole: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    audit::verify(&db, None).unwrap();
    let mut names = db
        .prepare("SELECT name FROM account ORDER BY name")
        .unwrap();
    let names = names.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_snapshot_is_restored_and_gives_no_token_back() {
    for keep in [false, true] {
        let mut taken = Snapshot::take().await;
        let refused = taken.run(&[]);
        assert!(!refused.status.success(), "there is a database");
        assert_eq!(people(taken.root()), ["admin", "before", "since"]);
        let more: &[&str] = if keep {
            &["--replace", "--keep-tokens"]
        } else {
            &["--replace"]
        };
        let output = taken.run(more);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(people(taken.root()), ["admin", "before"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        let told = if keep {
            "valid as they were"
        } else {
            "all void, and all logins have ended"
        };
        assert!(printed.contains(told), "{printed}");
        let before = printed.split_whitespace().last().unwrap();
        let kept = Connection::open(before).unwrap();
        let count = kept.query_row("SELECT count(*) FROM account", [], |row| row.get(0));
        assert_eq!(count, Ok(3), "the one before");
        assert!(!taken.root().join("mcias.db.restoring").exists());

        taken.running.begin().await;
        let mut of_before = taken.running.clients(Some(&taken.revoked)).await;
        let known = of_before.auth.who_am_i(WhoAmIRequest {}).await;
        assert_eq!(known.is_ok(), keep, "revoked since");
        let mut admin = taken.running.admin().await;
        let create = CreateAccountRequest {
            name: "later".to_owned(),
            account_type: 1,
            ..CreateAccountRequest::default()
        };
        assert!(admin.accounts.create_account(create).await.is_ok());
        let log = ListAuditRequest {
            action: "restore".to_owned(),
            ..ListAuditRequest::default()
        };
        let log = admin.admin.list_audit(log).await.unwrap().into_inner();
        assert_eq!(log.entries.len(), 1);
    }
}

#[tokio::test]
async fn what_has_a_flaw_is_not_restored() {
    let taken = Snapshot::take().await;
    let root = taken.root();
    let database = root.join("mcias.db");
    let before = fs::read(&database).unwrap();
    // A database that was changed, in an archive whose sums are right.
    let unpacked = root.join("unpacked");
    mcdsl::archive::read(&taken.file, &unpacked, 1 << 30).unwrap();
    let good = fs::read(unpacked.join("mcias.db")).unwrap();
    let archive = |name: &str, content: &str, change: &[&str]| {
        let file = root.join(format!("{name}.db"));
        fs::write(&file, &good).unwrap();
        let db = Connection::open(&file).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
            .unwrap();
        for sql in change {
            db.execute_batch(sql).unwrap();
        }
        db.close().unwrap();
        let archive = root.join(format!("{name}.tar.zst"));
        let source = mcdsl::archive::Source {
            name: content.to_owned(),
            path: file,
        };
        mcdsl::archive::write(&archive, &[source]).unwrap();
        archive
    };
    let cut = root.join("cut.tar.zst");
    let bytes = fs::read(&taken.file).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let torn = root.join("torn.tar.zst");
    {
        let file = root.join("torn.db");
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0x5a);
        fs::write(&file, bytes).unwrap();
        let source = mcdsl::archive::Source {
            name: "mcias.db".to_owned(),
            path: file,
        };
        mcdsl::archive::write(&torn, &[source]).unwrap();
    }
    for (description, file, said) in [
        ("no file", root.join("none"), "there is no snapshot"),
        ("no archive", root.join("mcias.toml"), "archive"),
        ("half of one", cut, ""),
        ("torn pages", torn, ""),
        (
            "another service's",
            archive("other", "mcr.db", &[]),
            "no snapshot of mcias",
        ),
        (
            "an audit log that somebody changed",
            archive(
                "audit",
                "mcias.db",
                &["UPDATE audit SET resource = 'eve' WHERE seq = 2"],
            ),
            "not as it was written",
        ),
        (
            "a trigger that somebody left in it",
            archive(
                "trigger",
                "mcias.db",
                &["CREATE TRIGGER eve AFTER INSERT ON audit BEGIN DELETE FROM revocation; END"],
            ),
            "has the trigger \"eve\" of \"audit\"",
        ),
        (
            "a later schema",
            archive(
                "later",
                "mcias.db",
                &["INSERT INTO migrations (version, name, sql) VALUES (99, 'later', '')"],
            ),
            "schema 99",
        ),
        (
            "another installation's",
            archive(
                "issuer",
                "mcias.db",
                &["UPDATE setting SET value = 'https://else.example' WHERE name = 'issuer'"],
            ),
            "https://else.example",
        ),
        (
            "sealed with another master key",
            archive(
                "sealed",
                "mcias.db",
                &["UPDATE signing_key SET private = x'00'"],
            ),
            "master key",
        ),
    ] {
        let file = file.display().to_string();
        let error = fails(root, &["restore", "--replace", &file]);
        assert!(error.contains(said), "{description}: {error}");
        assert_eq!(fs::read(&database).unwrap(), before, "{description}");
        assert!(!root.join("mcias.db.restoring").exists(), "{description}");
    }
    assert!(taken.run(&["--replace"]).status.success());
}

/// kill -9 at whatever point: the database is the old or the new one, and the next run succeeds.
#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_old_or_the_new_one() {
    let taken = Snapshot::take().await;
    let root = taken.root().to_owned();
    let (old, new) = (["admin", "before", "since"], ["admin", "before"]);
    fs::copy(root.join("mcias.db"), root.join("old")).unwrap();
    let exists = |name: &str| root.join(name).exists();
    let aside = || {
        let mut names = fs::read_dir(&root).unwrap().flatten();
        names.any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().contains("before-restore")
        })
    };
    let points: [(&str, &dyn Fn() -> bool); 4] = [
        ("it unpacks", &|| exists("mcias.db.restoring.partial")),
        ("it looks", &|| exists("mcias.db.restoring/mcias.db-wal")),
        ("it has set the old one aside", &aside),
        ("it cleans up", &|| aside() && !exists("mcias.db.restoring")),
    ];
    let mut killed = 0;
    for (point, reached) in points {
        fs::copy(root.join("old"), root.join("mcias.db")).unwrap();
        for entry in fs::read_dir(&root).unwrap().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .contains("before-restore")
            {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let arguments = taken.restore(&["--replace"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut restoring = mcias(&root, &arguments);
        let mut restoring = restoring.stdout(Stdio::null()).spawn().unwrap();
        while !reached() && restoring.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        restoring.kill().unwrap();
        killed += usize::from(!restoring.wait().unwrap().success());
        let found = people(&root);
        assert!(found == old || found == new, "{point}: {found:?}");
    }
    assert!(killed > 0, "all were faster");
    fs::copy(root.join("old"), root.join("mcias.db")).unwrap();
    let output = taken.run(&["--replace"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(people(&root), new);
}

#[tokio::test]
async fn a_database_behind_a_link_is_replaced_where_it_is() {
    let snapshot = Snapshot::take().await;
    let (link, disk) = (
        snapshot.root().join("mcias.db"),
        tempfile::tempdir().unwrap(),
    );
    let real = disk.path().join("the.db");
    fs::rename(&link, &real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let restored = snapshot.run(&["--replace"]);
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(fs::read_link(&link).unwrap(), real, "the link stays");
    assert_eq!(people(snapshot.root()), ["admin", "before"]);
    let beside = fs::read_dir(disk.path())
        .unwrap()
        .map(|entry| entry.unwrap());
    let kept = beside.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .contains(".before-restore-")
    });
    assert_eq!(kept.count(), 1, "what was there is beside it");
}
