//! What is done to the database without the service: an administrator is let in again, a snapshot is restored.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use mc_proto::mcias::v1::{
    AccountStatus, ChangePasswordRequest, CreateAccountRequest, ListAuditRequest,
    UpdateAccountRequest, VerifyAuditRequest, WhoAmIRequest,
};
use mc_testkit::{process::Process, wait_for_async};
use mcdsl::audit;
use rusqlite::Connection;
use tonic::Code;

use crate::{
    factors::enrol,
    running::{PASSWORD, Running, files},
};

fn mcias(root: &Path, arguments: &[&str]) -> Command {
    let mut mcias = Command::new(env!("CARGO_BIN_EXE_mcias"));
    mcias.env_clear().arg("--root").arg(root).args(arguments);
    mcias
}

fn run(root: &Path, arguments: &[&str]) -> Output {
    mcias(root, arguments).output().unwrap()
}

pub(crate) fn succeeds(root: &Path, arguments: &[&str]) -> String {
    let output = run(root, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The error of what must fail.
fn fails(root: &Path, arguments: &[&str]) -> String {
    let output = run(root, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn an_administrator_who_is_locked_out_in_every_way_comes_back() {
    let mut running = Running::start().await;
    let mut admin = running.admin().await;
    admin.person("ada", "admin").await;
    let token = running.log_in("ada", PASSWORD).await.unwrap().token;
    let mut ada = running.clients(Some(&token)).await;
    enrol(&mut ada).await;
    admin.system("robot").await;
    let root = running.root.path().to_owned();
    let refused = fails(&root, &["recover", "ada"]);
    assert!(refused.contains("in use"), "the service runs: {refused}");
    assert!(ada.auth.who_am_i(WhoAmIRequest {}).await.is_ok());

    running.stop().await;
    // Nobody is an administrator who can log in, and no rule lets anybody in.
    let db = running.database();
    for sql in [
        "UPDATE account SET status = 'disabled' WHERE type = 'human'",
        "DELETE FROM account_role",
        "DELETE FROM rule",
        "INSERT INTO rule VALUES ('broken', 'no JSON', 0)",
    ] {
        db.execute(sql, []).unwrap();
    }
    drop(db);
    for (description, arguments, said) in [
        (
            "nobody",
            ["recover", "eve"].as_slice(),
            "no account \"eve\"",
        ),
        ("a program", &["recover", "robot"], "no account \"robot\""),
        ("no administrator", &["recover", "ada"], "--make-admin"),
        (
            "the policy",
            &["recover", "ada", "--make-admin"],
            "--reset-policy",
        ),
    ] {
        let error = fails(&root, arguments);
        assert!(error.contains(said), "{description}: {error}");
    }
    let with_factors = json(&succeeds(
        &root,
        &["recover", "ada", "--make-admin", "--reset-policy", "--json"],
    ));
    assert_eq!(with_factors["has_factors"], true);
    assert_eq!(with_factors["made_admin"], true);
    assert_eq!(with_factors["was"], "disabled");
    let told = succeeds(&root, &["recover", "ada", "--make-admin"]);
    assert!(
        told.contains("ada, an administrator as before; active as before"),
        "{told}"
    );
    let made = json(&succeeds(
        &root,
        &["recover", "ada", "--remove-factors", "--json"],
    ));
    assert_eq!(made["has_factors"], false);
    assert_ne!(made["password"], with_factors["password"]);
    let password = made["password"].as_str().unwrap();

    running.begin().await;
    let over = ada.auth.who_am_i(WhoAmIRequest {}).await;
    assert!(over.is_err(), "the logins of before");
    let mut before = running.clients(Some(&token)).await;
    let over = before.auth.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated);
    for old in [PASSWORD, with_factors["password"].as_str().unwrap()] {
        let mut there = running.clients_from("127.0.0.7", None).await;
        let refused = there.log_in("ada", old, "").await.unwrap_err();
        assert_ne!(refused.code(), Code::Ok);
    }
    let login = running.log_in("ada", password).await.unwrap();
    assert!(login.password_expired, "to be changed first");
    let mut ada = running.clients(Some(&login.token)).await;
    let refused = ada.admin.list_audit(ListAuditRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let change = ChangePasswordRequest {
        old_password: password.to_owned(),
        new_password: "another horse, another staple".to_owned(),
    };
    ada.profile.change_password(change).await.unwrap();
    let login = running.log_in("ada", "another horse, another staple").await;
    let mut ada = running.clients(Some(&login.unwrap().token)).await;
    // An administrator again, and all of it is in the log.
    let log = ListAuditRequest {
        action: "recover".to_owned(),
        ..ListAuditRequest::default()
    };
    let log = ada.admin.list_audit(log).await.unwrap().into_inner();
    assert_eq!(log.entries.len(), 3);
    assert!(log.entries[2].detail.contains("\"make_admin\":true"));
    assert_eq!(log.entries[0].resource, "ada");
    assert!(log.entries[0].detail.contains("\"make_admin\":false"));
    assert!(log.entries[0].detail.contains("\"remove_factors\":true"));
    assert!(!log.entries[0].detail.contains(password));
    let verified = ada.admin.verify_audit(VerifyAuditRequest::default());
    assert!(verified.await.unwrap().into_inner().intact);
}

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
            kind: 1,
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
    let untrigger = "DROP TRIGGER audit_is_not_updated";
    for (description, file, said) in [
        ("no file", root.join("none"), "open"),
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
                &[untrigger, "UPDATE audit SET resource = 'eve' WHERE seq = 2"],
            ),
            "not as it was written",
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

/// A password that could not be printed is not lost: another can be had.
#[test]
fn an_init_that_cannot_print_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let ca = mc_testkit::ca::Ca::new().unwrap();
    files(root.path(), &ca);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = mcias(root.path(), &["init"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("mcias recover admin"), "{error}");
    // As one that was killed before it could say so.
    let again = fails(root.path(), &["init"]);
    assert!(again.contains("`mcias recover admin`"), "{again}");
    let made = json(&succeeds(root.path(), &["recover", "--json"]));
    assert_eq!(made["account"], "admin");
    // The service that runs keeps all of them away.
    let mut process = Process::start(&mut mcias(root.path(), &["server"])).unwrap();
    process.wait_for_output("ready").unwrap();
    for arguments in [["recover"].as_slice(), &["server"]] {
        let error = fails(root.path(), arguments);
        assert!(error.contains("in use"), "{arguments:?}: {error}");
    }
    process.terminate().unwrap();
}

/// Somebody revoked everything while the clock was ahead: until that time no login could be told from what was revoked.
#[tokio::test]
async fn what_was_revoked_while_the_clock_was_ahead_is_begun_anew() {
    let mut running = Running::start().await;
    running.admin().await.person("ada", "user").await;
    let stolen = running.log_in("ada", PASSWORD).await.unwrap().token;
    running.stop().await;
    let sql = "INSERT INTO revocation SELECT 'everything', '', unixepoch() + 8640000, unixepoch() + 8650000";
    running.database().execute(sql, []).unwrap();
    running.move_away().await;
    let root = running.root.path().to_owned();
    let refused = fails(&root, &["recover", "admin"]);
    assert!(refused.contains("--drop-keys"), "{refused}");
    let made = json(&succeeds(&root, &["recover", "--drop-keys", "--json"]));
    running.password = made["password"].as_str().unwrap().to_owned();
    running.begin().await;
    let mut stolen = running.clients(Some(&stolen)).await;
    assert!(stolen.auth.who_am_i(WhoAmIRequest {}).await.is_err());
    let login = running.log_in("admin", &running.password).await.unwrap();
    let mut admin = running.clients(Some(&login.token)).await;
    assert!(admin.auth.who_am_i(WhoAmIRequest {}).await.is_ok());
    assert!(running.log_in("ada", PASSWORD).await.is_ok());
}

/// A disk that is full, say: what is not written is lost, and nothing else.
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let mut running = Running::start().await;
    running.move_away().await;
    let root = running.root.path();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let config = root.join("mcias.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replacen("127.0.0.1:0", &address.to_string(), 1);
    fs::write(&config, text + "[log]\nlevel = 'trace'\n").unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = mcias(root, &["server"]).stderr(full).spawn().unwrap();
    let up = wait_for_async("the service", async || TcpStream::connect(address).ok());
    up.await.unwrap();
    let end = Command::new("kill").arg(server.id().to_string()).status();
    assert!(end.unwrap().success());
    assert!(server.wait().unwrap().success());
}
