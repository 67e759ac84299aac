//! What an operator does: a database that was lost, snapshots that are kept, a database that is in use.

use std::{fs, path::Path};

use mc_testkit::{ca::Ca, process::Process, unit::Unit};

use crate::{
    mciasctl::Home,
    offline::{fails, json, mcias, run, succeeds},
    running::files,
};

/// An installation, its directory.
fn installed() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), &Ca::new().unwrap());
    succeeds(root.path(), &["init"]);
    root
}

/// The database, SQLite's log with it.
fn lose(root: &Path) {
    for name in ["mcias.db", "mcias.db-wal", "mcias.db-shm"] {
        let _ = fs::remove_file(root.join(name));
    }
}

#[test]
fn who_lost_the_database_is_told_to_restore_it() {
    for (description, snapshot, key, empty, wanted) in [
        (
            "the key is there",
            false,
            true,
            false,
            Some("mcias restore <snapshot>"),
        ),
        ("and a snapshot", true, true, false, Some(".tar.zst`")),
        ("a snapshot alone", true, false, false, Some(".tar.zst`")),
        (
            "an empty one, a snapshot",
            true,
            true,
            true,
            Some(".tar.zst`"),
        ),
        ("nothing", false, false, false, None),
        ("an `init` that was killed", false, true, true, None),
    ] {
        let root = installed();
        if snapshot {
            succeeds(root.path(), &["snapshot"]);
        }
        lose(root.path());
        if !key {
            fs::remove_file(root.path().join("master.key")).unwrap();
        }
        if empty {
            fs::write(root.path().join("mcias.db"), "").unwrap();
        }
        let Some(wanted) = wanted else {
            succeeds(root.path(), &["init"]);
            continue;
        };
        for command in ["check", "server", "init", "recover"] {
            let output = run(root.path(), &[command]);
            assert!(!output.status.success(), "{description}: {command}");
            let texts = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(texts).unwrap();
            for part in [wanted, "mcias restore", "--begin-anew"] {
                assert!(said.contains(part), "{description}: {command}: {said}");
            }
        }
        assert_eq!(
            root.path().join("mcias.db").exists(),
            empty,
            "{description}"
        );
        let made = json(&succeeds(root.path(), &["init", "--begin-anew", "--json"]));
        assert_eq!(made["admin"], "admin", "{description}");
        succeeds(root.path(), &["check"]);
    }
}

#[test]
fn a_lost_database_is_restored_as_it_was_said() {
    let root = installed();
    let snapshot = succeeds(root.path(), &["snapshot"]);
    lose(root.path());
    let missing = fails(root.path(), &["restore", "none.tar.zst"]);
    assert!(
        missing.contains("there is no snapshot none.tar.zst"),
        "{missing}"
    );
    assert!(missing.contains(snapshot.trim()), "the last one: {missing}");
    let told = succeeds(root.path(), &["restore", snapshot.trim()]);
    assert!(told.contains("system accounts need new tokens"), "{told}");
    succeeds(root.path(), &["check"]);
}

#[test]
fn as_many_snapshots_are_kept_as_was_said() {
    let root = installed();
    let backups = root.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let database = rusqlite::Connection::open(root.path().join("mcias.db")).unwrap();
    let id = mcdsl::db::instance(&database).unwrap();
    for day in 1..=4 {
        let old = backups.join(format!("mcias-2020010{day}T000000Z-{id}.tar.zst"));
        fs::write(old, "").unwrap();
    }
    let other = backups.join("mcias-20200101T000000Z-0000000g.tar.zst");
    let others = backups.join("mcias-20200101T000000Z.tar.zst");
    for other in [&other, &others, &backups.join("mine.txt")] {
        fs::write(other, "").unwrap();
    }
    let refused = fails(root.path(), &["snapshot", "--keep", "0"]);
    assert!(refused.contains("--keep"), "{refused}");
    let made = succeeds(root.path(), &["snapshot", "--keep", "2"]);
    let left = fs::read_dir(&backups).unwrap().flatten();
    let mut left: Vec<_> = left.map(|entry| entry.path()).collect();
    left.sort();
    let wanted = [
        other,
        others,
        backups.join(format!("mcias-20200104T000000Z-{id}.tar.zst")),
        made.trim().into(),
        backups.join("mine.txt"),
    ];
    assert_eq!(left, wanted);
}

#[test]
fn a_database_that_is_in_use_is_so_by_any_name() {
    let root = installed();
    let mut server = Process::start(&mut mcias(root.path(), &["server"])).unwrap();
    server.wait_for_output("ready").unwrap();
    let (real, link) = (root.path().join("mcias.db"), root.path().join("link.db"));
    fs::hard_link(&real, &link).unwrap();
    fs::remove_file(root.path().join("mcias.db.lock")).unwrap();
    let config = root.path().join("mcias.toml");
    let text = fs::read_to_string(&config).unwrap();
    for database in ["mcias.db", "link.db"] {
        let named = format!("[database]\npath = '{database}'\n[server]");
        fs::write(&config, text.replacen("[server]", &named, 1)).unwrap();
        for command in [["server"].as_slice(), &["recover", "admin"]] {
            let refused = fails(root.path(), command);
            assert!(
                refused.contains("in use"),
                "{database}: {command:?}: {refused}"
            );
        }
    }
    server.terminate().unwrap();
}

#[tokio::test]
async fn a_ca_that_is_not_there_is_told_before_a_login_is() {
    let there = installed();
    let ca = there.path().join("ca.pem").display().to_string();
    for (description, ca, wanted) in [
        ("no file", "nosuch.pem".to_owned(), "nosuch.pem"),
        ("a file, and no login", ca, "not logged in"),
    ] {
        let home = Home::at(1, ca);
        let ended = home.run("account list", "").await;
        assert!(ended.err.contains(wanted), "{description}: {ended:?}");
        let other = wanted != "not logged in" && ended.err.contains("not logged in");
        assert!(!other, "{description}: {ended:?}");
    }
}

#[test]
fn the_units_do_what_they_say() {
    let root = installed();
    let unit = |name| Unit::of(env!("CARGO_MANIFEST_DIR"), name).unwrap();
    let binary = env!("CARGO_BIN_EXE_mcias");
    let mut server = unit("mcias.service")
        .start(binary, root.path(), &[])
        .unwrap();
    let mut snapshot = unit("mcias-snapshot.service")
        .command(binary, root.path(), &[])
        .unwrap();
    let made = snapshot.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(server.terminate().unwrap().success());
}

/// Whoever copies the database of a stopped service has all of it.
#[test]
fn nothing_is_beside_the_database_once_the_service_has_stopped() {
    let root = installed();
    let mut server = Process::start(&mut mcias(root.path(), &["server"])).unwrap();
    server.wait_for_output("ready").unwrap();
    server.terminate().unwrap();
    assert!(server.wait_exit().unwrap().success());
    let log = root.path().join("mcias.db-wal");
    let left = fs::metadata(log).map_or(0, |log| log.len());
    assert_eq!(left, 0);
}

#[test]
fn who_recovers_an_account_is_told_what_keeps_everybody_out() {
    let root = installed();
    let told = succeeds(root.path(), &["recover", "--reset-policy"]);
    assert!(
        told.contains("rules       those of a new installation"),
        "{told}"
    );
    assert!(!told.contains("nobody can log in yet"), "{told}");
    fs::remove_file(root.path().join("master.key")).unwrap();
    let told = succeeds(root.path(), &["recover"]);
    assert!(
        told.contains("nobody can log in yet: database.master_key"),
        "{told}"
    );
}
